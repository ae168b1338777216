"""More than 8 bits a channel: the right values of integers, and floats only if asked for."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from pictures import UPRIGHT, encode, exif_with, noise, png

from vqcodec import image
from vqcodec.errors import ImageError
from vqcodec.image.depth import tone_mapped

DEEP = np.random.default_rng(1).integers(0, 65536, (6, 9, 4), np.uint16)
EXPECTED = np.rint(DEEP / 257).astype(np.uint8)
LOST = ("depth (16 bits a channel became 8)",)


def tiff(samples: npt.NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("channels", "colour_type"), [(2, 4), (3, 2), (4, 6)])
def test_png_of_several_channels(channels: int, colour_type: int) -> None:
    loaded = image.load(png(DEEP[:, :, :channels], colour_type, depth=16))
    np.testing.assert_array_equal(np.asarray(loaded), EXPECTED[:, :, :channels])
    assert loaded.grey == (channels == 2)
    assert loaded.left_out == LOST


def test_transparent_colour_of_16_bits() -> None:
    colour = DEEP[2, 3, :3]
    encoded = png(DEEP[:, :, :3], 2, (b"tRNS", colour.astype(">u2").tobytes()), depth=16)
    alpha = image.load(encoded).alpha
    assert alpha is not None
    assert np.argwhere(alpha == 0).tolist() == [[2, 3]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_tiff(order: str, compression: str | None, planar: str) -> None:
    samples = DEEP[:, :, :3] if planar == "contig" else np.moveaxis(DEEP[:, :, :3], -1, 0)
    options = {"photometric": "rgb", "planarconfig": planar, "compression": compression}
    loaded = image.load(tiff(samples, byteorder=order, **options))
    np.testing.assert_array_equal(loaded.pixels, EXPECTED[:, :, :3])
    assert loaded.left_out == LOST


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_deep_pictures_are_turned(orientation: int) -> None:
    encoded = png(
        DEEP[:, :, :3], 2, (b"eXIf", exif_with(orientation=orientation).tobytes()[6:]), depth=16
    )
    np.testing.assert_array_equal(
        image.load(encoded).pixels, UPRIGHT[orientation](EXPECTED[:, :, :3])
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_tiff_whose_white_is_zero(order: str) -> None:
    deep = DEEP[:, :, 0]
    loaded = image.load(tiff(65535 - deep, photometric="miniswhite", byteorder=order))
    np.testing.assert_array_equal(np.asarray(loaded), EXPECTED[:, :, 0])


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_a_16_bit_tiff(bits: int) -> None:
    deep = DEEP[:, :, 0] >> (16 - bits)
    deep[0, 0] = 2**bits - 1
    loaded = image.load(tiff(deep))
    np.testing.assert_array_equal(np.asarray(loaded), np.rint(deep / (2**bits - 1) * 255))
    assert loaded.left_out == (
        f"depth ({bits} bits a channel became 8, a guess by its largest value)",
    )


def test_a_tiff_that_tells_its_largest_sample() -> None:
    deep = (DEEP[:, :, 0] >> 4) // 3
    loaded = image.load(tiff(deep, extratags=[(281, "H", 1, 4095, True)]))
    np.testing.assert_array_equal(np.asarray(loaded), np.rint(deep / 4095 * 255))
    assert loaded.left_out == ("depth (12 bits a channel became 8)",)


@pytest.mark.parametrize(
    "samples", [DEEP[:, :, 0].astype(np.int16), DEEP[:, :, 0].astype(np.uint32) << 16]
)
def test_integers_that_are_no_16_bit_samples(samples: npt.NDArray[Any]) -> None:
    with pytest.raises(ImageError, match=r"outside 0\.\.65535; convert it"):
        image.load(tiff(samples))


def photometric(shape: tuple[int, ...]) -> str:
    return "rgb" if len(shape) == 3 else "minisblack"


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 3)])
class TestFloat:
    def test_refused_without_tone_mapping(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ImageError, match="--tone-map makes a picture"):
            image.load(tiff(np.ones(shape, np.float32), photometric=photometric(shape)))

    def test_tone_mapped_if_asked_for(self, shape: tuple[int, ...]) -> None:
        light = noise(*shape).astype(np.float32) * 40
        loaded = image.load(tiff(light, photometric=photometric(shape)), tone_map=True)
        np.testing.assert_array_equal(np.asarray(loaded), tone_mapped(light))
        assert loaded.left_out == ("its range of light (tone-mapped)",)


class TestToneMapping:
    def test_the_brightest_is_white_and_none_is_black(self) -> None:
        shown = tone_mapped(np.array([[0.0, 0.1, 1.0, 1000.0]]))
        assert shown[0, 0] == 0
        assert shown[0, 3] == 255
        assert (np.diff(shown[0].astype(int)) > 0).all()

    def test_an_even_grey_is_shown_as_white(self) -> None:
        assert (tone_mapped(np.full((2, 2), 7.0)) == 255).all()

    def test_the_unit_of_light_does_not_matter(self) -> None:
        light = noise(5, 7, 3) / 255.0
        np.testing.assert_array_equal(tone_mapped(light), tone_mapped(1024 * light))

    def test_what_is_no_light(self) -> None:
        shown = tone_mapped(np.array([[-1.0, np.nan, np.inf, 1.0]]))
        assert shown[0, :3].tolist() == [0, 0, 255]
        assert (tone_mapped(np.zeros((2, 2))) == 0).all()


def test_16_bit_grey_png_is_16_bits_however_dark() -> None:
    deep = DEEP[:, :, 0] >> 6
    np.testing.assert_array_equal(np.asarray(image.load(encode(deep))), np.rint(deep / 257))
