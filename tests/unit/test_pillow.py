"""The plugin, as Pillow tests its own: open, load, save, verify, seek, what is cut short."""

from __future__ import annotations

import copy
import io
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageFile
import PIL.ImageSequence
import pytest
import torch
import torch.utils.data
from PIL.ExifTags import Base

import vqcodec.pillow
from vqcodec import codec, container
from vqcodec.image import load
from vqcodec.tiles import Tiles

MAGIC = container.MAGIC
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(autouse=True)
def model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(vqcodec.pillow, "MODEL", tiny_model)
    return tiny_model


@pytest.fixture(scope="module")
def data(astronaut: Path, tiny_model: Path) -> bytes:
    return bytes(codec.compress(load(astronaut), model=tiny_model))


@pytest.fixture
def path(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "a.vqz"
    path.write_bytes(data)
    return path


@pytest.fixture
def picture(data: bytes) -> Iterator[PIL.Image.Image]:
    with PIL.Image.open(io.BytesIO(data)) as picture:
        yield picture


@pytest.fixture(scope="module")
def expected(data: bytes, tiny_model: Path) -> np.ndarray:
    return codec.decompress(data, model=tiny_model).pixels


@pytest.fixture
def truncated_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.ImageFile, "LOAD_TRUNCATED_IMAGES", True)


def test_open_and_load(path: Path, expected: np.ndarray) -> None:
    with PIL.Image.open(path) as picture:
        assert (picture.format, picture.mode, picture.size) == ("VQZ", "RGB", (128, 96))
        assert picture.format_description == "vqcodec"
        assert picture.get_format_mimetype() == "image/x-vqz"
        assert picture.load() is not None
        np.testing.assert_array_equal(np.asarray(picture), expected)
    path.unlink()  # nothing holds it


def test_extension_is_registered() -> None:
    assert PIL.Image.registered_extensions()[".vqz"] == "VQZ"


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_modes_come_back(model: Path, mode: str) -> None:
    stream = io.BytesIO()
    size = (20, 10)
    original = PIL.Image.linear_gradient("L").resize(size).convert("RGBA")
    original.putalpha(PIL.Image.radial_gradient("L").resize(size))
    original.convert(mode).save(stream, "VQZ", model=model)
    with PIL.Image.open(stream) as picture:
        assert (picture.mode, picture.size) == (mode, size)
        picture.load()
        assert picture.mode == mode
        if "A" in mode:
            assert picture.getchannel("A").tobytes() == original.getchannel("A").tobytes()


@pytest.mark.parametrize(
    "options",
    [{}, {"quality": 3}, {"quality": 1, "effort": 1}, {"size": 440}, {"bpp": 0.25}, {"tile": 32}],
)
def test_save_takes_the_options_of_compress(
    model: Path, astronaut: Path, options: dict[str, Any]
) -> None:
    stream = io.BytesIO()
    with PIL.Image.open(astronaut) as picture:
        picture.save(stream, format="VQZ", model=model, optimize=True, **options)
        assert stream.getvalue() == bytes(codec.compress(picture, model=model, **options))


@pytest.mark.parametrize("options", [{"quality": 0}, {"size": 1}, {"quality": 1, "psnr": 30.0}])
def test_options_that_cannot_be_are_told_and_leave_no_file(
    model: Path, tmp_path: Path, options: dict[str, float]
) -> None:
    target = tmp_path / "a.vqz"
    with pytest.raises(OSError, match=r"give|reach|exclude"):
        PIL.Image.new("RGB", (8, 8)).save(target, model=model, **options)
    assert not target.exists()


def test_a_mode_that_cannot_be_stored_is_told(model: Path) -> None:
    with pytest.raises(OSError, match="floating-point"):
        PIL.Image.new("F", (8, 8)).save(io.BytesIO(), "VQZ", model=model)


def test_profile_is_kept_or_given(model: Path) -> None:
    own = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    for options, expected in (
        ({}, own),
        ({"icc_profile": None}, None),
        ({"icc_profile": own + b"another"}, own + b"another"),
    ):
        original = PIL.Image.new("RGB", (8, 8))
        original.info["icc_profile"] = own
        stream = io.BytesIO()
        original.save(stream, "VQZ", model=model, **options)
        with PIL.Image.open(stream) as picture:
            assert picture.info.get("icc_profile") == expected


@pytest.mark.parametrize("as_bytes", [False, True])
def test_exif_is_stored_and_its_orientation_applied(model: Path, as_bytes: bool) -> None:
    exif = PIL.Image.Exif()
    exif[Base.Artist] = "A. Painter"
    exif[Base.Orientation] = 6
    stream = io.BytesIO()
    PIL.Image.new("RGB", (16, 8)).save(
        stream, "VQZ", model=model, exif=exif.tobytes() if as_bytes else exif
    )
    with PIL.Image.open(stream) as picture:
        assert picture.size == (8, 16)
        assert dict(picture.getexif()) == {Base.Artist: "A. Painter"}


