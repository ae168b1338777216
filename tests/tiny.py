"""A tiny model with random weights, for tests that need a model but not a good one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from vqcodec import registry
from vqcodec.models.autoencoder import Autoencoder, AutoencoderConfig, LevelConfig
from vqcodec.models.family import Family
from vqcodec.models.natural import Natural, NaturalConfig
from vqcodec.models.prior import Activation, Convolution, Prior
from vqcodec.models.quantizer import CodebookConfig
from vqcodec.registry import Entry
from vqcodec.spec.prior import PriorConfig
from vqcodec.syntheses import write
from vqcodec.training.export import write_weights
from vqcodec.training.presets import books
from vqcodec.training.prior import groups_of
from vqcodec.weights_file import Model, load

CONFIG = AutoencoderConfig(
    levels=(
        LevelConfig(32, books((8, 1), (16, 2)), 16, 1, 1, 8),
        LevelConfig(16, books((16, 2), (16, 4), (32, 4)), 16, 1, 1, 8),
        LevelConfig(8, books((16, 2), (16, 4)), 16, 1, 1, 8),
    ),
    lmbdas=(800.0, 200.0, 50.0),
    refine_channels=8,
    refine_blocks=1,
)
GROUPED = AutoencoderConfig(
    levels=(
        LevelConfig(16, books((8, 1), (16, 2)), 16, 1, 1, 8),
        LevelConfig(
            8,
            (
                *books((16, 2), (16, 4)),
                CodebookConfig(16, 2, 0, 0.3),
                CodebookConfig(16, 3, 6, 0.3, True),
                CodebookConfig(8, 4, 2, 0.65),
                CodebookConfig(8, 2, 0, 0.65, True),
            ),
            16,
            1,
            1,
            8,
        ),
    ),
    lmbdas=(800.0, 200.0, 50.0),
    refine_channels=8,
    refine_blocks=1,
    qualities=10,
)
"""Qualities 1 to 3 have 2 codebooks at the finer level, 4 to 6 four, the others all six."""
MODEL_ID = "tiny-test"
NATURAL_CONFIG = NaturalConfig(blocks=1, fine_blocks=1, fine_channels=8)


def tiny_autoencoder(config: AutoencoderConfig = CONFIG) -> Autoencoder:
    """Random everywhere, with nothing left at its zero start."""
    torch.manual_seed(1)
    autoencoder = Autoencoder(config)
    with torch.no_grad():
        for name, parameter in autoencoder.named_parameters():
            if "_out." in name or "rate_logits" in name:
                nn.init.normal_(parameter, std=0.05)
    return autoencoder.eval()


def tiny_priors(autoencoder: Family, classes: int = 0, channels: int = 16) -> list[Prior]:
    """One prior per level; attention in the coarsest."""
    vectors = autoencoder.code_vectors()
    strides = autoencoder.config.strides
    sizes = [
        tuple((size, dim) for size, dim, *_ in level.codebooks)
        for level in autoencoder.config.levels
    ]
    priors = []
    for n in range(len(sizes)):
        config = PriorConfig(
            codebooks=sizes[n],
            coarser=tuple(sizes[:n]),
            factors=tuple(strides[m] // strides[m + 1] for m in range(n)),
            channels=channels,
            blocks=2,
            context_blocks=1,
            attention_heads=2 if n == 0 else 0,
            head_channels=channels,
            qualities=autoencoder.config.num_qualities,
            groups=groups_of(autoencoder.config, n),
            classes=classes,
        )
        prior = Prior(config, vectors[: n + 1])
        for part in prior.modules():
            if isinstance(part, Convolution):
                nn.init.normal_(part.weight, std=0.3)
                nn.init.normal_(part.bias, std=0.3)
            if isinstance(part, Activation):
                part.exponent.fill_(5)
        priors.append(prior.eval())
    return priors


def write_tiny_model(path: Path, config: AutoencoderConfig = CONFIG) -> str:
    """Writes a tiny model's weights file and returns its SHA-256."""
    autoencoder = tiny_autoencoder(config)
    return write_weights(path, MODEL_ID, autoencoder, tiny_priors(autoencoder))


def write_tiny_synthesis(path: Path, model_path: Path) -> str:
    """Writes another synthesis of a tiny model and returns the file's SHA-256."""
    return write_tiny_natural(path, load(model_path))


def write_tiny_natural(path: Path, model: Model) -> str:
    """Writes a natural synthesis, which changes something, and returns the file's SHA-256."""
    assert isinstance(model.autoencoder, Autoencoder)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        natural = Natural(model.autoencoder, NATURAL_CONFIG)
        nn.init.normal_(natural.texture.pixels_out.weight, std=0.1)
    return write(path, model, natural)


def register(path: Path, model: Model, patch: pytest.MonkeyPatch) -> None:
    """Lets a natural synthesis be the registered one of its model."""
    entry = Entry(model.model_id, path.name, registry.sha256_of(path), "of a test")
    patch.setitem(registry.SYNTHESES, model.model_id, entry)
    patch.setattr(registry, "weights_directory", lambda: path.parent)
