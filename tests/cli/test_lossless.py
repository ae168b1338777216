"""Lossless files through the commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import Run

from vqcodec import container
from vqcodec.image import load


def drawing(mode: str = "RGB") -> PIL.Image.Image:
    """A frame and a cross."""
    pixels = np.full((40, 60), 255, np.uint8)
    pixels[5:35, 5] = pixels[5:35, 54] = pixels[5, 5:55] = pixels[34, 5:55] = 0
    pixels[20, 10:50] = pixels[8:32, 30] = 90
    return PIL.Image.fromarray(pixels).convert(mode)


def speckles() -> PIL.Image.Image:
    """Two colours at random: few bits without loss, and hopeless with it."""
    rng = np.random.default_rng(1)
    return PIL.Image.fromarray(rng.integers(2, size=(64, 64), dtype=np.uint8) * 255)


def header_of(path: Path) -> container.Header:
    return container.unpack(path.read_bytes()).header


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_drawings_are_kept_lossless(run: Run, tiny_model: Path, tmp_path: Path, mode: str) -> None:
    drawing(mode).save(tmp_path / "a.png")
    result = run("compress", "a.png", "a.vqz", "--model", tiny_model)
    assert result.returncode == 0, result.stderr
    assert b"lossless" in result.stdout
    assert header_of(tmp_path / "a.vqz").lossless
    assert run("decompress", "a.vqz", "b.png").returncode == 0
    np.testing.assert_array_equal(PIL.Image.open(tmp_path / "b.png"), drawing(mode))


def test_photographs_are_not(run: Run, astronaut: Path, tiny_model: Path, tmp_path: Path) -> None:
    result = run("compress", astronaut, "a.vqz", "--model", tiny_model)
    assert b"lossless" not in result.stdout
    assert not header_of(tmp_path / "a.vqz").lossless


def test_never(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    drawing().save(tmp_path / "a.png")
    options = ["--model", tiny_model, "--lossless", "never"]
    assert run("compress", "a.png", "a.vqz", *options).returncode == 0
    assert not header_of(tmp_path / "a.vqz").lossless


def test_always_needs_no_model(run: Run, astronaut: Path, tmp_path: Path) -> None:
    options = ["--lossless", "always", "--model", "no-such", "--json", "--report"]
    found = json.loads(run("compress", astronaut, "a.vqz", *options).stdout)
    assert (found["lossless"], found["quality"], found["psnr"]) == (True, None, None)
    assert found["levels"] == []
    assert run("decompress", "a.vqz", "b.png").returncode == 0
    np.testing.assert_array_equal(load(tmp_path / "b.png").pixels, load(astronaut).pixels)


def test_report(run: Run, tmp_path: Path) -> None:
    drawing().save(tmp_path / "a.png")
    result = run("compress", "a.png", "a.vqz", "--lossless", "always", "--report")
    assert re.search(rb"^quality +lossless$", result.stdout, re.MULTILINE)
    assert re.search(rb"^psnr +infinite$", result.stdout, re.MULTILINE)


def test_always_keeps_colours_that_nobody_sees(run: Run, tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(256, size=(9, 11, 4), dtype=np.uint8)
    pixels[:4, :, 3] = 0
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    assert run("compress", "a.png", "a.vqz", "--lossless", "always").returncode == 0
    assert run("decompress", "a.vqz", "b.png").returncode == 0
    np.testing.assert_array_equal(PIL.Image.open(tmp_path / "b.png"), pixels)


@pytest.mark.parametrize(
    "target", [["--quality", "3"], ["--size", "9kB"], ["--psnr", "40"], ["--bpp", "1"]]
)
def test_always_leaves_nothing_to_ask_for(run: Run, tmp_path: Path, target: list[str]) -> None:
    drawing().save(tmp_path / "a.png")
    result = run("compress", "a.png", "a.vqz", "--lossless", "always", *target)
    assert result.returncode == 1
    assert re.fullmatch(
        rb"vqcodec: error: \w+ has no meaning for a file that is always lossless; "
        rb"leave one of them out\n",
        result.stderr,
    )
    assert not (tmp_path / "a.vqz").exists()


@pytest.mark.parametrize("target", [["--size", "9kB"], ["--max-size", "9kB"], ["--bpp", "3"]])
def test_what_fits_a_size_is_lossless(
    run: Run, tiny_model: Path, tmp_path: Path, target: list[str]
) -> None:
    drawing().save(tmp_path / "a.png")
    result = run("compress", "a.png", "a.vqz", "--model", tiny_model, *target, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["lossless"]
    assert header_of(tmp_path / "a.vqz").lossless


def test_what_only_a_lossless_file_reaches(run: Run, astronaut: Path, tmp_path: Path) -> None:
    options = ["--psnr", "70", "--effort", "1"]
    result = run("compress", astronaut, "a.vqz", *options)
    assert result.returncode == 0, result.stderr
    assert b"lossless" in result.stdout
    assert header_of(tmp_path / "a.vqz").lossless
    result = run("compress", astronaut, "b.vqz", *options, "--lossless", "never")
    assert result.returncode == 1
    assert re.fullmatch(
        rb"vqcodec: error: 70 dB are out of reach; of this image the model can make "
        rb"\d\d\.\d\d to \d\d\.\d\d dB, and --lossless auto keeps every pixel then\n",
        result.stderr,
    )


def test_info(run: Run, tmp_path: Path) -> None:
    drawing("LA").save(tmp_path / "a.png")
    assert run("compress", "a.png", "a.vqz", "--lossless", "always").returncode == 0
    (found,) = json.loads(run("info", "a.vqz", "--json").stdout)
    assert found["lossless"]
    assert (found["width"], found["height"], found["grey"]) == (60, 40, True)
    for name in ("model", "weights_hash", "quality", "tile", "tiles"):
        assert found[name] is None
    assert (found["levels"], len(found["level_bytes"])) == (1, 1)
    text = run("info", "a.vqz").stdout
    assert re.search(rb"^quality +lossless$", text, re.MULTILINE)
    assert b"model" not in text
    (tmp_path / "cut.vqz").write_bytes((tmp_path / "a.vqz").read_bytes()[:-2])
    assert b"no, cut short after 1 of 1" in run("info", "cut.vqz").stdout


def test_verify(run: Run, tmp_path: Path) -> None:
    drawing().save(tmp_path / "a.png")
    assert run("compress", "a.png", "a.vqz", "--lossless", "always").returncode == 0
    assert run("verify", "a.vqz").stdout == b"a.vqz: ok, checksums and pixels\n"
    contents = container.unpack((tmp_path / "a.vqz").read_bytes())
    broken = container.Container(
        contents.header, {}, ((contents.sections[0][0][:9],),), None, complete=True
    )
    (tmp_path / "bad.vqz").write_bytes(container.pack(broken))
    result = run("verify", "bad.vqz")
    assert result.returncode == 1
    assert b"BAD, has a section that cannot be decoded" in result.stdout


def test_pieces(run: Run, tmp_path: Path) -> None:
    drawing().save(tmp_path / "a.png")
    assert run("compress", "a.png", "a.vqz", "--lossless", "always").returncode == 0
    assert run("decompress", "a.vqz", "b.png", "--region", "4,3,20,10").returncode == 0
    np.testing.assert_array_equal(
        PIL.Image.open(tmp_path / "b.png"), np.asarray(drawing())[3:13, 4:24]
    )
    assert run("decompress", "a.vqz", "c.png", "--max-side", "30").returncode == 0
    assert load(tmp_path / "c.png").pixels.shape == (20, 30, 3)
    assert run("decompress", "a.vqz", "d.png", "--levels", "1").returncode == 0
    result = run("decompress", "a.vqz", "e.png", "--levels", "2")
    assert result.returncode == 1
    assert b"the file holds 1" in result.stderr


def test_nothing_of_it_is_completed(run: Run, tmp_path: Path) -> None:
    drawing().save(tmp_path / "a.png")
    assert run("compress", "a.png", "a.vqz", "--lossless", "always").returncode == 0
    result = run("complete", "a.vqz", "b.png")
    assert result.returncode == 1
    assert result.stderr == (
        b"vqcodec: error: a.vqz: a lossless file holds pixels, which nothing can invent; "
        b"use decompress\n"
    )


def test_a_poor_result_is_told(run: Run, tmp_path: Path) -> None:
    speckles().save(tmp_path / "a.png")
    options = ["--quality", "1", "--effort", "1"]
    result = run("compress", "a.png", "a.vqz", *options)
    assert result.returncode == 0
    assert not header_of(tmp_path / "a.vqz").lossless
    assert re.fullmatch(
        rb"vqcodec: a.png: only \d+\.\d dB, where photographs have about 27 at quality 1; "
        rb"--lossless always keeps every pixel, a higher --quality more\n",
        result.stderr,
    )
    assert run("compress", "a.png", "b.vqz", *options, "--quiet").stderr == b""
    result = run("compress", "a.png", "--out", "out", *options)
    assert b"a.png: only" in result.stderr


def test_a_good_result_needs_no_words(run: Run, astronaut: Path) -> None:
    assert run("compress", astronaut, "a.vqz", "--effort", "1").stderr == b""
