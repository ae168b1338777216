from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from pictures import exif_with, noise, profile

from vqcodec import image
from vqcodec.errors import OutputError
from vqcodec.image import Image


class TestDump:
    @pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
    @pytest.mark.parametrize("alpha", [None, noise(5, 7)])
    def test_rgb_round_trip(self, format: str, alpha: npt.NDArray[np.uint8] | None) -> None:
        restored = image.load(image.dump(Image(noise(5, 7, 3), False, alpha), format))
        np.testing.assert_array_equal(restored.pixels, noise(5, 7, 3))
        np.testing.assert_array_equal(restored.alpha, alpha)
        assert not restored.grey

    @pytest.mark.parametrize(("alpha", "mode"), [(None, "L"), (noise(5, 7), "LA")])
    def test_grey_is_the_rounded_mean(self, alpha: npt.NDArray[np.uint8] | None, mode: str) -> None:
        pixels = noise(5, 7, 3)
        encoded = image.dump(Image(pixels, True, alpha))
        assert PIL.Image.open(io.BytesIO(encoded)).mode == mode
        restored = image.load(encoded)
        expected = np.rint(pixels.mean(axis=2))
        np.testing.assert_array_equal(restored.pixels[:, :, 0], expected)
        np.testing.assert_array_equal(restored.alpha, alpha)
        assert restored.grey

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
    def test_metadata_is_attached(self, format: str) -> None:
        exif = exif_with().tobytes()
        encoded = image.dump(Image(noise(5, 7, 3), False, None, profile(), exif), format)
        restored = image.load(encoded, keep="all")
        assert (restored.icc, restored.exif) == (profile(), exif)

    def test_no_such_format(self) -> None:
        with pytest.raises(OutputError, match=r"cannot be written as .*; write a \.png file"):
            image.dump(Image(noise(5, 7, 3)), "no such format")

    @pytest.mark.parametrize(
        ("name", "format"),
        [("-", "PNG"), ("a.png", "PNG"), ("A.JPG", "JPEG"), (Path("b/a.webp"), "WEBP")],
    )
    def test_format_for(self, name: str | Path, format: str) -> None:
        assert image.format_for(name) == format

    @pytest.mark.parametrize("name", ["a", "a.vqz", ".png", "a.psd"])
    def test_format_for_no_image(self, name: str) -> None:
        with pytest.raises(OutputError, match=r"extension.*write a \.png file"):
            image.format_for(name)


TRANSPARENT = Image(noise(16, 24, 3), alpha=noise(16, 24))
FULL = Image(
    noise(16, 24, 3),
    icc=profile(),
    exif=exif_with().tobytes(),
    xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
    iptc=b"8BIM\x04\x04\0\0\0\0\0\x02ab",
    texts=(("Comment", "shot by owner"),),
)


class TestLosses:
    @pytest.mark.parametrize(
        "format", ["PNG", "WEBP", "TIFF", "BMP", "PPM", "TGA", "JPEG2000", "ICO"]
    )
    def test_colours_are_exact(self, format: str) -> None:
        plain = Image(noise(16, 24, 3))
        encoded = image.dump(plain, format)
        assert image.losses(plain, encoded) == ()
        np.testing.assert_array_equal(image.load(encoded).pixels, plain.pixels)

    @pytest.mark.parametrize(
        ("format", "lost"),
        [
            ("PNG", {"IPTC"}),
            ("JPEG", set()),
            ("WEBP", {"IPTC", "texts"}),
            ("TIFF", {"texts"}),
            ("BMP", {"colour profile", "EXIF", "XMP", "IPTC", "texts"}),
            ("JPEG2000", {"colour profile", "EXIF", "XMP", "IPTC"}),
        ],
    )
    def test_metadata(self, format: str, lost: set[str]) -> None:
        encoded = image.dump(FULL, format)
        told = set(image.losses(FULL, encoded))
        assert told - {"texts"} == lost - {"texts"}
        found = image.load(encoded, keep="all")
        for name, word in (("icc", "colour profile"), ("xmp", "XMP"), ("iptc", "IPTC")):
            assert (getattr(found, name) == getattr(FULL, name)) == (word not in lost)
        if "EXIF" not in lost:
            assert b"Maker" in (found.exif or b"")

    @pytest.mark.parametrize(("format", "least"), [("GIF", 20), ("AVIF", 40)])
    def test_colours_that_are_not_exact(self, format: str, least: float) -> None:
        plain = Image(noise(64, 96, 3))
        (lost,) = image.losses(plain, image.dump(plain, format))
        match = re.fullmatch(r"exact colours \(([\d.]+) dB\)", lost)
        assert match
        assert float(match[1]) > least

    def test_what_cannot_be_read_back_is_not_known(self) -> None:
        plain = Image(noise(16, 24, 3))
        assert image.losses(plain, image.dump(plain, "PDF")) == ()


