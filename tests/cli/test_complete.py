"""`complete`: a cut file and what it lacks to an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import Invoke

from vqcodec.codec import compress
from vqcodec.image import load

KEYWORD = "vqcodec:invented"


@pytest.fixture
def cut(astronaut: Path, tiny_model: Path, tmp_path: Path) -> str:
    """A file of 12 tiles that ends in its finest level."""
    data = compress(load(astronaut), model=tiny_model, tile=32, effort=1).data
    (tmp_path / "cut.vqz").write_bytes(data[:-300])
    (tmp_path / "whole.vqz").write_bytes(data)
    return "cut.vqz"


def text_of(path: Path) -> str | None:
    with PIL.Image.open(path) as picture:
        picture.load()
        return picture.info.get(KEYWORD)


def test_what_is_invented_is_told(
    invoke: Invoke, cut: str, tiny_model: Path, tmp_path: Path
) -> None:
    result = invoke("complete", cut, "a.png", "--mask", "mask.png", "--model", tiny_model)
    assert (result.exit_code, result.stdout) == (0, "")
    report = result.stderr.strip()
    assert report.startswith("invented: ")
    assert report.endswith(" of 12 tiles of level 2 of levels 0 to 2, seed 0")
    assert text_of(tmp_path / "a.png") == report.removeprefix("invented: ")
    missing = int(report.split()[1])
    with PIL.Image.open(tmp_path / "mask.png") as picture:
        assert (picture.mode, picture.size) == ("L", (128, 96))
        mask = np.asarray(picture)
    assert sorted(set(mask.flatten().tolist())) == [0, 255]
    assert (mask == 255).sum() == missing * 32 * 32


def test_a_whole_file_gives_what_decompress_gives(
    invoke: Invoke, cut: str, tiny_model: Path, tmp_path: Path
) -> None:
    result = invoke("complete", "whole.vqz", "a.png", "--model", tiny_model)
    assert (result.exit_code, result.stderr) == (0, "invented: nothing\n")
    assert invoke("decompress", "whole.vqz", "b.png", "--model", tiny_model).exit_code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_levels_and_seed(invoke: Invoke, cut: str, tiny_model: Path, tmp_path: Path) -> None:
    def done(*arguments: str) -> bytes:
        result = invoke("complete", "whole.vqz", "-", "--model", tiny_model, *arguments)
        assert result.exit_code == 0
        assert "invented: level 1, level 2 of levels 0 to 2, seed" in result.stderr
        return result.stdout_bytes

    first = done("--levels", "1", "--seed", "3")
    (tmp_path / "first.png").write_bytes(first)
    assert text_of(tmp_path / "first.png") == "level 1, level 2 of levels 0 to 2, seed 3"
    assert done("--levels", "1", "--seed", "3", "--top-p", "1") == first
    assert done("--levels", "1", "--seed", "4") != first


def test_other_formats_are_reported_only(
    invoke: Invoke, cut: str, tiny_model: Path, tmp_path: Path
) -> None:
    result = invoke("complete", cut, "a.bmp", "--model", tiny_model)
    assert (result.exit_code, result.stderr.startswith("invented: ")) == (0, True)
    assert (tmp_path / "a.bmp").is_file()


@pytest.mark.parametrize("existing", ["a.png", "mask.png"])
def test_existing_files_are_kept(
    invoke: Invoke, cut: str, tiny_model: Path, tmp_path: Path, existing: str
) -> None:
    (tmp_path / existing).write_bytes(b"precious")
    arguments = ["complete", cut, "a.png", "--mask", "mask.png", "--model", tiny_model]
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"vqcodec: error: {existing}: exists already")
    assert (tmp_path / existing).read_bytes() == b"precious"
    assert invoke(*arguments, "--force").exit_code == 0


def test_wrong_usage(invoke: Invoke, cut: str) -> None:
    result = invoke("complete", cut, "-", "--mask", "-")
    assert result.exit_code == 2
    assert "Standard output takes one image" in result.stderr


def test_errors_name_the_file(invoke: Invoke, cut: str, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "short.vqz").write_bytes((tmp_path / cut).read_bytes()[:20])
    for source, reason in (("short.vqz", "cut short"), ("missing.vqz", "no such file")):
        result = invoke("complete", source, "a.png", "--model", tiny_model)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"vqcodec: error: {source}: ")
        assert reason in result.stderr
        assert not (tmp_path / "a.png").exists()
