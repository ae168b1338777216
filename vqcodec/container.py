"""The `.vqz` container: dataclasses <-> bytes. FORMAT.md is its specification.

    magic, format version | header | extras | sections, coarse to fine | trailer

A lossless file has a version of its own, and one level, whose payloads are not indices but pixels.
Everything here is integrity and layout; what a payload means is not this module's business.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, replace

from vqcodec.errors import (
    ChecksumError,
    FormatError,
    HeaderError,
    NotVqzError,
    SectionError,
    TrailingDataError,
    TruncatedError,
    VersionError,
)

MAGIC = b"\x89VQZ"
ENDING = ".vqz"
"""Of file names."""
FORMAT_VERSION = 1
LOSSLESS_VERSION = 2

MAX_SIDE = 1 << 20
MAX_PIXELS = 1 << 28
MAX_MODEL_ID_LENGTH = 32
WEIGHTS_HASH_LENGTH = 8
MIN_TILE_LOG2 = 5
MAX_TILE_LOG2 = 12
LOSSLESS_TILE = 8192
MAX_QUALITY = 255
MAX_LEVELS = 8
MAX_EXTRAS = 8
MAX_EXTRA_LENGTH = 64 << 20
MAX_VARINT = (1 << 32) - 1
MAX_VARINT_LENGTH = 5

EXTRA_ALPHA = 1
EXTRA_ICC = 2
EXTRA_EXIF = 3
EXTRA_SYNTHESIS = 4
EXTRA_XMP = 5
EXTRA_IPTC = 6
EXTRA_TEXTS = 7
DEFLATED = 128
"""Added to a kind, it means that the content is a zlib stream of what the kind says."""

_FLAG_GREY = 1
MODEL_ID = re.compile(rf"[a-z0-9.-]{{1,{MAX_MODEL_ID_LENGTH}}}")
_U32 = struct.Struct("<I")

_DAMAGED = "the file is damaged, get it again"
_UNENCODABLE = "such a file cannot be written"


@dataclass(frozen=True)
class Header:
    """What a decoder must know before the first section.

    Attributes:
        width: Pixels a row, 1..MAX_SIDE.
        height: Rows, 1..MAX_SIDE; `width * height` is at most MAX_PIXELS.
        grey: Whether the image has one channel.
        model_id: Id of the model, `[a-z0-9.-]{1,32}`; empty in a lossless file, which has none.
        weights_hash: First 8 bytes of the SHA-256 of the weights file; empty if lossless.
        tile: Side of a tile in pixels, a power of two in 32..4096; LOSSLESS_TILE if lossless.
        quality: Quality the file was coded at, 1..255; 0 if lossless.
        levels: Number of levels, 1..8; 1 if lossless.
    """

    width: int
    height: int
    grey: bool
    model_id: str
    weights_hash: bytes
    tile: int
    quality: int
    levels: int

    @classmethod
    def of_lossless(cls, width: int, height: int, grey: bool) -> Header:
        """That of a lossless file."""
        return cls(width, height, grey, "", b"", LOSSLESS_TILE, quality=0, levels=1)

    @property
    def lossless(self) -> bool:
        """Whether the file holds pixels, and no indices."""
        return not self.model_id

    @property
    def pixels(self) -> int:
        """Of the image."""
        return self.width * self.height

    @property
    def tiles(self) -> int:
        """Tiles a level, which is also sections a level."""
        return -(-self.height // self.tile) * -(-self.width // self.tile)


@dataclass(frozen=True)
class Container:
    """All of a `.vqz` file.

    Attributes:
        header: The header.
        extras: Bytes by kind: EXTRA_ALPHA and its like, DEFLATED or not, or one not known here.
        sections: Payloads as [level][tile], level 0 the coarsest, tiles in raster order.
        indices_crc: CRC-32 of all indices, u32; None when the file was cut short before it, or is
            lossless.
        complete: Whether the whole file was there.
        started: Payloads of the first tiles of the level that a cut file ends in; only `salvage`
            gives them.
    """

    header: Header
    extras: dict[int, bytes]
    sections: tuple[tuple[bytes, ...], ...]
    indices_crc: int | None
    complete: bool
    started: tuple[bytes, ...] = ()

    @property
    def mode(self) -> str:
        """Of the image, as Pillow calls it: L, LA, RGB or RGBA."""
        return ("L" if self.header.grey else "RGB") + "A" * (EXTRA_ALPHA in self.extras)


def pack(container: Container) -> bytes:
    """Writes a container.

    Args:
        container: A complete container.

    Returns:
        The bytes of the `.vqz` file.

    Raises:
        HeaderError: A field of the header is out of its limits.
        SectionError: An extra is out of its limits, or sections or the CRC of the indices are
            missing, or a lossless file has one.
    """
    header, extras, sections = container.header, container.extras, container.sections
    check(header, extras)
    if len(sections) != header.levels or any(len(level) != header.tiles for level in sections):
        reason = f"needs {header.levels} levels of {header.tiles} sections"
        raise SectionError(f"{reason}; {_UNENCODABLE}")
    if not container.complete or (container.indices_crc is None) != header.lossless:
        raise SectionError(f"is not complete; {_UNENCODABLE}")

    parts = [_pack_header(header, len(extras))]
    parts += [
        _sealed(bytes([kind]) + varint(len(content)) + content)
        for kind, content in sorted(extras.items())
    ]
    parts += [_sealed(varint(len(payload)) + payload) for level in sections for payload in level]
    if container.indices_crc is not None:
        parts.append(_U32.pack(container.indices_crc))
    return _sealed(b"".join(parts))


def check(header: Header, extras: dict[int, bytes]) -> None:
    """Tells before any coding what `pack` would refuse.

    Raises:
        HeaderError: A field of the header is out of its limits.
        SectionError: An extra is out of its limits.
    """
    _check_header(header, hint=_UNENCODABLE)
    if len(extras) > MAX_EXTRAS:
        raise SectionError(f"has {len(extras)} extras, at most {MAX_EXTRAS} fit; {_UNENCODABLE}")
    for kind, content in extras.items():
        if not 0 <= kind <= 255 or len(content) > MAX_EXTRA_LENGTH:
            reason = f"extra {kind} with {len(content)} bytes is out of its limits"
            raise SectionError(f"{reason}; {_UNENCODABLE}")


def unpack(data: bytes, *, partial: bool = False) -> Container:
    """Reads a container; every checksum of what it returns has been checked.

    Args:
        data: The bytes of a `.vqz` file.
        partial: Whether a file that is cut short after its extras is read as the complete levels
            it still holds, at least one. Damage is never accepted.

    Returns:
        The container; not `complete`, and with fewer sections, only when `partial` is set and the
        data ends early.

    Raises:
        NotVqzError: The data is something else.
        VersionError: The format version is not known.
        TruncatedError: The data ends early.
        ChecksumError: Bytes were changed.
        HeaderError: A field of the header is out of its limits.
        SectionError: An extra or a section is malformed.
        TrailingDataError: There is more data than the file has.
    """
    contents, shortage = _read(data)
    if shortage is None:
        return contents
    there = len(contents.sections)
    if partial and there:
        return replace(contents, started=())
    reason = f"is cut short and holds {there} of {contents.header.levels} complete levels"
    remedy = "use --partial to restore them" if there else "get the file again"
    raise TruncatedError(f"{reason}; {remedy}") from shortage


def salvage(data: bytes) -> Container:
    """Reads everything that a file still holds, when it is cut short anywhere after its extras.

    As `unpack` with `partial`, but it may have no complete level, and has what there is of the
    level it ends in.

    Args:
        data: The bytes of a `.vqz` file, or its beginning.

    Raises:
        FormatError: As `unpack`; the data ends early only if it ends before the first section.
    """
    return _read(data)[0]


def _read(data: bytes) -> tuple[Container, TruncatedError | None]:
    """What there is, and the error that reading ended with if the data ends early."""
    reader = _Reader(data)
    header, extras = _read_beginning(reader)
    levels: list[tuple[bytes, ...]] = []
    payloads: list[bytes] = []
    try:
        for _ in range(header.levels):
            for _ in range(header.tiles):
                payloads.append(_read_section(reader))
            levels.append(tuple(payloads))
            payloads.clear()
        indices_crc = None if header.lossless else reader.u32("the trailer")
        reader.check_crc(0, "the file")
    except TruncatedError as error:
        return Container(header, extras, tuple(levels), None, False, tuple(payloads)), error
    if reader.remaining:
        reason = f"has {reader.remaining} bytes after its end"
        raise TrailingDataError(f"{reason}; remove them or get the file again")
    return Container(header, extras, tuple(levels), indices_crc, complete=True), None


def beginning(data: bytes) -> Container:
    """Reads what stands before the first section, and checks its checksums.

    Args:
        data: A `.vqz` file, or any part from its beginning that holds the header and all extras.

    Returns:
        Header and extras, no sections, and not `complete`.

    Raises:
        FormatError: As `unpack`, for what concerns header and extras.
    """
    header, extras = _read_beginning(_Reader(data))
    return Container(header, extras, (), None, complete=False)


def content_of(extras: dict[int, bytes], kind: int) -> bytes | None:
    """The content of an extra, inflated if it was deflated; None if there is none.

    Raises:
        SectionError: it is there twice, or cannot be inflated.
    """
    deflated = extras.get(kind | DEFLATED)
    if deflated is None:
        return extras.get(kind)
    if kind in extras:
        raise SectionError(f"has extra {kind} twice; {_DAMAGED}")
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(deflated, MAX_EXTRA_LENGTH)
    except zlib.error as error:
        raise SectionError(f"has an extra {kind} that is not deflated; {_DAMAGED}") from error
    if not inflate.eof or inflate.unused_data:
        limit = f"more than {MAX_EXTRA_LENGTH} bytes, or not all"
        raise SectionError(f"has {limit} in extra {kind}; {_DAMAGED}")
    return content


def peek(data: bytes) -> Header:
    """Reads the header alone, and checks its checksum.

    Args:
        data: A `.vqz` file, or any part from its beginning that holds the header.

    Raises:
        FormatError: As `unpack`, for what concerns the header.
    """
    header, _ = _read_header(_Reader(data))
    return header


class _Reader:
    """Reads forward through untrusted bytes; a length is checked before it is used."""

    def __init__(self, data: bytes) -> None:
        try:
            self._data = memoryview(data)
        except TypeError as error:
            reason = f"a {type(data).__name__} is no content of a .vqz file"
            raise NotVqzError(f"{reason}; give its bytes") from error
        self.position = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self.position

    def take(self, length: int, what: str) -> bytes:
        if length > self.remaining:
            raise TruncatedError(f"ends inside {what}; the file is cut short, get it again")
        self.position += length
        return bytes(self._data[self.position - length : self.position])

    def u8(self, what: str) -> int:
        return self.take(1, what)[0]

    def u32(self, what: str) -> int:
        value: int = _U32.unpack(self.take(_U32.size, what))[0]
        return value

    def varint(self, what: str, malformed: type[FormatError]) -> int:
        value = 0
        for index in range(MAX_VARINT_LENGTH):
            byte = self.u8(what)
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                break
        # A last byte of 0 would add nothing: each value has one encoding only.
        if byte >= 0x80 or value > MAX_VARINT or (byte == 0 and index > 0):
            raise malformed(f"has a malformed number in {what}; {_DAMAGED}")
        return value

    def check_crc(self, start: int, what: str) -> None:
        expected = zlib.crc32(self._data[start : self.position])
        if self.u32(what) != expected:
            raise ChecksumError(f"has a wrong checksum of {what}; {_DAMAGED}")


def varint(value: int) -> bytes:
    """A number in 7-bit groups, the least significant first (LEB128).

    Raises:
        SectionError: It is above MAX_VARINT.
    """
    if value > MAX_VARINT:
        raise SectionError(f"holds a payload of {value} bytes; {_UNENCODABLE}")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _sealed(content: bytes) -> bytes:
    return content + _U32.pack(zlib.crc32(content))


def _pack_header(header: Header, extra_count: int) -> bytes:
    flags = _FLAG_GREY if header.grey else 0
    size = varint(header.width) + varint(header.height)
    if header.lossless:
        return _sealed(MAGIC + bytes([LOSSLESS_VERSION, flags]) + size + bytes([extra_count]))
    model_id = header.model_id.encode("ascii")
    return _sealed(
        MAGIC
        + bytes([FORMAT_VERSION, flags, len(model_id)])
        + model_id
        + header.weights_hash
        + size
        + bytes([header.tile.bit_length() - 1, header.quality, header.levels])
        + varint(header.tiles)
        + bytes([extra_count])
    )


def _read_header(reader: _Reader) -> tuple[Header, int]:
    """Reads up to and with the header's checksum; returns the header and the number of extras."""
    what = "the header"
    magic = reader.take(min(len(MAGIC), reader.remaining), what)
    if not MAGIC.startswith(magic):
        raise NotVqzError("is not a .vqz file; name one written by vqcodec compress")
    if len(magic) < len(MAGIC):
        reason = "is empty" if not magic else f"ends inside {what}"
        raise TruncatedError(f"{reason}; the file is cut short, get it again")
    version = reader.u8(what)
    if version not in (FORMAT_VERSION, LOSSLESS_VERSION):
        known = f"{FORMAT_VERSION} and {LOSSLESS_VERSION}"
        reason = f"has format version {version}, this release reads {known}"
        raise VersionError(f"{reason}; install a release of vqcodec that knows it")
    flags = reader.u8(what)
    grey = bool(flags & _FLAG_GREY)
    lossless = version == LOSSLESS_VERSION
    model_id = b"" if lossless else reader.take(reader.u8(what), what)
    weights_hash = b"" if lossless else reader.take(WEIGHTS_HASH_LENGTH, what)
    width = reader.varint(what, HeaderError)
    height = reader.varint(what, HeaderError)
    if lossless:
        header = Header.of_lossless(width, height, grey)
        tiles = header.tiles
    else:
        header = Header(
            width=width,
            height=height,
            grey=grey,
            model_id=model_id.decode("latin-1"),
            weights_hash=weights_hash,
            tile=1 << reader.u8(what),
            quality=reader.u8(what),
            levels=reader.u8(what),
        )
        tiles = reader.varint(what, HeaderError)
    extra_count = reader.u8(what)
    reader.check_crc(0, what)

    if flags & ~_FLAG_GREY:
        reason = f"has flags {flags:#04x} that this release does not know"
        raise HeaderError(f"{reason}; install a newer release of vqcodec")
    _check_header(header, hint=_DAMAGED)
    if tiles != header.tiles:
        reason = f"claims {tiles} tiles where its size makes {header.tiles}"
        raise HeaderError(f"{reason}; {_DAMAGED}")
    if extra_count > MAX_EXTRAS:
        raise HeaderError(f"claims {extra_count} extras, more than {MAX_EXTRAS}; {_DAMAGED}")
    return header, extra_count


