from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import GROUPED
from tiny_training import (
    FIXTURES,
    autoencoder_training,
    needs_compiler,
    rows,
    tiny_paper,
)

from vqcodec.errors import CodecError
from vqcodec.models.autoencoder import AutoencoderConfig, LevelConfig
from vqcodec.training.autoencoder import train
from vqcodec.training.presets import PRESETS, Preset, books

MODELS = {
    "tiny": PRESETS["tiny"],
    "grouped": Preset(GROUPED),
    "vqvae": tiny_paper("vqvae"),
    "vqvae2": tiny_paper("vqvae2"),
    "hrvqvae": tiny_paper("hrvqvae"),
}
RUNS = [("tiny", "adamw"), ("tiny", "muon"), *((name, "adamw") for name in list(MODELS)[1:])]


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes presets of the models."""
    for name, preset in MODELS.items():
        monkeypatch.setitem(PRESETS, name, preset)


@pytest.mark.parametrize(("preset", "optimizer"), RUNS)
def test_training_lowers_the_loss(preset: str, optimizer: str, tmp_path: Path) -> None:
    given = {"crop": 32, "restart_every": 7, "decay": 0.1}
    config = autoencoder_training(tmp_path, 25, preset=preset, optimizer=optimizer, **given)
    losses = [row["loss"] for row in rows(train(config).parent / "log.csv")]
    assert np.mean(losses[-6:]) < 0.95 * np.mean(losses[:6])


@pytest.mark.parametrize(("preset", "optimizer"), [*RUNS, ("grouped", "muon")])
def test_a_resumed_run_ends_where_an_unbroken_one_does(
    preset: str, optimizer: str, tmp_path: Path
) -> None:
    def run(folder: str, steps: int) -> Path:
        # The schedule depends on the step alone when its decay starts at the end of both runs.
        given = {"crop": 32, "decay": 1e-9, "optimizer": optimizer, "preset": preset}
        return train(autoencoder_training(tmp_path / folder, steps, **given))

    whole = run("whole", 6)
    half = run("parts", 3)
    earlier = load_file(half)
    with (half.parent / "log.csv").open("a") as log:
        log.write("4" + ",0" * 10 + "\n")  # as left by a run that broke off later
    parts = run("parts", 6)
    expected, found = load_file(whole), load_file(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert any(not torch.equal(earlier[name], found[name]) for name in found)
    assert [row["step"] for row in rows(parts.parent / "log.csv")] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_of_another_architecture_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained, tmp_path / "checkpoint.safetensors")
    with pytest.raises(CodecError, match="another architecture"):
        train(autoencoder_training(tmp_path, 40, preset="photo"))


PROCESS = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from tiny import GROUPED
from tiny_training import autoencoder_training
from vqcodec.training import autoencoder, loop
from vqcodec.training.presets import PRESETS, Preset

output = Path(sys.argv[1])


def run(training, processes, model, *rest):
    result = loop.run(training, processes, model, *rest)
    state = {name: each.clone().contiguous() for name, each in model.state_dict().items()}
    save_file(state, output / f"rank-{processes.rank}.safetensors")
    return result


autoencoder.run = run
PRESETS["grouped"] = Preset(GROUPED)
# One image each: often, one process has none of the qualities that use a codebook.
autoencoder.train(autoencoder_training(output, 4, preset="grouped", batch=1))
"""


@pytest.mark.slow
def test_two_processes_hold_the_same_codebooks_and_weights(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROCESS)
    paths = [environment["PYTHONPATH"], str(FIXTURES.parent)]
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", script, tmp_path),
        ],
        check=True,
        env=environment | {"PYTHONPATH": os.pathsep.join(paths)},
        timeout=240,
        capture_output=True,
    )
    first, second = (load_file(tmp_path / f"rank-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


ONE_BLOCK = AutoencoderConfig(
    levels=(LevelConfig(16, books((16, 2)), 16, 1, 0, 16),), lmbdas=(200.0,), refine_channels=0
)


@pytest.mark.slow
@needs_compiler
def test_compiled_blocks_learn_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "block", Preset(ONE_BLOCK))
    losses = []
    for compiled in (False, True):
        output = tmp_path / str(compiled)
        train(autoencoder_training(output, 3, preset="block", compile=compiled, restart_every=9))
        losses.append([row["loss"] for row in rows(output / "log.csv")])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)
