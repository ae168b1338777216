"""`sample`, also `generate`."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image
import pytest
from conftest import Run


def size(path: Path) -> tuple[int, int]:
    with PIL.Image.open(path) as picture:
        return picture.size


@pytest.mark.parametrize(("text", "expected"), [("40x24", (40, 24)), ("1x1", (1, 1))])
def test_size(
    run: Run, tiny_model: Path, tmp_path: Path, text: str, expected: tuple[int, int]
) -> None:
    result = run("sample", "a.png", "--size", text, "--model", tiny_model)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert size(tmp_path / "a.png") == expected


def test_count_writes_numbered_files(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["--size", "64x64", "--count", "3", "--model", tiny_model]
    assert run("generate", "a.png", *arguments).returncode == 0
    names = [f"a-{i}.png" for i in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert len({(tmp_path / name).read_bytes() for name in names}) == 3


def test_seed_decides(run: Run, tiny_model: Path) -> None:
    def draw(seed: int) -> bytes:
        arguments = ["--size", "64x64", "--seed", seed, "--model", tiny_model]
        result = run("sample", "-", *map(str, arguments))
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    with PIL.Image.open(io.BytesIO(draw(1))) as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 64))


def test_existing_output_is_told_before_anything_is_drawn(
    run: Run, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a-1.png").write_bytes(b"precious")
    arguments = ["sample", "a.png", "--size", "32x32", "--count", "2", "--model", tiny_model]
    result = run(*arguments)
    assert result.returncode == 1
    assert result.stderr.startswith(b"vqcodec: error: a-1.png: exists already")
    assert [path.name for path in tmp_path.iterdir()] == ["a-1.png"]
    assert run(*arguments, "--force").returncode == 0
    assert size(tmp_path / "a-1.png") == (32, 32)


def test_generate_is_another_name_of_sample(run: Run) -> None:
    for name in ("sample", "generate"):
        result = run(name, "--help")
        assert result.returncode == 0
        assert b"Draw new images" in result.stdout
