from __future__ import annotations

import zlib

import numpy as np
import pytest
from pictures import encode, exif_with, noise, png_claiming, profile

from vqcodec import container, image
from vqcodec.errors import FormatError, SectionError
from vqcodec.image import Image


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
        with pytest.raises(FormatError, match="no PNG"):
            image.load_alpha(encode(noise(5, 7), "BMP"), 5, 7)

    def test_truncated(self) -> None:
        encoded = image.dump_alpha(noise(20, 20))
        for length in range(0, len(encoded) - 20, 13):
            with pytest.raises(FormatError):
                image.load_alpha(encoded[:length], 20, 20)

    def test_claims_a_large_image(self) -> None:
        with pytest.raises(FormatError):
            image.load_alpha(png_claiming(1 << 20, 1 << 20), 5, 7)


FULL = Image(
    noise(5, 7, 3),
    alpha=noise(5, 7),
    icc=profile(),
    exif=exif_with().tobytes() * 9,
    xmp=b"<x/>",
    iptc=b"8BIM" + bytes(90),
    texts=(("Title", "Größe"), ("Comment", "")),
)


def container_of(extras: dict[int, bytes]) -> container.Container:
    header = container.Header(7, 5, False, "tiny", bytes(8), tile=32, quality=1, levels=1)
    return container.Container(header, extras, ((b"",),), indices_crc=0, complete=True)


class TestExtras:
    def test_round_trip(self) -> None:
        packed = container.pack(container_of(image.extras_of(FULL)))
        restored = image.image_of(container.unpack(packed), FULL.pixels)
        for name in ("alpha", "icc", "exif", "xmp", "iptc", "texts"):
            np.testing.assert_array_equal(getattr(restored, name), getattr(FULL, name))

    def test_deflated_where_that_is_smaller(self) -> None:
        extras = image.extras_of(FULL)
        assert container.EXTRA_XMP in extras  # four bytes are not worth it
        deflated = container.EXTRA_ICC | container.DEFLATED
        assert zlib.decompress(extras[deflated]) == FULL.icc
        assert len(extras[deflated]) < len(profile())

    def test_extras_of_before_are_read(self) -> None:
        extras = {container.EXTRA_ICC: b"profile", container.EXTRA_EXIF: b"Exif\0\0"}
        restored = image.image_of(container_of(extras), FULL.pixels)
        assert (restored.icc, restored.exif) == (b"profile", b"Exif\0\0")

    @pytest.mark.parametrize(
        ("extras", "words"),
        [
            ({2 | 128: b"rubbish"}, "extra 2 that is not deflated"),
            ({2 | 128: zlib.compress(b"a" * 99)[:-3]}, "not all in extra 2"),
            ({2 | 128: zlib.compress(b"a") + b"more"}, "not all in extra 2"),
            ({3 | 128: zlib.compress(bytes((64 << 20) + 1))}, "more than 67108864 bytes"),
            ({5: b"a", 5 | 128: zlib.compress(b"a")}, "has extra 5 twice"),
            ({7: b"\xff\0\0"}, "texts that are not UTF-8"),
            ({7: b"keyword\0"}, "texts without keywords"),
            ({7: b"keyword\0text"}, "texts without keywords"),
        ],
    )
    def test_malformed(self, extras: dict[int, bytes], words: str) -> None:
        with pytest.raises(SectionError, match=words):
            image.image_of(container_of(extras), FULL.pixels)


class TestEconomical:
    def test_opaque_alpha_is_left_out(self) -> None:
        opaque = Image(noise(5, 7, 3), alpha=np.full((5, 7), 255, np.uint8))
        found = image.economical(opaque)
        assert found.alpha is None
        assert found.pixels is opaque.pixels

    def test_what_is_seen_stays(self) -> None:
        alpha = noise(40, 56) // 64 * 85
        found = image.economical(Image(noise(40, 56, 3), alpha=alpha))
        np.testing.assert_array_equal(found.alpha, alpha)
        np.testing.assert_array_equal(found.pixels[alpha > 0], noise(40, 56, 3)[alpha > 0])

    def test_hidden_colours_are_the_nearest_of_their_row(self) -> None:
        pixels = np.array(
            [[[n] * 3 for n in (10, 20, 30, 40, 50)], [[n] * 3 for n in (1, 2, 3, 4, 5)]]
        )
        alpha = np.array([[0, 255, 0, 0, 9], [0] * 5], np.uint8)
        found = image.economical(Image(pixels.astype(np.uint8), alpha=alpha))
        row = [20, 20, 20, 50, 50]
        np.testing.assert_array_equal(found.pixels[:, :, 0], [row, row])

    def test_nothing_is_seen(self) -> None:
        found = image.economical(Image(noise(5, 7, 3), alpha=np.zeros((5, 7), np.uint8)))
        assert (found.pixels == 128).all()

    def test_no_alpha_or_nothing_hidden_is_left_as_it_is(self) -> None:
        for picture in (Image(noise(5, 7, 3)), Image(noise(5, 7, 3), alpha=noise(5, 7) | 1)):
            assert image.economical(picture).pixels is picture.pixels
