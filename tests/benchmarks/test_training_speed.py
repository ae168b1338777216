"""The benchmark of the training's speed: its parts, and a quick run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import training_speed
from click.testing import CliRunner
from torch import nn

from vqcodec.training.presets import TINY
from vqcodec.training.settings import AutoencoderTraining


def test_flops_of_a_convolution_both_ways() -> None:
    layer = nn.Conv2d(4, 8, 3, padding=1)
    features = torch.randn(2, 4, 6, 5, requires_grad=True)
    once = 2 * 9 * 4 * 8 * 2 * 6 * 5
    assert training_speed.flops(lambda: layer(features)) == once
    assert training_speed.flops(lambda: layer(features).sum().backward()) == 3 * once


def test_parts_are_weighted_by_their_residual_blocks() -> None:
    found = training_speed.parts(TINY, 64)
    assert list(found) == ["level 0", "level 1", "refinement"]
    sizes = [(part.channels, part.side) for part in found.values()]
    assert sizes == [(16, 4), (16, 8), (8, 16)]
    assert found["level 1"].flops == 4 * found["level 0"].flops
    assert found["refinement"].flops == found["level 1"].flops / 2  # one block, not two


def test_steps() -> None:
    config = AutoencoderTraining(output=Path(), sources=[], preset="tiny", batch=2, crop=32)
    step = training_speed.measure_steps(config, 2, busy=True)
    assert list(step.seconds) == list(training_speed.PARTS)
    assert step.flops > 0
    assert step.optimizers["adamw"][1] == 0 < step.optimizers["muon"][1]


def test_references() -> None:
    parts = training_speed.parts(TINY, 64)
    found = training_speed.references(parts, 1, torch.float32, busy=True)
    assert list(found)[:2] == ["matrix product, float32", "its 3x3 convolutions alone"]
    speeds = list(found.values())[2:]
    assert len(speeds) == len(parts)
    assert min(speeds) <= found["its 3x3 convolutions alone"] <= max(speeds)


def test_it_runs(tmp_path: Path, astronaut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(astronaut.read_bytes())
    monkeypatch.setattr(training_speed, "SIZES", (32,))
    asked = ["--preset", "tiny", "--batch", "2", "--crop", "32", "--steps", "2"]
    result = CliRunner().invoke(training_speed.main, [*asked, "--images", str(tmp_path / "images")])
    assert result.exit_code == 0, result.output
    assert "A step does" in result.stdout
    assert "optimizer, if muon" in result.stdout


def test_a_crop_that_does_not_fit_is_one_line() -> None:
    result = CliRunner().invoke(training_speed.main, ["--preset", "wide", "--crop", "48"])
    assert result.exit_code == 1
    assert "multiple of 32" in result.output
