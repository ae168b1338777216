"""Pixels <-> payloads of a lossless file: WebP lossless streams (VP8L, RFC 9649), by Pillow.

A payload is the stream alone: the RIFF file that is mostly around one says nothing more.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import PIL.Image

from vqcodec.container import Header
from vqcodec.errors import ImageError, SectionError
from vqcodec.image.guard import pillow_limits, untrusted
from vqcodec.tiling import Window, split
from vqcodec.watch import stage

SMALL = 1 << 16
"""Pixels up to which the slowest method is used: it takes seconds a megapixel of plain images, ten
times as long of photographs, and saves little."""

_CROP = 64  # pixels a side
_RIFF = struct.Struct("<4sI4s4sI")  # of a file with one chunk: before its content
_STREAM = struct.Struct("<BI")  # signature; 14 bits width - 1, 14 bits height - 1, alpha, version
_SIGNATURE = 0x2F
_DAMAGED = "the file is damaged, get it again"


def encode(pixels: npt.NDArray[np.uint8], tile: int, *, quick: bool = False) -> tuple[bytes, ...]:
    """Pixels to the payloads of their tiles.

    Args:
        pixels: uint8 [H, W, 3].
        tile: Side of a tile, at most 16383.
        quick: Whether to spare time; else the payloads are some percent smaller.

    Returns:
        In raster order of the tiles.
    """
    height, width = pixels.shape[:2]
    method, effort = (4, 75) if quick else (6, 100) if height * width <= SMALL else (4, 100)
    with stage("lossless"):
        return tuple(
            _encoded(pixels[window.slices], method, effort) for window in split(height, width, tile)
        )


def fewest_bpp(pixels: npt.NDArray[np.uint8]) -> float:
    """About how many bits a pixel the plainest of four crops takes, which is soon known.

    Args:
        pixels: uint8 [H, W, 3].

    Returns:
        0 of small images, whose crops would tell little.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < 2 * _CROP:
        return 0.0
    corners = product(*((side // 4, 3 * side // 4) for side in (height, width)))  # middles
    half = _CROP // 2
    crops = (pixels[y - half : y + half, x - half : x + half] for y, x in corners)
    return min(8 * len(_encoded(crop, 1, 0)) / _CROP**2 for crop in crops)


def _encoded(pixels: npt.NDArray[np.uint8], method: int, effort: int) -> bytes:
    stream = io.BytesIO()
    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    picture.save(stream, format="WEBP", lossless=True, exact=True, method=method, quality=effort)
    content = stream.getvalue()
    *_, kind, length = _RIFF.unpack_from(content)
    assert kind == b"VP8L"
    return content[_RIFF.size : _RIFF.size + length]


def decode(payloads: Sequence[bytes], header: Header) -> npt.NDArray[np.uint8]:
    """Payloads to pixels.

    Args:
        payloads: Of a lossless file, in raster order of the tiles.
        header: Of the file.

    Returns:
        uint8 [H, W, 3].

    Raises:
        SectionError: a payload is no such stream, or not of its tile's size.
    """
    windows = split(header.height, header.width, header.tile)
    with stage("lossless"):
        for window, payload in zip(windows, payloads, strict=True):
            _check(payload, window)  # all of them, before anything is allocated
        pixels = np.empty((header.height, header.width, 3), np.uint8)
        for window, payload in zip(windows, payloads, strict=True):
            pixels[window.slices] = _decoded(payload, window)
    return pixels


def _check(payload: bytes, window: Window) -> None:
    if len(payload) < _STREAM.size:
        raise SectionError(f"has a section that is no WebP lossless stream; {_DAMAGED}")
    signature, bits = _STREAM.unpack_from(payload)
    if signature != _SIGNATURE or bits >> 28:
        raise SectionError(f"has a section that is no opaque WebP lossless stream; {_DAMAGED}")
    width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if (width, height) != (window.width, window.height):
        reason = f"has a section of {width} x {height} pixels, not {window.width} x {window.height}"
        raise SectionError(f"{reason}; {_DAMAGED}")


def _decoded(payload: bytes, window: Window) -> npt.NDArray[np.uint8]:
    padding = bytes(len(payload) % 2)
    length = _RIFF.size - 8 + len(payload) + len(padding)
    content = _RIFF.pack(b"RIFF", length, b"WEBP", b"VP8L", len(payload)) + payload + padding
    try:
        with (
            untrusted("a section"),
            pillow_limits(window.height * window.width),
            PIL.Image.open(io.BytesIO(content), formats=["WEBP"]) as picture,
        ):
            return np.array(picture.convert("RGB"))
    except (ImageError, PIL.UnidentifiedImageError) as error:
        reason = "has a section that cannot be decoded as WebP lossless stream"
        raise SectionError(f"{reason}; {_DAMAGED}") from error
