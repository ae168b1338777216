from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vqcodec
from vqcodec import codec, container
from vqcodec.errors import CodecError, NotVqzError, TruncatedError
from vqcodec.image import Image, load


@pytest.fixture(scope="module")
def image(astronaut: Path) -> Image:
    """A photograph, 128 x 96, with all that a file keeps."""
    alpha = np.tile(np.arange(128, dtype=np.uint8), (96, 1))
    return replace(load(astronaut), alpha=alpha, icc=b"a profile", exif=b"Exif\0\0a block")


@pytest.fixture(scope="module")
def data(image: Image, tiny_model: Path) -> bytes:
    return bytes(codec.compress(image, model=tiny_model))


def test_what_is_known_at_once(data: bytes) -> None:
    opened = vqcodec.open(data)
    assert (opened.size, opened.mode, opened.levels) == ((128, 96), "RGBA", 3)
    assert opened.info == {"icc_profile": b"a profile", "exif": b"Exif\0\0a block"}
    assert opened.header == container.peek(data)
    assert repr(opened) == "<LazyImage 128x96 RGBA, 3 levels>"


@pytest.mark.parametrize(("grey", "alpha", "mode"), [(True, False, "L"), (False, False, "RGB")])
def test_modes(image: Image, tiny_model: Path, grey: bool, alpha: bool, mode: str) -> None:
    small = replace(image, alpha=image.alpha if alpha else None, grey=grey)
    opened = vqcodec.open(bytes(codec.compress(small, model=tiny_model)))
    assert opened.mode == mode


def test_names_and_files_are_opened(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.vqz"
    path.write_bytes(data)
    with path.open("rb") as stream:
        for source in (path, str(path), stream, io.BytesIO(data), bytearray(data)):
            assert vqcodec.open(source).data == data


@pytest.mark.parametrize("source", [None, 5, io.StringIO("a text")])
def test_what_is_no_file_is_told(source: Any) -> None:
    with pytest.raises(CodecError, match="is no file; give a name, bytes or a file"):
        vqcodec.open(source)


def test_load(data: bytes, tiny_model: Path) -> None:
    opened = vqcodec.open(data, model=tiny_model)
    whole = codec.decompress(data, model=tiny_model)
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(whole))
    coarse = codec.decompress(data, model=tiny_model, levels=1)
    np.testing.assert_array_equal(opened.load(levels=1).pixels, coarse.pixels)


def test_pieces(data: bytes, tiny_model: Path) -> None:
    opened = vqcodec.open(data, model=tiny_model)
    whole = np.asarray(opened).astype(int)
    assert np.abs(np.asarray(opened.region(10, 20, 50, 40)) - whole[20:60, 10:60]).max() <= 1
    assert opened.thumbnail(32).to_pil().size == (32, 24)
    with pytest.raises(CodecError, match="no region 100,0,50,50"):
        opened.region(100, 0, 50, 50)


def test_a_file_cut_short_is_opened_if_that_is_asked_for(data: bytes, tiny_model: Path) -> None:
    cut = data[:-9]
    with pytest.raises(TruncatedError):
        vqcodec.open(cut)
    opened = vqcodec.open(cut, partial=True, model=tiny_model)
    assert 1 <= opened.levels < opened.header.levels
    coarse = codec.decompress(data, model=tiny_model, levels=opened.levels)
    np.testing.assert_array_equal(opened.load().pixels, coarse.pixels)


def test_errors_name_the_file(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.vqz").write_bytes(data)
    with pytest.raises(CodecError, match=r"c\.vqz: there is no region"):
        vqcodec.open(tmp_path / "c.vqz").region(0, 0, 0, 0)
    (tmp_path / "a.vqz").write_bytes(b"no such thing")
    with pytest.raises(NotVqzError, match=r"a\.vqz: is not a \.vqz file"):
        vqcodec.open(tmp_path / "a.vqz")
    with pytest.raises(CodecError, match="no such file"):
        vqcodec.open(tmp_path / "b.vqz")
