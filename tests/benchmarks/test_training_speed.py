"""The benchmark of the training's speed: its parts, and a quick run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
import training_speed
from click.testing import CliRunner
from torch import nn

from vqcodec.training.presets import TINY


def test_flops_of_a_convolution_both_ways() -> None:
    layer = nn.Conv2d(4, 8, 3, padding=1)
    features = torch.randn(2, 4, 6, 5, requires_grad=True)
    once = 2 * 9 * 4 * 8 * 2 * 6 * 5
    assert training_speed.flops(lambda: layer(features)) == once
    assert training_speed.flops(lambda: layer(features).sum().backward()) == 3 * once


def test_convolutions_of_a_network() -> None:
    assert training_speed.convolutions_speed(TINY, torch.float32, time.process_time) > 0


def test_it_runs(tmp_path: Path, astronaut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(astronaut.read_bytes())
    for name, value in (("SIZES", (32,)), ("PRESET", "tiny"), ("BATCH", 2), ("CROP", 32)):
        monkeypatch.setattr(training_speed, name, value)
    asked = ["--images", str(tmp_path / "images"), "--steps", "2"]
    result = CliRunner().invoke(training_speed.main, asked)
    assert result.exit_code == 0, result.output
    assert "A step does" in result.stdout
    assert "optimizer, if adamw" in result.stdout
    assert "its 3x3 convolutions alone" in result.stdout