def test_draft(picture: PIL.Image.Image, expected: np.ndarray) -> None:
    assert picture.draft("RGB", (30, 20)) == ("RGB", (0, 0, 32, 24))
    assert picture.size == (32, 24)
    picture.load()
    assert picture.size == picture.im.size == (32, 24)
    means = expected.reshape(24, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(np.asarray(picture) - means).max() <= 1
    assert picture.draft("RGB", (10, 10)) is None  # too late


def test_draft_at_the_size_is_the_whole(picture: PIL.Image.Image, expected: np.ndarray) -> None:
    assert picture.draft(None, None) is None
    assert picture.draft("L", (100, 90)) == ("RGB", (0, 0, 128, 96))
    np.testing.assert_array_equal(np.asarray(picture), expected)


def test_thumbnail_decodes_coarse_levels_only(
    picture: PIL.Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = []
    decode = Tiles.decode

    def count(self: Tiles, *arguments: object) -> object:
        levels.append(arguments)
        return decode(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Tiles, "decode", count)
    picture.thumbnail((8, 8))
    picture.load()
    assert picture.size == picture.im.size == (8, 6)
    assert len(levels) == 1


@pytest.mark.parametrize("size", [(8, 8), (50, 7), (33, 100), (1, 1), (300, 300), (20.5, 90.0)])
def test_thumbnails_are_as_large_as_those_of_other_formats(
    picture: PIL.Image.Image, size: tuple[float, float]
) -> None:
    other = PIL.Image.new("RGB", picture.size)
    other.thumbnail(size)
    picture.thumbnail(size)
    picture.load()
    assert picture.size == picture.im.size == other.size


def test_verify(path: Path, data: bytes) -> None:
    with PIL.Image.open(path) as picture:
        picture.verify()
        with pytest.raises(RuntimeError, match="directly after open"):
            picture.verify()
    damaged = bytearray(data)
    damaged[-20] ^= 1
    path.write_bytes(damaged)
    for check in ("verify", "load"):
        with PIL.Image.open(path) as picture, pytest.raises(OSError, match=r"a\.vqz: .*checksum"):
            getattr(picture, check)()


@pytest.mark.parametrize("length", [0, 3, 4, 20])
def test_cut_inside_the_header_is_not_identified(data: bytes, length: int) -> None:
    with pytest.raises(PIL.UnidentifiedImageError):
        PIL.Image.open(io.BytesIO(data[:length]))


def test_cut_short_is_told(data: bytes) -> None:
    for length in (len(data) - 1, len(data) // 2):
        with (
            PIL.Image.open(io.BytesIO(data[:length])) as picture,
            pytest.raises(OSError, match="is cut short"),
        ):
            picture.load()
        with (
            PIL.Image.open(io.BytesIO(data[:length])) as picture,
            pytest.raises(OSError, match="is cut short"),
        ):
            picture.verify()


@pytest.mark.usefixtures("truncated_allowed")
def test_cut_short_gives_what_coarse_levels_hold_if_allowed(data: bytes, model: Path) -> None:
    found = set()
    for length in range(36, len(data), 9):
        cut = data[:length]
        there = len(container.salvage(cut).sections)
        found.add(there)
        with PIL.Image.open(io.BytesIO(cut)) as picture:
            if not there:
                with pytest.raises(OSError, match="holds 0 of 3 complete levels"):
                    picture.load()
                continue
            coarse = codec.decompress(data, model=model, levels=there)
            np.testing.assert_array_equal(np.asarray(picture), coarse.pixels)
    assert found >= {0, 1, 2}


def test_missing_weights_are_told(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vqcodec.pillow, "MODEL", None)
    with PIL.Image.open(io.BytesIO(data)) as picture, pytest.raises(OSError, match="tiny-test"):
        picture.load()


@pytest.mark.parametrize("content", [b"", b"no image at all", MAGIC + b"\xff" * 60])
def test_what_is_none_is_not_identified(content: bytes) -> None:
    with pytest.raises(PIL.UnidentifiedImageError):
        PIL.Image.open(io.BytesIO(content))
    with pytest.raises(SyntaxError):
        vqcodec.pillow.VqzImageFile(io.BytesIO(content))


def test_there_is_one_frame(picture: PIL.Image.Image) -> None:
    assert picture.tell() == 0
    picture.seek(0)
    with pytest.raises(EOFError):
        picture.seek(1)
    assert len(list(PIL.ImageSequence.Iterator(picture))) == 1


@pytest.mark.parametrize("step", [7, 100, 10_000])
def test_parser(data: bytes, expected: np.ndarray, step: int) -> None:
    parser = PIL.ImageFile.Parser()
    for start in range(0, len(data), step):
        parser.feed(data[start : start + step])
    np.testing.assert_array_equal(np.asarray(parser.close()), expected)


def test_copies(picture: PIL.Image.Image, expected: np.ndarray) -> None:
    for other in (picture.copy(), copy.copy(picture), pickle.loads(pickle.dumps(picture))):
        np.testing.assert_array_equal(np.asarray(other), expected)


def test_streams_stay_open(data: bytes) -> None:
    stream = io.BytesIO(data)
    with PIL.Image.open(stream) as picture:
        picture.load()
    assert not stream.closed


def test_matplotlib_reads_files(path: Path, expected: np.ndarray) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    np.testing.assert_array_equal(pyplot.imread(path), expected)


def test_a_dataset_of_files(path: Path, expected: np.ndarray) -> None:
    """That of the README."""
    code = re.search(r"```python\n(import PIL.Image\n.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    loader = torch.utils.data.DataLoader(names["Folder"](path.parent), batch_size=1)
    (batch,) = loader
    np.testing.assert_array_equal(batch[0].permute(1, 2, 0).numpy(), expected)
