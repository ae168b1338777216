"""`view`, and the options of pieces that it shares with `decompress`."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import PIL.Image
import pytest
from conftest import Invoke

import vqcodec.cli.view
from vqcodec import codec
from vqcodec.cli.view import drawn
from vqcodec.image import load


@pytest.fixture
def path(astronaut: Path, tiny_model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "a.vqz"
    path.write_bytes(bytes(codec.compress(load(astronaut), model=tiny_model)))
    return path


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What the system's viewer was asked to open."""
    names: list[str] = []

    def launch(name: str, wait: bool) -> int:
        names.append(name)
        return 0 if len(names) == 1 else 3

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(click, "launch", launch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return names


def test_view_opens_a_png(invoke: Invoke, tiny_model: Path, path: Path, shown: list[str]) -> None:
    result = invoke("view", path, "--model", tiny_model, "--region", "10,20,60,40")
    assert (result.exit_code, result.output) == (0, "")
    expected = codec.decompress(path.read_bytes(), model=tiny_model, region=(10, 20, 60, 40))
    with PIL.Image.open(shown[0]) as picture:
        assert Path(shown[0]).name == "a.png"
        np.testing.assert_array_equal(np.asarray(picture), expected.pixels)


def test_view_without_a_viewer(
    invoke: Invoke, tiny_model: Path, path: Path, shown: list[str]
) -> None:
    shown.append("the first one works")
    result = invoke("view", path, "--model", tiny_model)
    assert result.exit_code == 1
    assert "no viewer could be opened; open this file" in result.stderr
    assert Path(shown[1]).is_file()


def test_view_draws_on_terminals_only(invoke: Invoke, tiny_model: Path, path: Path) -> None:
    result = invoke("view", path, "--model", tiny_model, "--terminal")
    assert result.exit_code == 1
    assert result.stderr == (
        "vqcodec: error: standard output: is no terminal; leave --terminal out\n"
    )


def test_view_in_a_terminal(
    invoke: Invoke,
    tiny_model: Path,
    path: Path,
    shown: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rich.console import Console

    console = Console(force_terminal=True, color_system="truecolor", width=20, height=9)
    monkeypatch.setattr(vqcodec.cli.view, "_console", lambda: console)
    with console.capture() as capture:
        result = invoke("view", path, "--model", tiny_model, "--terminal")
    assert result.exit_code == 0, result.output
    lines = capture.get().splitlines()
    assert [line.count("▀") for line in lines] == [20] * 8
    assert not shown


def test_a_character_has_two_pixels() -> None:
    picture = PIL.Image.fromarray(np.arange(18, dtype=np.uint8).reshape(3, 2, 3))
    text = drawn(picture)
    assert text.plain == "▀▀\n▀▀\n"
    assert [str(span.style) for span in text.spans] == [
        "#000102 on #060708",
        "#030405 on #090a0b",
        "#0c0d0e",
        "#0f1011",
    ]


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--region", "10,20,60,40"], (60, 40)),
        (["--max-side", "32"], (32, 24)),
        (["--region", "10,20,60,40", "--max-side", "30", "--levels", "2"], (30, 20)),
    ],
)
def test_decompress_gives_pieces(
    invoke: Invoke, tiny_model: Path, path: Path, options: list[str], size: tuple[int, int]
) -> None:
    result = invoke("decompress", path, "a.png", "--model", tiny_model, *options)
    assert result.exit_code == 0, result.output
    with PIL.Image.open(path.with_name("a.png")) as picture:
        assert picture.size == size


@pytest.mark.parametrize("region", ["", "1,2,3", "1,2,3,4,5", "a,0,1,1", "-1,0,5,5", "1.5,0,5,5"])
def test_what_is_no_region_is_wrong_usage(
    invoke: Invoke, tiny_model: Path, path: Path, region: str
) -> None:
    result = invoke("decompress", path, "a.png", "--model", tiny_model, f"--region={region}")
    assert result.exit_code == 2
    assert "is no region; give X,Y,W,H in pixels" in result.stderr


def test_a_region_that_is_not_there(invoke: Invoke, tiny_model: Path, path: Path) -> None:
    result = invoke("decompress", path, "a.png", "--model", tiny_model, "--region", "100,0,50,5")
    assert result.exit_code == 1
    assert "a.vqz: there is no region 100,0,50,5; the image is 128 x 96" in result.stderr
    assert not path.with_name("a.png").exists()
