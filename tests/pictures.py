"""Pictures of every kind for tests, as files."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageCms

from vqcodec.image import colour

SIGNATURE = b"\x89PNG\r\n\x1a\n"
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


def as_jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """What a JPEG file of it holds."""
    return np.array(PIL.Image.open(io.BytesIO(encode(pixels, "JPEG", quality=quality))))


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


def png(
    pixels: npt.NDArray[Any], colour_type: int, *chunks: tuple[bytes, bytes], depth: int = 8
) -> bytes:
    """A PNG of samples, [H,W,C], with more chunks before the pixels."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2" if depth == 16 else np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(*part) for part in parts)


def chunk(kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    """A chunk of a PNG, with its checksum or another one."""
    checksum = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


DISPLAY_P3 = colour.profile(
    (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
    grey=False,
)


def profile(colour_space: bytes = b"RGB ") -> bytes:
    """Display P3, or something that says to be of another colour space."""
    return DISPLAY_P3[:16] + colour_space + DISPLAY_P3[20:]


@functools.cache  # each has the time in it
def srgb_profile() -> bytes:
    return PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