class TestTransparency:
    @pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "TGA", "ICO", "JPEG2000", "AVIF"])
    def test_kept(self, format: str) -> None:
        found = image.load(image.dump(TRANSPARENT, format)).alpha
        assert found is not None
        assert TRANSPARENT.alpha is not None
        assert np.abs(found.astype(int) - TRANSPARENT.alpha).max() <= (format == "AVIF") * 8

    @pytest.mark.parametrize("format", ["JPEG", "BMP", "PPM", "GIF", "PCX"])
    def test_refused_where_it_would_be_lost(self, format: str) -> None:
        with pytest.raises(
            OutputError, match=rf"transparency, which {format} cannot hold; give --back"
        ):
            image.dump(TRANSPARENT, format)

    @pytest.mark.parametrize("format", ["JPEG", "BMP", "PPM"])
    def test_an_opaque_one_is_none(self, format: str) -> None:
        opaque = Image(noise(16, 24, 3), alpha=np.full((16, 24), 255, np.uint8))
        assert image.dump(opaque, format) == image.dump(Image(noise(16, 24, 3)), format)

    @pytest.mark.parametrize("grey", [False, True])
    def test_on_a_background(self, grey: bool) -> None:
        pixels = np.full((1, 3, 3), 200, np.uint8)
        alpha = np.array([[0, 255, 128]], np.uint8)
        found = image.flattened(Image(pixels, grey, alpha), "#0000ff")
        behind = [85, 85, 85] if grey else [0, 0, 255]
        middle = [round((200 * 128 + each * 127) / 255) for each in behind]
        np.testing.assert_array_equal(found.pixels[0], [behind, [200, 200, 200], middle])
        assert found.alpha is None

    def test_no_such_colour(self) -> None:
        with pytest.raises(OutputError, match="'blurple' is no colour; give one"):
            image.flattened(TRANSPARENT, "blurple")


def test_an_icon_is_not_scaled() -> None:
    with pytest.raises(OutputError, match=r"256 pixels a side.*write a \.png"):
        image.dump(Image(noise(8, 257, 3)), "ICO")


@pytest.mark.parametrize(("size", "kept"), [(60_000, True), (400_000, False)])
def test_exif_that_a_jpeg_has_no_room_for(size: int, kept: bool) -> None:
    exif = exif_with(make="x" * size).tobytes()
    picture = Image(noise(16, 24, 3), exif=exif)
    encoded = image.dump(picture, "JPEG")
    assert (image.load(encoded, keep="all").exif == exif) == kept
    assert image.losses(picture, encoded) == (() if kept else ("EXIF",))


@pytest.mark.parametrize(
    ("name", "format"),
    [("jpg", "JPEG"), ("JPG", "JPEG"), (".tif", "TIFF"), ("jp2", "JPEG2000"), ("png", "PNG")],
)
def test_formats_by_any_name(name: str, format: str) -> None:
    assert image.check_format(name) == format


def test_no_such_format() -> None:
    for function in (image.check_format, image.ending_of):
        with pytest.raises(OutputError, match="'nonsense' is no format"):
            function("nonsense")


@pytest.mark.parametrize(
    ("name", "ending"),
    [("png", ".png"), ("JPG", ".jpg"), (".Tif", ".tif"), ("TIFF", ".tiff"), ("JPEG2000", ".jp2")],
)
def test_endings_of_formats(name: str, ending: str) -> None:
    assert image.ending_of(name) == ending


@pytest.mark.parametrize(
    ("name", "is_picture"),
    [
        ("a.png", True),
        ("A.JPG", True),
        ("a.heic", True),
        ("a.vqz", False),
        ("a", False),
        ("-", False),
    ],
)
def test_names_of_pictures(name: str, is_picture: bool) -> None:
    assert image.names_a_picture(name) == is_picture
