"""The check of GPUs, and of what other machines read and make, on the CPU in small."""

from __future__ import annotations

from pathlib import Path

import gpu
import numpy as np
import pytest
import same_files
import same_samples
import torch
from click.testing import CliRunner
from tiny_classes import write_tiny_class_model
from tiny_training import needs_compiler

SMALL = gpu.DRY._replace(qualities=(2,), golden="33x31-tile32")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_samples, "CLASSES", (1, 3))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("small")
@needs_compiler
def test_dry_run_on_the_cpu(tmp_path: Path, tiny_model: Path) -> None:
    generator = tmp_path / "classes.safetensors"
    write_tiny_class_model(generator)
    rows = gpu.report("cpu", SMALL, str(tiny_model), str(generator))
    assert [row[:2] for row in rows] == [[row[0], "yes"] for row in rows], rows
    found = {name: words for name, _, words, _ in rows}
    assert "0 differ; pixels by 0 at most" in found["effort 5, made on cpu, read on cpu"]
    assert "ms a step" in found["training, bfloat16, compiled"]
    assert "level 1" in found["priors, export, files"]


@pytest.mark.usefixtures("small")
def test_a_check_that_fails_is_told_and_stops_no_other(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(gpu.exactness, "find", broken)
    rows = gpu.report("cpu", SMALL, str(tiny_model), str(tiny_model), "en")
    assert [row[:2] for row in rows[:1]] == [["golden files", "yes"]]
    assert rows[1][1:3] == ["NO", "RuntimeError: no kernel image"]


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = CliRunner().invoke(gpu.main, [])
    assert result.exit_code == 1
    assert "there is no device 'cuda' here" in result.stderr


class TestRecords:
    @pytest.fixture
    def records(self, tmp_path: Path) -> list[str]:
        folders = [str(tmp_path / name) for name in ("here", "there")]
        for folder in folders:
            asked = ["record", folder, "--effort", "1", "--only", "33x31", "--no-sample"]
            result = CliRunner().invoke(same_files.main, asked)
            assert result.exit_code == 0, result.output
        return folders

    def test_same_machine_same_record(self, records: list[str]) -> None:
        result = CliRunner().invoke(same_files.main, ["compare", *records])
        assert result.exit_code == 0, result.output
        assert "of 3 files made by both 3 have the same bytes" in result.output

    def test_a_difference_is_an_error(self, records: list[str]) -> None:
        path = sorted((Path(records[1]) / "read").iterdir())[0]
        arrays = same_files.load_file(path)
        arrays["level.0"].flat[0] ^= 1
        same_files.save_file(arrays, path)
        result = CliRunner().invoke(same_files.main, ["compare", *records])
        assert result.exit_code == 1


def test_differences_are_counted() -> None:
    first = {"level.0": np.arange(4), "pixels": np.array([1, 2, 3])}
    second = {"level.0": np.array([0, 1, 3, 2]), "pixels": np.array([1, 4, 3])}
    assert same_files.differences(first, first) == (0, 0)
    found = same_files.differences(first, second)
    assert found == (2, 2)
    assert not found.fine
    assert same_files.Differences(0, 1).fine
    assert not same_files.Differences(1, 0).fine
