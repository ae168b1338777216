from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from pictures import UPRIGHT, chunk, encode, exif_with, noise, png, png_claiming, profile

from vqcodec import container, image
from vqcodec.errors import CodecError, ImageError
from vqcodec.image import Image, as_image


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
        with pytest.raises(ImageError, match=r"floating-point pixels.*--tone-map"):
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


class TestRefused:
    def test_not_an_image(self) -> None:
        with pytest.raises(ImageError, match="of no known kind; convert it"):
            image.load(b"\0\1\2\3" * 9)

    def test_empty(self) -> None:
        with pytest.raises(ImageError):
            image.load(b"")

    def test_vector_formats_are_not_rendered(self) -> None:
        with pytest.raises(ImageError, match="PostScript document; render it"):
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
        with pytest.raises(ImageError, match=r"a\.png: is text, no picture"):
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
        with pytest.raises(ImageError, match=rf"{named} is no image; give"):
            as_image(what)

    def test_empty_arrays_are_refused(self) -> None:
        with pytest.raises(ImageError, match="the least is 1 x 1"):
            as_image(np.zeros((0, 4, 3), np.uint8))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "BMP", "TIFF"])
def test_the_size_is_read_without_the_pixels(format: str) -> None:
    assert image.size_of(encode(noise(5, 9, 3), format)) == (5, 9)


def test_a_header_is_enough_for_the_size() -> None:
    encoded = encode(noise(50, 90, 3))
    assert image.size_of(encoded[:100]) == (50, 90)
    with pytest.raises(ImageError, match="cannot be read as PNG"):
        image.size_of(encoded[:4])
    with pytest.raises(ImageError, match="the most is"):
        image.size_of(png_claiming(image.MAX_SIDE + 1, 8))


def animation(format: str, colours: list[str]) -> bytes:
    frames = [PIL.Image.new("RGB", (4, 3), colour) for colour in colours]
    options = {"lossless": True} if format == "WEBP" else {}
    return encode(frames[0], format, save_all=True, append_images=frames[1:], **options)


class TestFrames:
    @pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
    def test_any_frame_can_be_taken(self, format: str) -> None:
        encoded = animation(format, ["red", "lime", "blue"])
        assert image.count_frames(encoded) == 3
        loaded = image.load(encoded, frame=2)
        np.testing.assert_array_equal(loaded.pixels, np.full((3, 4, 3), (0, 0, 255)))
        with pytest.raises(ImageError, match="no frame 3; give one from 0 to 2"):
            image.load(encoded, frame=3)

    @pytest.mark.parametrize(
        ("format", "what"), [("GIF", "2 other frames"), ("TIFF", "2 other pages")]
    )
    def test_the_others_are_told(self, format: str, what: str) -> None:
        loaded = image.load(animation(format, ["red", "lime", "blue"]))
        assert loaded.left_out == (f"{what} (--frame)",)

    def test_one_frame_is_all_there_is(self) -> None:
        encoded = encode(noise(5, 7, 3))
        assert image.count_frames(encoded) == 1
        assert image.load(encoded).left_out == ()


def photograph(format: str = "JPEG", **options: Any) -> bytes:
    rows, columns = np.mgrid[0:64, 0:96]
    pixels = np.stack([2 * columns, 3 * rows, rows + columns], axis=2).astype(np.uint8)
    return encode(pixels, format, **options)


