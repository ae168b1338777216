"""Settings of trainings that take seconds, and what tests read of them."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from vqcodec.models.vqvae import VQVAEConfig, VQVAELevel
from vqcodec.training import checkpoint
from vqcodec.training.presets import PRESETS, Preset
from vqcodec.training.settings import (
    AutoencoderTraining,
    Extraction,
    PriorTraining,
    SystemTraining,
    resolve,
)

FIXTURES = Path(__file__).parent / "fixtures"
# Workers take seconds to start; tests/unit/training/test_crops.py has some.
IMAGES: dict[str, Any] = {"sources": [(FIXTURES, 1.0)], "workers": 0}
SMALL: dict[str, Any] = {"channels": 8, "residual_channels": 4, "residual_blocks": 1}
PAPERS = {
    "vqvae": VQVAEConfig((VQVAELevel(4, 16, 4),), **SMALL),
    "vqvae2": VQVAEConfig((VQVAELevel(8, 16, 4), VQVAELevel(4, 16, 4)), **SMALL),
    "hrvqvae": VQVAEConfig((VQVAELevel(4, 4, 4),) * 2, linked=True, **SMALL),
}


def autoencoder_training(output: Path, steps: int, **changes: Any) -> AutoencoderTraining:
    settings: dict[str, Any] = {
        "output": output,
        "preset": "tiny",
        "steps": steps,
        "batch": 2,
        "crop": 64,
        "start_crops": 20,
        "restart_every": 2,
        "log_every": 1,
        "device": "cpu",
    }
    return resolve(AutoencoderTraining, **(IMAGES | settings | changes))


def extraction_of(autoencoder: Path, output: Path, **changes: Any) -> Extraction:
    settings: dict[str, Any] = {"autoencoder": autoencoder, "output": output, "device": "cpu"}
    return resolve(Extraction, **(IMAGES | settings | changes))


def prior_training(
    autoencoder: Path, indices: Path, output: Path, level: int, **changes: Any
) -> PriorTraining:
    settings: dict[str, Any] = {
        "autoencoder": autoencoder,
        "indices": [indices],
        "output": output,
        "level": level,
        "steps": 6,
        "batch": 4,
        "learning_rate": 5e-3,
        "warm_up": 5,
        "channels": 16,
        "blocks": 2,
        "context_blocks": 1,
        "attention_heads": 2 if level == 0 else 0,
        "head_channels": 16,
        "log_every": 1,
        "device": "cpu",
    }
    return resolve(PriorTraining, **(settings | changes))


def system_training(output: Path, **changes: Any) -> SystemTraining:
    settings: dict[str, Any] = {
        "output": output,
        "model_id": "whole",
        "preset": "tiny",
        "crop": 32,
        "minutes": 0.05,
        "batch": 2,
        "count": 8,
        "classes": "folders",
        "split": "all",
        "channels": 16,
        "device": "cpu",
    }
    return resolve(SystemTraining, **(IMAGES | settings | changes))


def tiny_paper(kind: str) -> Preset:
    """A preset of a paper's kind of autoencoder, in small."""
    settings = PRESETS["vqvae2-mnist"].settings | {"learning_rate": 0.02, "start_crops": 8}
    return Preset(PAPERS[kind], settings)


def rewritten(indices: Path, output: Path, **changes: object) -> Path:
    """A file of indices whose state is another; None takes an entry away."""
    tensors, state = checkpoint.load(indices)
    state = {name: value for name, value in (state | changes).items() if value is not None}
    checkpoint.save(output, tensors, state)
    return output


def rows(log: Path) -> list[dict[str, float]]:
    """Rows of a run's log."""
    with log.open() as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def needs_compiler(test: Callable[..., None]) -> Callable[..., None]:
    """Of torch.compile, which also warns of what it does itself."""
    absent = shutil.which("c++") is None
    skip = pytest.mark.skipif(absent, reason="torch.compile needs a C++ compiler")
    return cast("Callable[..., None]", pytest.mark.filterwarnings("ignore")(skip(test)))
