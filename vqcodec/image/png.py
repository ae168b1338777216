"""The chunks of a PNG file that Pillow keeps to itself."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from vqcodec.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")
_CRC_LENGTH = 4


def chunks(encoded: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Type, content and whether the checksum is right of each chunk, up to where the file ends.

    Args:
        encoded: A PNG file.
    """
    view = memoryview(encoded)
    start = len(SIGNATURE)
    while start + _HEAD.size + _CRC_LENGTH <= len(encoded):
        length, kind = _HEAD.unpack_from(encoded, start)
        end = start + _HEAD.size + length
        checksum = view[end : end + _CRC_LENGTH]
        if len(checksum) < _CRC_LENGTH:
            return
        crc = zlib.crc32(view[start + _CRC_LENGTH : end])
        yield kind, view[start + _HEAD.size : end], crc.to_bytes(_CRC_LENGTH, "big") == checksum
        start = end + _CRC_LENGTH


def check_checksums(encoded: bytes) -> None:
    """Refuses what Pillow takes in silence: pixels that do not have their checksum.

    Raises:
        ImageError: a checksum of pixels is wrong.
    """
    if not all(right for kind, _, right in chunks(encoded) if kind in {b"IDAT", b"fdAT"}):
        reason = "has a wrong checksum of its pixels; the file is damaged"
        raise ImageError(f"{reason}: --allow-damaged takes what can be read")


def first_wrong(encoded: bytes) -> str | None:
    """Type of the first chunk with a wrong checksum, if there is one."""
    wrong = (kind for kind, _, right in chunks(encoded) if not right)
    return next((kind.decode("latin-1") for kind in wrong), None)


def heading(encoded: bytes) -> dict[bytes, bytes]:
    """The chunks before the pixels, the last one of each type."""
    found = {}
    for kind, content, _ in chunks(encoded):
        if kind == b"IDAT":
            break
        found[kind] = bytes(content)
    return found