def _read_beginning(reader: _Reader) -> tuple[Header, dict[int, bytes]]:
    """Reads the header and all extras."""
    header, extra_count = _read_header(reader)
    extras: dict[int, bytes] = {}
    for _ in range(extra_count):
        kind, content = _read_extra(reader)
        if kind in extras:
            raise SectionError(f"has two extras of kind {kind}; {_DAMAGED}")
        extras[kind] = content
    return header, extras


def _check_header(header: Header, *, hint: str) -> None:
    for name, value, limit in (
        ("width", header.width, MAX_SIDE),
        ("height", header.height, MAX_SIDE),
        ("number of pixels", header.pixels, MAX_PIXELS),
    ):
        _check_limit(name, value, limit, hint)
    if header == Header.of_lossless(header.width, header.height, header.grey):
        return
    _check_limit("quality", header.quality, MAX_QUALITY, hint)
    _check_limit("number of levels", header.levels, MAX_LEVELS, hint)
    if header.tile not in {1 << log2 for log2 in range(MIN_TILE_LOG2, MAX_TILE_LOG2 + 1)}:
        limits = f"a power of two in {1 << MIN_TILE_LOG2}..{1 << MAX_TILE_LOG2}"
        raise HeaderError(f"has a tile side of {header.tile}, not {limits}; {hint}")
    if not MODEL_ID.fullmatch(header.model_id):
        reason = f"has the model id {header.model_id!r}"
        raise HeaderError(f"{reason}, not {MODEL_ID.pattern}; {hint}")
    if len(header.weights_hash) != WEIGHTS_HASH_LENGTH:
        reason = f"has a weights hash of {len(header.weights_hash)} bytes"
        raise HeaderError(f"{reason}, not {WEIGHTS_HASH_LENGTH}; {hint}")


def _check_limit(name: str, value: int, limit: int, hint: str) -> None:
    if not 1 <= value <= limit:
        raise HeaderError(f"has a {name} of {value}, not in 1..{limit}; {hint}")


def _read_extra(reader: _Reader) -> tuple[int, bytes]:
    start = reader.position
    kind = reader.u8("an extra")
    what = f"extra {kind}"
    length = reader.varint(what, SectionError)
    if length > MAX_EXTRA_LENGTH:
        reason = f"claims {length} bytes for {what}, more than {MAX_EXTRA_LENGTH}"
        raise SectionError(f"{reason}; {_DAMAGED}")
    content = reader.take(length, what)
    reader.check_crc(start, what)
    return kind, content


def _read_section(reader: _Reader) -> bytes:
    start = reader.position
    payload = reader.take(reader.varint("a section", SectionError), "a section")
    reader.check_crc(start, "a section")
    return payload
