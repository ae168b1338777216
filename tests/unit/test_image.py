from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageCms
import pytest

from vqcodec import container, image
from vqcodec.errors import CodecError, FormatError, ImageError, OutputError
from vqcodec.image import Image, as_image

ORIENTATION = 0x0112
MAKE = 0x010F
# How a stored picture is turned upright, by EXIF orientation.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.swapaxes(a, 0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a),
}


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def encode(pixels: Any, format: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    picture = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    if mode is not None:
        picture = picture.convert(mode)
    stream = io.BytesIO()
    picture.save(stream, format=format, **options)
    return stream.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data does not bear out."""
    encoded = bytearray(encode(noise(2, 2)))
    encoded[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    encoded[29:33] = zlib.crc32(encoded[12:29]).to_bytes(4, "big")
    return bytes(encoded)


def exif_with(**tags: int | str) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[MAKE] = tags.get("make", "Maker")
    if "orientation" in tags:
        exif[ORIENTATION] = tags["orientation"]
    return exif


def profile(colour_space: bytes = b"RGB ") -> bytes:
    icc = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    return icc[:16] + colour_space + icc[20:]


class TestLoad:
    def test_rgb(self) -> None:
        pixels = noise(5, 7, 3)
        loaded = image.load(encode(pixels))
        np.testing.assert_array_equal(loaded.pixels, pixels)
        assert loaded.pixels.dtype == np.uint8
        assert (loaded.grey, loaded.alpha, loaded.icc, loaded.exif) == (False, None, None, None)

    def test_rgba(self) -> None:
        pixels = noise(5, 7, 4)
        loaded = image.load(encode(pixels))
        np.testing.assert_array_equal(loaded.pixels, pixels[:, :, :3])
        np.testing.assert_array_equal(loaded.alpha, pixels[:, :, 3])
        assert not loaded.grey

    def test_opaque_alpha_is_kept(self) -> None:
        loaded = image.load(encode(noise(5, 7, 3), mode="RGBA"))
        np.testing.assert_array_equal(loaded.alpha, np.full((5, 7), 255))

    def test_grey(self) -> None:
        luma = noise(5, 7)
        loaded = image.load(encode(luma))
        assert loaded.grey
        assert loaded.alpha is None
        for channel in range(3):
            np.testing.assert_array_equal(loaded.pixels[:, :, channel], luma)

    def test_grey_with_alpha(self) -> None:
        channels = noise(5, 7, 2)
        loaded = image.load(encode(channels))
        assert loaded.grey
        np.testing.assert_array_equal(loaded.pixels[:, :, 1], channels[:, :, 0])
        np.testing.assert_array_equal(loaded.alpha, channels[:, :, 1])

    def test_one_bit(self) -> None:
        bits = noise(5, 7) > 127
        loaded = image.load(encode(bits))
        assert loaded.grey
        np.testing.assert_array_equal(loaded.pixels[:, :, 2], bits * 255)

    @pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
    def test_16_bit_grey_is_rounded_to_8_bits(self, format: str) -> None:
        deep = np.array([[0, 128, 129, 257], [32767, 32768, 65406, 65535]], np.uint16)
        loaded = image.load(encode(deep, format))
        assert loaded.grey
        np.testing.assert_array_equal(
            loaded.pixels[:, :, 0], np.rint(deep.astype(float) / 257).astype(np.uint8)
        )

    def test_16_bit_grey_with_a_transparent_value(self) -> None:
        deep = np.array([[0, 300, 301]], np.uint16)
        loaded = image.load(encode(deep, transparency=300))
        np.testing.assert_array_equal(loaded.alpha, [[255, 0, 255]])

    def test_32_bit_grey_out_of_range(self) -> None:
        with pytest.raises(ImageError, match=r"outside 0\.\.65535; convert it"):
            image.load(encode(np.array([[65536]], np.int32), "TIFF"))

    def test_floating_point(self) -> None:
        with pytest.raises(ImageError, match="floating-point pixels; convert it"):
            image.load(encode(np.zeros((2, 2), np.float32), "TIFF"))

    def test_palette(self) -> None:
        picture = PIL.Image.fromarray(noise(5, 7, 3)).quantize(16)
        loaded = image.load(encode(picture))
        np.testing.assert_array_equal(loaded.pixels, np.asarray(picture.convert("RGB")))
        assert loaded.alpha is None
        assert not loaded.grey

    @pytest.mark.parametrize("transparency", [3, bytes(range(0, 256, 16))])
    def test_palette_with_transparency(self, transparency: int | bytes) -> None:
        indices = noise(5, 7) // 16
        picture = PIL.Image.fromarray(indices)
        picture = picture.convert("P")
        picture.putdata(indices.ravel().tolist())
        picture.putpalette(list(range(48)))
        loaded = image.load(encode(picture, transparency=transparency))
        if isinstance(transparency, int):
            expected = np.where(indices == transparency, 0, 255)
        else:
            expected = indices * 16
        np.testing.assert_array_equal(loaded.alpha, expected)
        np.testing.assert_array_equal(loaded.pixels[:, :, 0], indices * 3)

    @pytest.mark.parametrize(
        ("pixels", "transparency", "expected"),
        [
            (np.array([[7, 8]], np.uint8), 7, [[0, 255]]),
            (np.array([[[1, 2, 3], [1, 2, 4]]], np.uint8), (1, 2, 3), [[0, 255]]),
        ],
    )
    def test_transparent_colour(
        self, pixels: npt.NDArray[np.uint8], transparency: Any, expected: list[list[int]]
    ) -> None:
        loaded = image.load(encode(pixels, transparency=transparency))
        np.testing.assert_array_equal(loaded.alpha, expected)

    def test_cmyk(self) -> None:
        picture = PIL.Image.new("CMYK", (3, 2), (255, 0, 0, 0))
        loaded = image.load(encode(picture, "TIFF"))
        np.testing.assert_array_equal(loaded.pixels, np.full((2, 3, 3), (0, 255, 255)))

    @pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
    def test_first_frame_of_an_animation(self, format: str) -> None:
        frames = [PIL.Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
        options = {"lossless": True} if format == "WEBP" else {}
        encoded = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
        loaded = image.load(encoded)
        np.testing.assert_array_equal(loaded.pixels, np.full((3, 4, 3), (255, 0, 0)))

    @pytest.mark.parametrize("orientation", UPRIGHT)
    @pytest.mark.parametrize("format", ["PNG", "TIFF"])
    def test_orientation(self, format: str, orientation: int) -> None:
        pixels = noise(5, 7, 3)
        encoded = encode(pixels, format, exif=exif_with(orientation=orientation))
        loaded = image.load(encoded)
        np.testing.assert_array_equal(loaded.pixels, UPRIGHT[orientation](pixels))

    @pytest.mark.parametrize("orientation", UPRIGHT)
    def test_orientation_turns_alpha_and_16_bit_grey(self, orientation: int) -> None:
        exif = exif_with(orientation=orientation)
        channels, deep = noise(5, 7, 4), noise(5, 7).astype(np.uint16) * 257
        with_alpha = image.load(encode(channels, exif=exif))
        np.testing.assert_array_equal(with_alpha.alpha, UPRIGHT[orientation](channels[:, :, 3]))
        grey = image.load(encode(deep, exif=exif))
        np.testing.assert_array_equal(grey.pixels[:, :, 0], UPRIGHT[orientation](noise(5, 7)))

    @pytest.mark.parametrize("kind", [str, Path])
    def test_by_name(self, tmp_path: Path, kind: type) -> None:
        pixels = noise(5, 7, 3)
        (tmp_path / "a.png").write_bytes(encode(pixels))
        np.testing.assert_array_equal(image.load(kind(tmp_path / "a.png")).pixels, pixels)


class TestMetadata:
    def test_dropped_unless_asked_for(self) -> None:
        loaded = image.load(encode(noise(5, 7, 3), icc_profile=profile(), exif=exif_with()))
        assert (loaded.icc, loaded.exif) == (None, None)

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
    def test_kept(self, format: str) -> None:
        encoded = encode(noise(5, 7, 3), format, icc_profile=profile(), exif=exif_with())
        loaded = image.load(encoded, keep_metadata=True)
        assert loaded.icc == profile()
        assert loaded.exif is not None
        assert loaded.exif.startswith(b"Exif\0\0")
        assert b"Maker" in loaded.exif

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
    def test_orientation_is_reset(self, format: str) -> None:
        encoded = encode(noise(5, 7, 3), format, exif=exif_with(orientation=6))
        loaded = image.load(encoded, keep_metadata=True)
        assert loaded.pixels.shape == (7, 5, 3)
        exif = PIL.Image.Exif()
        exif.load(loaded.exif)
        assert exif.get(ORIENTATION, 1) == 1
        assert exif[MAKE] == "Maker"

    def test_profile_of_other_channels_is_dropped(self) -> None:
        cmyk = PIL.Image.new("CMYK", (3, 2))
        encoded = encode(cmyk, "TIFF", icc_profile=profile(b"CMYK"))
        assert image.load(encoded, keep_metadata=True).icc is None
        grey = encode(noise(5, 7), icc_profile=profile(b"GRAY"))
        assert image.load(grey, keep_metadata=True).icc == profile(b"GRAY")

    @pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x"])
    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
    def test_broken_exif_does_not_cost_the_image(self, format: str, exif: bytes) -> None:
        loaded = image.load(encode(noise(5, 7, 3), format, exif=exif), keep_metadata=True)
        assert loaded.pixels.shape == (5, 7, 3)


class TestRefused:
    def test_not_an_image(self) -> None:
        with pytest.raises(ImageError, match="of no known kind; convert it"):
            image.load(b"some text")

    def test_empty(self) -> None:
        with pytest.raises(ImageError):
            image.load(b"")

    def test_vector_formats_are_not_rendered(self) -> None:
        with pytest.raises(ImageError, match="of no known kind"):
            image.load(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
    def test_truncated(self, format: str) -> None:
        encoded = encode(noise(20, 20, 3), format)
        for length in range(0, len(encoded) - len(encoded) // 4, 37):
            with pytest.raises(ImageError) as caught:
                image.load(encoded[:length])
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("width", "height"),
        [(1 << 15, 1 << 14), ((1 << 14) + 1, 1 << 14), ((1 << 20) + 1, 1), (1, (1 << 20) + 1)],
    )
    def test_too_large(self, width: int, height: int) -> None:
        with pytest.raises(ImageError, match=r"pixels.*reduce it"):
            image.load(png_claiming(width, height))

    def test_limit_is_the_containers(self) -> None:
        assert (image.MAX_PIXELS, image.MAX_SIDE) == (container.MAX_PIXELS, container.MAX_SIDE)

    def test_as_large_as_allowed_is_tried(self) -> None:
        with pytest.raises(ImageError, match="cannot be decoded"):
            image.load(png_claiming(1 << 20, 16))

    def test_limits_of_pillow_are_put_back(self) -> None:
        before, filters = PIL.Image.MAX_IMAGE_PIXELS, list(warnings.filters)
        with pytest.raises(ImageError):
            image.load(png_claiming(1 << 20, 1 << 20))
        assert before == PIL.Image.MAX_IMAGE_PIXELS
        assert filters == warnings.filters

    def test_names_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"some text")
        with pytest.raises(ImageError, match=r"a\.png: the image is of no known kind"):
            image.load(tmp_path / "a.png")
        with pytest.raises(CodecError, match=r"b\.png: no such file"):
            image.load(tmp_path / "b.png")


def arrays() -> list[npt.NDArray[np.uint8]]:
    """What people have, laid out in memory in every way."""
    plain = [noise(5, 7, 3), noise(5, 7, 4), noise(5, 7), noise(5, 7, 1), noise(5, 7, 2)]
    return [*plain, plain[0][:, ::-2], plain[1].transpose(1, 0, 2), np.asfortranarray(plain[2])]


class TestWhatPeopleHave:
    @pytest.mark.parametrize("array", arrays(), ids=lambda array: str(array.shape))
    def test_arrays_come_back_as_they_are(self, array: npt.NDArray[np.uint8]) -> None:
        found = as_image(array)
        found.check()
        assert found.grey == (array.ndim == 2 or array.shape[2] < 3)
        assert found.pixels.flags.c_contiguous
        assert np.array_equal(np.asarray(found), array.squeeze())

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
    def test_pillow_images_come_back_as_they_are(self, mode: str) -> None:
        picture = PIL.Image.fromarray(noise(5, 7, 4)).convert(mode)
        found = as_image(picture).to_pil()
        assert found.mode == mode
        assert found.tobytes() == picture.tobytes()

    def test_pillow_images_are_turned_upright_and_left_alone(self) -> None:
        pixels = noise(4, 6, 3)
        encoded = encode(pixels, exif=exif_with(orientation=6))
        with PIL.Image.open(io.BytesIO(encoded)) as picture:
            found = as_image(picture)
            assert picture.size == (6, 4)
        assert np.array_equal(found.pixels, UPRIGHT[6](pixels))

    def test_to_pil_has_the_metadata(self) -> None:
        picture = Image(noise(2, 3, 3), icc=b"profile", exif=b"Exif\0\0").to_pil()
        assert (picture.info["icc_profile"], picture.info["exif"]) == (b"profile", b"Exif\0\0")

    def test_an_array_of_an_image_has_the_type_asked_for(self) -> None:
        image = Image(noise(2, 3, 3))
        assert np.asarray(image, dtype=np.float32).dtype == np.float32
        assert np.array(image) is not image.pixels

    @pytest.mark.parametrize(
        ("what", "named"),
        [
            (noise(4, 4, 3).astype(np.float32), r"float32 \[4, 4, 3\]"),
            (noise(4, 4, 3) > 9, r"bool \[4, 4, 3\]"),
            (noise(4, 4, 5), r"uint8 \[4, 4, 5\]"),
            (noise(4), r"uint8 \[4\]"),
            (noise(2, 4, 4, 3), r"uint8 \[2, 4, 4, 3\]"),
            ("photo.png", "a str"),
            (None, "a NoneType"),
        ],
    )
    def test_what_is_no_image_is_told_what_to_be(self, what: Any, named: str) -> None:
        with pytest.raises(ImageError, match=f"{named} is no image; give"):
            as_image(what)

    def test_empty_arrays_are_refused(self) -> None:
        with pytest.raises(ImageError, match="the least is 1 x 1"):
            as_image(np.zeros((0, 4, 3), np.uint8))


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
        restored = image.load(encoded, keep_metadata=True)
        assert (restored.icc, restored.exif) == (profile(), exif)

    @pytest.mark.parametrize("broken", ["JPEG", "no such format"])
    def test_format_that_cannot_hold_it(self, broken: str) -> None:
        with pytest.raises(OutputError, match=r"cannot be written as .*; write a \.png file"):
            image.dump(Image(noise(5, 7, 3), False, noise(5, 7)), broken)

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


class TestAlpha:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 7)])
    def test_round_trip(self, shape: tuple[int, int]) -> None:
        restored = image.load_alpha(image.dump_alpha(noise(*shape)), *shape)
        np.testing.assert_array_equal(restored, noise(*shape))
        assert restored.flags.writeable

    def test_wrong_size(self) -> None:
        with pytest.raises(FormatError, match="kind L, 7 x 5, not L, 5 x 7"):
            image.load_alpha(image.dump_alpha(noise(5, 7)), 7, 5)

    def test_wrong_mode(self) -> None:
        with pytest.raises(FormatError, match="kind RGB"):
            image.load_alpha(encode(noise(5, 7, 3)), 5, 7)

    def test_not_a_png(self) -> None:
        with pytest.raises(FormatError, match="no known kind"):
            image.load_alpha(encode(noise(5, 7), "BMP"), 5, 7)

    def test_truncated(self) -> None:
        encoded = image.dump_alpha(noise(20, 20))
        for length in range(0, len(encoded) - 20, 13):
            with pytest.raises(FormatError):
                image.load_alpha(encoded[:length], 20, 20)

    def test_claims_a_large_image(self) -> None:
        with pytest.raises(FormatError):
            image.load_alpha(png_claiming(1 << 20, 1 << 20), 5, 7)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "BMP", "TIFF"])
def test_the_size_is_read_without_the_pixels(format: str) -> None:
    assert image.size_of(encode(noise(5, 9, 3), format)) == (5, 9)


def test_a_header_is_enough_for_the_size() -> None:
    encoded = encode(noise(50, 90, 3))
    assert image.size_of(encoded[:100]) == (50, 90)
    with pytest.raises(ImageError, match="no known kind"):
        image.size_of(encoded[:4])
    with pytest.raises(ImageError, match="the most is"):
        image.size_of(png_claiming(image.MAX_SIDE + 1, 8))
