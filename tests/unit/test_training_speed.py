"""The benchmark of the training's speed: its parts, and a quick run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # as for a script that is run

import training_speed

from vqcodec.training.presets import TINY
from vqcodec.training.processes import fast_bfloat16


def test_flops_of_a_convolution_both_ways() -> None:
    layer = nn.Conv2d(4, 8, 3, padding=1)
    features = torch.randn(2, 4, 6, 5, requires_grad=True)
    once = 2 * 9 * 4 * 8 * 2 * 6 * 5
    assert training_speed.flops(lambda: layer(features)) == once
    assert training_speed.flops(lambda: layer(features).sum().backward()) == 3 * once


def test_parts_are_weighted_by_their_residual_blocks() -> None:
    found = training_speed.parts(TINY, 64)
    assert list(found) == ["level 0", "level 1", "refinement"]
    assert [(part["channels"], part["side"]) for part in found.values()] == [
        (16, 4),
        (16, 8),
        (8, 16),
    ]
    assert found["level 1"]["flops"] == 4 * found["level 0"]["flops"]
    assert found["refinement"]["flops"] == found["level 1"]["flops"] / 2  # one block, not two


def test_it_runs(tmp_path: Path, astronaut: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(astronaut.read_bytes())
    stored = tmp_path / "results.json"
    options = ["--preset", "tiny", "--batch", "2", "--crop", "32", "--steps", "2", "--busy"]
    asked = [*options, "--images", str(tmp_path / "images"), "--json", str(stored)]
    threads = torch.get_num_threads()
    try:
        result = CliRunner().invoke(training_speed.main, asked)
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    found = json.loads(stored.read_text())
    assert found["benchmark"] == "training_speed"
    assert sum(found["seconds"].values()) == pytest.approx(found["step"])
    assert found["speed"] == pytest.approx(found["flops"] / found["step"])
    assert found["optimizers"]["adamw"]["flops"] == 0 < found["optimizers"]["muon"]["flops"]
    assert ("bfloat16" in found["matrix_speed"]) == fast_bfloat16(torch.device("cpu"))
    speeds = [part["speed"] for part in found["convolutions"].values()]
    assert min(speeds) <= found["convolution_speed"] <= max(speeds)


def test_a_crop_that_does_not_fit_is_one_line() -> None:
    result = CliRunner().invoke(training_speed.main, ["--preset", "wide", "--crop", "48"])
    assert result.exit_code == 1
    assert "multiple of 32" in result.output
