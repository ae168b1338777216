"""The plugin, as imageio tests its own: v3, `imopen`, and the calls of v2."""

from __future__ import annotations

import io
from pathlib import Path

import imageio.v2
import imageio.v3 as iio
import numpy as np
import pytest

import vqcodec.imageio
import vqcodec.pillow
from vqcodec import codec
from vqcodec.image import load


@pytest.fixture(autouse=True)
def model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(vqcodec.pillow, "MODEL", tiny_model)
    return tiny_model


@pytest.fixture
def pixels(astronaut: Path) -> np.ndarray:
    return load(astronaut).pixels


@pytest.fixture
def path(pixels: np.ndarray, tmp_path: Path, model: Path) -> Path:
    path = tmp_path / "a.vqz"
    path.write_bytes(bytes(codec.compress(pixels, model=model)))
    return path


@pytest.fixture
def expected(path: Path, model: Path) -> np.ndarray:
    return codec.decompress(path.read_bytes(), model=model).pixels


def test_imread(path: Path, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(iio.imread(path), expected)
    np.testing.assert_array_equal(iio.imread(path.read_bytes()), expected)
    np.testing.assert_array_equal(iio.imread(path.read_bytes(), extension=".vqz"), expected)
    assert iio.imread(path, index=...).shape == (1, *expected.shape)
    assert iio.imread(path, mode="L").shape == expected.shape[:2]


def test_imwrite(path: Path, pixels: np.ndarray, model: Path, tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "b.vqz", pixels, model=model)
    assert (tmp_path / "b.vqz").read_bytes() == path.read_bytes()
    best = iio.imwrite("<bytes>", pixels, extension=".vqz", model=model, quality=3)
    assert best == bytes(codec.compress(pixels, model=model, quality=3))
    stream = io.BytesIO()
    iio.imwrite(stream, pixels[..., 0], extension=".vqz", model=model)
    assert iio.imread(stream.getvalue()).shape == pixels.shape[:2]


def test_improps(path: Path) -> None:
    props = iio.improps(path)
    assert (props.shape, props.dtype, props.is_batch) == ((96, 128, 3), np.uint8, False)


def test_immeta(path: Path) -> None:
    assert iio.immeta(path) == {"mode": "RGB", "shape": (128, 96)}


def test_imopen(path: Path, expected: np.ndarray, tmp_path: Path, model: Path) -> None:
    with iio.imopen(path, "r") as opened:
        np.testing.assert_array_equal(opened.read(), expected)
        (only,) = opened.iter()
        np.testing.assert_array_equal(only, expected)
    with iio.imopen(tmp_path / "c.vqz", "w") as opened:
        opened.write(expected, model=model)
    assert iio.imread(tmp_path / "c.vqz").shape == expected.shape


def test_imiter(path: Path, expected: np.ndarray) -> None:
    (only,) = iio.imiter(path)
    np.testing.assert_array_equal(only, expected)


def test_version_2(path: Path, pixels: np.ndarray, expected: np.ndarray, model: Path) -> None:
    np.testing.assert_array_equal(imageio.v2.imread(path), expected)
    target = path.with_name("d.vqz")
    imageio.v2.imwrite(target, pixels, model=model)
    assert target.read_bytes() == path.read_bytes()
    with imageio.v2.get_reader(path) as reader:
        assert len(reader) == 1
        np.testing.assert_array_equal(reader.get_data(0), expected)
    assert len(imageio.v2.mimread(path)) == 1


def test_what_cannot_be_read_is_an_oserror(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OSError, match="is cut short"):
        iio.imread(path)
