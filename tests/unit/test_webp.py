from __future__ import annotations

import io
import struct

import numpy as np
import PIL.Image
import pytest

from vqcodec import webp
from vqcodec.container import LOSSLESS_TILE, Header
from vqcodec.errors import SectionError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(256, size=shape, dtype=np.uint8)


def header_of(pixels: np.ndarray) -> Header:
    return Header.of_lossless(pixels.shape[1], pixels.shape[0], grey=False)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (33, 31), (600, 500)])
def test_round_trip(size: tuple[int, int], quick: bool) -> None:
    pixels = noise(*size, 3)
    (payload,) = webp.encode(pixels, LOSSLESS_TILE, quick=quick)
    np.testing.assert_array_equal(webp.decode([payload], header_of(pixels)), pixels)


@pytest.mark.parametrize("size", [(2, LOSSLESS_TILE + 1), (LOSSLESS_TILE + 3, 1), (1, 20000)])
def test_tiles_of_large_images(size: tuple[int, int]) -> None:
    pixels = noise(*size, 3)
    header = header_of(pixels)
    payloads = webp.encode(pixels, header.tile)
    assert len(payloads) == header.tiles > 1
    np.testing.assert_array_equal(webp.decode(payloads, header), pixels)


def test_a_payload_is_the_chunk_of_a_webp_file() -> None:
    pixels = noise(9, 8, 3)
    (payload,) = webp.encode(pixels, LOSSLESS_TILE)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(
        stream, "WEBP", lossless=True, exact=True, method=6, quality=100
    )
    content = stream.getvalue()
    assert content[:4] == b"RIFF"
    assert content[12:20] == b"VP8L" + struct.pack("<I", len(payload))
    assert content[20:].rstrip(b"\0") == payload.rstrip(b"\0")


def test_a_few_crops_tell_bits_a_pixel() -> None:
    pixels = noise(300, 400, 3)
    assert webp.fewest_bpp(pixels) == pytest.approx(24, rel=0.05)
    assert webp.fewest_bpp(pixels // 128 * 255) == pytest.approx(3, rel=0.1)
    pixels[190:, 260:] = 7  # a plain corner
    assert webp.fewest_bpp(pixels) < 1
    assert webp.fewest_bpp(noise(300, 127, 3)) == 0


@pytest.mark.parametrize("size", [(128, 128), (129, 4000), (3000, 131)])
def test_crops_lie_within_the_image(size: tuple[int, int]) -> None:
    assert webp.fewest_bpp(noise(*size, 3)) == pytest.approx(24, rel=0.05)


def test_the_thorough_way_takes_fewer_bytes() -> None:
    pixels = np.repeat(np.repeat(noise(20, 20, 3) // 128 * 255, 9, 0), 9, 1)
    quick, thorough = (
        sum(map(len, webp.encode(pixels, LOSSLESS_TILE, quick=quick))) for quick in (True, False)
    )
    assert thorough <= quick < pixels.size // 20


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda stream: b"", "no WebP lossless stream"),
        (lambda stream: stream[:4], "no WebP lossless stream"),
        (lambda stream: b"\x2e" + stream[1:], "no opaque WebP lossless stream"),
        (lambda stream: stream[:4] + bytes([stream[4] | 0x10]) + stream[5:], "no opaque"),
        (lambda stream: stream[:4] + bytes([stream[4] | 0x20]) + stream[5:], "no opaque"),
        (lambda stream: stream[:1] + b"\x09" + stream[2:], "10 x 8 pixels, not 9 x 8"),
        (lambda stream: stream[:5], "cannot be decoded"),
        (lambda stream: stream[: len(stream) // 2], "cannot be decoded"),
        (lambda stream: stream[:5] + b"\xff" * 40, "cannot be decoded"),
    ],
)
def test_what_is_no_stream_of_the_tile(change: object, expected: str) -> None:
    pixels = noise(8, 9, 3)
    (payload,) = webp.encode(pixels, LOSSLESS_TILE)
    with pytest.raises(SectionError, match=f"{expected}.*; the file is damaged"):
        webp.decode([change(payload)], header_of(pixels))  # type: ignore[operator]


def test_a_lossy_webp_is_refused() -> None:
    stream = io.BytesIO()
    PIL.Image.fromarray(noise(8, 9, 3)).save(stream, "WEBP", quality=80)
    content = stream.getvalue()
    assert content[12:16] == b"VP8 "
    with pytest.raises(SectionError):
        webp.decode([content[20:]], Header.of_lossless(9, 8, grey=False))