class TestDamaged:
    @pytest.mark.parametrize("options", [{}, {"progressive": True}])
    def test_the_beginning_of_a_jpeg_is_taken_if_asked_for(self, options: dict[str, bool]) -> None:
        whole = encode(noise(64, 96, 3), "JPEG", quality=90, **options)
        cut = whole[: len(whole) * 3 // 4]
        with pytest.raises(ImageError, match="--allow-damaged takes"):
            image.load(cut)
        loaded = image.load(cut, allow_damaged=True)
        assert loaded.left_out == ("what is damaged of it",)
        if not options:
            np.testing.assert_array_equal(loaded.pixels[:24], image.load(whole).pixels[:24])

    def test_a_jpeg_without_its_end_loses_nothing(self) -> None:
        whole = photograph(quality=95)
        loaded = image.load(whole[:-2], allow_damaged=True)
        np.testing.assert_array_equal(loaded.pixels, image.load(whole).pixels)

    @pytest.mark.parametrize(("kind", "content"), [(b"tEXt", b"a\0b"), (b"tIME", bytes(7))])
    def test_a_wrong_checksum_beside_the_pixels(self, kind: bytes, content: bytes) -> None:
        encoded = photograph("PNG")
        damaged = encoded[:33] + chunk(kind, content, crc=1) + encoded[33:]
        with pytest.raises(ImageError, match=rf"wrong checksum of its {kind.decode()}"):
            image.load(damaged)
        loaded = image.load(damaged, allow_damaged=True)
        np.testing.assert_array_equal(loaded.pixels, image.load(encoded).pixels)

    def test_a_wrong_checksum_of_the_pixels(self) -> None:
        encoded = bytearray(photograph("PNG"))
        start = encoded.index(b"IDAT")
        length = int.from_bytes(encoded[start - 4 : start], "big")
        encoded[start + 4 + length] ^= 1
        with pytest.raises(ImageError, match="wrong checksum of its pixels"):
            image.load(encoded)
        loaded = image.load(encoded, allow_damaged=True)
        np.testing.assert_array_equal(loaded.pixels, image.load(photograph("PNG")).pixels)

    def test_a_whole_picture_is_not_said_to_be_damaged(self) -> None:
        assert image.load(photograph(), allow_damaged=True).left_out == ()

    def test_what_is_no_picture_stays_refused(self) -> None:
        with pytest.raises(ImageError, match="is text"):
            image.load(b"some text", allow_damaged=True)

    def test_a_large_text_is_no_damage(self) -> None:
        encoded = png(noise(5, 7, 3), 2, (b"tEXt", b"workflow\0" + b"x" * 2_000_000))
        np.testing.assert_array_equal(image.load(encoded).pixels, noise(5, 7, 3))

    def test_a_text_that_is_a_bomb(self) -> None:
        bomb = b"x\0\0" + zlib.compress(bytes(20 << 20))
        encoded = png(noise(5, 7, 3), 2, (b"zTXt", bomb))
        with pytest.raises(ImageError, match="more than 16 MiB; --allow-damaged"):
            image.load(encoded)
        loaded = image.load(encoded, allow_damaged=True)
        np.testing.assert_array_equal(loaded.pixels, noise(5, 7, 3))

    def test_libtiff_prints_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        encoded = encode(noise(64, 96, 3), "TIFF", compression="tiff_lzw")
        with pytest.raises(ImageError):
            image.load(encoded[: len(encoded) // 2] + bytes(len(encoded) // 2))
        assert capfd.readouterr() == ("", "")

    def test_pillow_logs_nothing_to_standard_error(
        self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
        encoded = bytearray(encode(noise(5, 7, 3), "TIFF"))
        (first,) = struct.unpack_from("<I", encoded, 4)
        (count,) = struct.unpack_from("<H", encoded, first)
        samples_per_pixel = next(
            place
            for place in range(first + 2, first + 2 + 12 * count, 12)
            if struct.unpack_from("<H", encoded, place) == (277,)
        )
        struct.pack_into("<H", encoded, samples_per_pixel + 8, 7)
        with pytest.raises(ImageError):
            image.size_of(bytes(encoded))
        assert capfd.readouterr() == ("", "")


class TestSources:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
    def test_bytes_of_any_kind_and_open_files(self, kind: Any) -> None:
        loaded = image.load(kind(encode(noise(5, 7, 3))))
        np.testing.assert_array_equal(loaded.pixels, noise(5, 7, 3))

    def test_an_open_file_of_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("x")
        with (tmp_path / "a.txt").open() as stream, pytest.raises(ImageError, match="mode 'rb'"):
            image.load(stream)  # type: ignore[arg-type]

    def test_what_is_no_file(self) -> None:
        with pytest.raises(ImageError, match="a int is no file"):
            image.load(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_once(format: str, orientation: int) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = (250, 20, 20)  # a red corner at the upper left
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored = np.ascontiguousarray(UPRIGHT[inverse](upright))
    encoded = encode(stored, format, exif=exif_with(orientation=orientation), quality=95)
    for keep in ("none", "common", "all"):
        loaded = image.load(encoded, keep=keep)  # type: ignore[arg-type]
        assert loaded.pixels.shape == upright.shape
        assert np.abs(loaded.pixels.astype(int) - upright)[2:14, 2:14].max() < 16
        again = image.load(image.dump(loaded))
        np.testing.assert_array_equal(again.pixels, loaded.pixels)


@pytest.mark.parametrize("what", [{"icc": "sRGB"}, {"exif": 5}, {"alpha": "none"}, {"pixels": "x"}])
def test_images_of_wrong_types_are_refused(what: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match="; give"):
        as_image(Image(**{"pixels": noise(2, 3, 3), **what}))


def test_a_pillow_image_keeps_its_profile() -> None:
    encoded = encode(noise(5, 7, 3), icc_profile=profile(), exif=exif_with())
    with PIL.Image.open(io.BytesIO(encoded)) as picture:
        found = as_image(picture)
    assert found.icc == profile()
    assert found.exif is not None


def test_endings_are_of_all_kinds_that_are_read() -> None:
    import vqcodec.pillow  # noqa: F401  tells Pillow of .vqz

    wanted = {".png", ".jpeg", ".jpg", ".tif", ".webp", ".gif", ".heic", ".jxl", ".exr", ".nef"}
    assert wanted <= image.endings()
    assert not {".vqz", ".eps", ".wmf", ".pdf", ".mpg", ".h5", ".txt", ""} & image.endings()
