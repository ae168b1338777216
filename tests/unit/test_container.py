from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from vqcodec import container
from vqcodec.container import Container, Header, pack, peek, unpack
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

HEADER = Header(
    width=300,
    height=40,
    grey=False,
    model_id="a.model-1",
    weights_hash=b"01234567",
    tile=256,
    quality=7,
    levels=2,
)
SECTIONS = ((b"top left", b"top right"), (b"", bytes(200)))
COMPLETE = Container(HEADER, {2: b"profile", 77: b""}, SECTIONS, 0x12345678, True)

# Places in the file of HEADER, which has a model id of 9 bytes and two-byte varints.
FLAGS, ID_LENGTH, MODEL_ID, WIDTH, HEIGHT, TILE_LOG2 = 5, 6, 7, 24, 26, 27
QUALITY, LEVELS, TILES, EXTRA_COUNT, HEADER_CRC = 28, 29, 30, 31, 32
HEADER_END = 36


def header_with(**fields: Any) -> Header:
    return dataclasses.replace(HEADER, **fields)


def with_header_byte(position: int, value: int) -> bytes:
    """The packed file with one byte of the header changed and the header's CRC put right."""
    return with_header(lambda header: header[:position] + bytes([value]) + header[position + 1 :])


def with_header(change: Callable[[bytes], bytes]) -> bytes:
    data = pack(COMPLETE)
    header = change(data[:HEADER_CRC])
    return header + struct.pack("<I", zlib.crc32(header)) + data[HEADER_END:]


def sealed(content: bytes) -> bytes:
    return content + struct.pack("<I", zlib.crc32(content))


class TestRoundTrip:
    def test_complete_file(self) -> None:
        assert unpack(pack(COMPLETE)) == COMPLETE
        assert unpack(pack(COMPLETE), partial=True) == COMPLETE

    def test_peek_needs_the_header_only(self) -> None:
        assert peek(pack(COMPLETE)[:HEADER_END]) == HEADER

    def test_smallest(self) -> None:
        header = Header(1, 1, True, "a", bytes(8), 32, 1, 1)
        smallest = Container(header, {}, ((b"",),), 0, True)
        assert unpack(pack(smallest)) == smallest
        assert len(pack(smallest)) == 40

    def test_limits_are_within(self) -> None:
        header = Header(1 << 20, 1 << 8, True, "z" * 32, b"\xff" * 8, 4096, 255, 8)
        assert header.tiles == 256
        largest = Container(header, {}, ((b"",) * 256,) * 8, 2**32 - 1, True)
        assert unpack(pack(largest)) == largest

    def test_bytes_of_the_header(self) -> None:
        assert pack(COMPLETE)[:HEADER_CRC] == (
            b"\x89VQZ\x01\x00\x09a.model-101234567\xac\x02\x28\x08\x07\x02\x02\x02"
        )

    def test_extras_are_written_in_order_of_kind(self) -> None:
        backwards = dataclasses.replace(COMPLETE, extras={77: b"", 2: b"profile"})
        assert pack(backwards) == pack(COMPLETE)

    @pytest.mark.parametrize(
        ("value", "encoded"),
        [
            (0, b"\x00"),
            (127, b"\x7f"),
            (128, b"\x80\x01"),
            (300, b"\xac\x02"),
            (2**32 - 1, b"\xff\xff\xff\xff\x0f"),
        ],
    )
    def test_varint(self, value: int, encoded: bytes) -> None:
        assert container.varint(value) == encoded
        assert container._Reader(encoded).varint("it", SectionError) == value

    @pytest.mark.parametrize(
        ("width", "height", "tiles"), [(1, 1, 1), (256, 256, 1), (257, 256, 2), (257, 257, 4)]
    )
    def test_tiles(self, width: int, height: int, tiles: int) -> None:
        assert header_with(width=width, height=height).tiles == tiles


class TestPartial:
    def sections_end(self, levels: int) -> int:
        """Where the last section of the first `levels` levels ends."""
        full = pack(COMPLETE)
        rest = sum(
            len(sealed(container.varint(len(payload)) + payload))
            for level in SECTIONS[levels:]
            for payload in level
        )
        return len(full) - 8 - rest

    @pytest.mark.parametrize("levels", [1, 2])
    def test_cut_after_a_level(self, levels: int) -> None:
        cut = pack(COMPLETE)[: self.sections_end(levels)]
        expected = Container(HEADER, COMPLETE.extras, SECTIONS[:levels], None, False)
        assert unpack(cut, partial=True) == expected

    def test_cut_inside_a_level_gives_the_levels_before(self) -> None:
        cut = pack(COMPLETE)[: self.sections_end(2) - 1]
        assert unpack(cut, partial=True).sections == SECTIONS[:1]

    @pytest.mark.parametrize("missing", [1, 4, 5, 8])
    def test_cut_inside_the_trailer_gives_all_levels(self, missing: int) -> None:
        result = unpack(pack(COMPLETE)[:-missing], partial=True)
        assert result.sections == SECTIONS
        assert (result.complete, result.indices_crc) == (False, None)

    def test_without_a_complete_level(self) -> None:
        cut = pack(COMPLETE)[: self.sections_end(1) - 1]
        for partial in (False, True):
            with pytest.raises(TruncatedError, match="holds 0 of 2 complete levels; get the file"):
                unpack(cut, partial=partial)

    @pytest.mark.parametrize("levels", [1, 2])
    def test_without_partial_the_option_is_named(self, levels: int) -> None:
        cut = pack(COMPLETE)[: self.sections_end(levels)]
        with pytest.raises(TruncatedError, match=f"{levels} of 2 complete levels; use --partial"):
            unpack(cut)

    def test_damage_is_not_accepted(self) -> None:
        data = bytearray(pack(COMPLETE)[: self.sections_end(2)])
        data[-5] ^= 1
        with pytest.raises(ChecksumError, match="a section"):
            unpack(bytes(data), partial=True)

    def test_partial_container_is_not_packed(self) -> None:
        cut = unpack(pack(COMPLETE)[: self.sections_end(1)], partial=True)
        with pytest.raises(SectionError):
            pack(cut)


class TestMalformed:
    def test_a_name_is_no_content(self) -> None:
        with pytest.raises(NotVqzError, match=r"a str is no content of a \.vqz file; give its"):
            unpack("a.vqz")  # type: ignore[arg-type]

    @pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n", b"text", b"\n", b"\x89VQA" + bytes(99)])
    def test_magic(self, data: bytes) -> None:
        for read in (unpack, peek):
            with pytest.raises(NotVqzError, match=r"is not a \.vqz file; name one"):
                read(data)

    @pytest.mark.parametrize("version", [0, 3, 255])
    def test_version(self, version: int) -> None:
        with pytest.raises(VersionError, match=f"has format version {version}, .*; install"):
            unpack(with_header_byte(4, version))

    def test_empty(self) -> None:
        with pytest.raises(TruncatedError, match="is empty"):
            unpack(b"")

    @pytest.mark.parametrize("length", [1, 3, 4, 5, 20, HEADER_END - 1])
    def test_cut_in_the_header(self, length: int) -> None:
        for read in (unpack, peek):
            with pytest.raises(TruncatedError, match=r"ends inside the header; .* get it again"):
                read(pack(COMPLETE)[:length])

    def test_cut_in_an_extra(self) -> None:
        with pytest.raises(TruncatedError, match="ends inside extra 2"):
            unpack(pack(COMPLETE)[: HEADER_END + 5], partial=True)

    def test_header_checksum(self) -> None:
        data = bytearray(pack(COMPLETE))
        data[QUALITY] ^= 1
        with pytest.raises(ChecksumError, match=r"checksum of the header; .* get it again"):
            unpack(bytes(data))

    def test_extra_checksum(self) -> None:
        data = pack(COMPLETE).replace(b"profile", b"profilE")
        with pytest.raises(ChecksumError, match="extra 2"):
            unpack(data)

    def test_section_checksum(self) -> None:
        data = pack(COMPLETE).replace(b"top right", b"top Right")
        with pytest.raises(ChecksumError, match="a section"):
            unpack(data)

    @pytest.mark.parametrize("position", [-1, -4, -5, -8])
    def test_file_checksum(self, position: int) -> None:
        data = bytearray(pack(COMPLETE))
        data[position] ^= 0x80
        with pytest.raises(ChecksumError, match="the file"):
            unpack(bytes(data))

    def test_exchanged_sections(self) -> None:
        first, second = sealed(b"\x08top left"), sealed(b"\x09top right")
        data = pack(COMPLETE).replace(first + second, second + first)
        with pytest.raises(ChecksumError, match="the file"):
            unpack(data)

    @pytest.mark.parametrize("tail", [b"\0", b"\n", pack(COMPLETE)])
    def test_trailing_data(self, tail: bytes) -> None:
        for partial in (False, True):
            with pytest.raises(TrailingDataError, match=f"has {len(tail)} bytes after its end"):
                unpack(pack(COMPLETE) + tail, partial=partial)

    @pytest.mark.parametrize(
        ("position", "value", "expected"),
        [
            (FLAGS, 2, "flags 0x02"),
            (FLAGS, 0x81, "flags 0x81"),
            (MODEL_ID, ord("A"), "model id 'A.model-1'"),
            (MODEL_ID, 0xE9, "model id"),
            (MODEL_ID, ord("\n"), "model id"),
            (HEIGHT, 0, "height of 0"),
            (TILE_LOG2, 4, "tile side of 16"),
            (TILE_LOG2, 13, "tile side of 8192"),
            (TILE_LOG2, 255, "tile side"),
            (QUALITY, 0, "quality of 0"),
            (LEVELS, 0, "number of levels of 0"),
            (LEVELS, 9, "number of levels of 9"),
            (TILES, 3, "claims 3 tiles where its size makes 2"),
            (EXTRA_COUNT, 9, "claims 9 extras"),
        ],
    )
    def test_header_field(self, position: int, value: int, expected: str) -> None:
        for read in (unpack, peek):
            with pytest.raises(HeaderError, match=expected):
                read(with_header_byte(position, value))

    @pytest.mark.parametrize(
        ("width", "expected"),
        [
            (b"\x81\x80\x40", "width of 1048577"),
            (b"\xff\xff\xff\xff\x0f", "width of 4294967295"),
            (b"\xff\xff\xff\xff\x1f", "malformed number"),
            (b"\xff\xff\xff\xff\xff\x01", "malformed number"),
            (b"\xac\x82\x00", "malformed number"),
            (b"\x80\x00", "malformed number"),
        ],
    )
    def test_width(self, width: bytes, expected: str) -> None:
        with pytest.raises(HeaderError, match=expected):
            unpack(with_header(lambda header: header[:WIDTH] + width + header[HEIGHT:]))

    def test_number_of_pixels(self) -> None:
        sides = container.varint(1 << 20) + container.varint(257)
        with pytest.raises(HeaderError, match="number of pixels of 269484032"):
            unpack(with_header(lambda header: header[:WIDTH] + sides + header[TILE_LOG2:]))

    @pytest.mark.parametrize("model_id", [b"", b"a" * 33])
    def test_length_of_model_id(self, model_id: bytes) -> None:
        field = bytes([len(model_id)]) + model_id
        with pytest.raises(HeaderError, match="model id"):
            unpack(with_header(lambda header: header[:ID_LENGTH] + field + header[MODEL_ID + 9 :]))

    def test_extra_twice(self) -> None:
        data = pack(COMPLETE)
        extra = sealed(b"\x02\x07profile")
        with pytest.raises(SectionError, match="two extras of kind 2"):
            unpack(data[:HEADER_END] + extra + extra)

    def test_extra_beyond_its_limit(self) -> None:
        claim = b"\x02" + container.varint(container.MAX_EXTRA_LENGTH + 1)
        with pytest.raises(SectionError, match="claims 67108865 bytes for extra 2"):
            unpack(pack(COMPLETE)[:HEADER_END] + claim)

    @pytest.mark.parametrize("length", [b"\x80\x00", b"\xff\xff\xff\xff\x10"])
    def test_length_of_section_or_extra(self, length: bytes) -> None:
        with pytest.raises(SectionError, match="malformed number in extra 2"):
            unpack(pack(COMPLETE)[:HEADER_END] + b"\x02" + length)
        no_extras = pack(dataclasses.replace(COMPLETE, extras={}))
        with pytest.raises(SectionError, match="malformed number in a section"):
            unpack(no_extras[:HEADER_END] + length)


class TestPackRefuses:
    @pytest.mark.parametrize(
        "fields",
        [
            {"width": 0},
            {"height": (1 << 20) + 1},
            {"width": 1 << 20, "height": 257},
            {"model_id": ""},
            {"model_id": "Model"},
            {"model_id": "a" * 33},
            {"model_id": "a\n"},
            {"weights_hash": bytes(7)},
            {"tile": 16},
            {"tile": 8192},
            {"tile": 100},
            {"quality": 0},
            {"quality": 256},
            {"levels": 0},
            {"levels": 9},
        ],
    )
    def test_header(self, fields: dict[str, Any]) -> None:
        with pytest.raises(HeaderError, match="such a file cannot be written"):
            pack(dataclasses.replace(COMPLETE, header=header_with(**fields)))

    @pytest.mark.parametrize(
        "fields",
        [
            {"extras": dict.fromkeys(range(9), b"")},
            {"extras": {256: b""}},
            {"extras": {-1: b""}},
            {"extras": {1: bytes(container.MAX_EXTRA_LENGTH + 1)}},
            {"sections": SECTIONS[:1]},
            {"sections": (*SECTIONS, SECTIONS[0])},
            {"sections": ((b"",), (b"", b""))},
            {"indices_crc": None},
            {"complete": False},
        ],
    )
    def test_content(self, fields: dict[str, Any]) -> None:
        with pytest.raises(SectionError, match="such a file cannot be written"):
            pack(dataclasses.replace(COMPLETE, **fields))


LOSSLESS = Container(
    Header.of_lossless(8193, 20, grey=True),
    {2: b"profile", 77: b""},
    ((b"left", b"right"),),
    indices_crc=None,
    complete=True,
)


class TestLossless:
    def test_round_trip(self) -> None:
        assert unpack(pack(LOSSLESS)) == LOSSLESS
        assert peek(pack(LOSSLESS)) == LOSSLESS.header
        assert container.beginning(pack(LOSSLESS)).extras == LOSSLESS.extras

    def test_bytes_of_the_header(self) -> None:
        assert pack(LOSSLESS)[:10] == b"\x89VQZ\x02\x01\x81\x40\x14\x02"

    def test_smallest(self) -> None:
        header = Header.of_lossless(1, 1, grey=False)
        smallest = Container(header, {}, ((b"",),), None, complete=True)
        assert unpack(pack(smallest)) == smallest
        assert len(pack(smallest)) == 22

    def test_it_has_no_model(self) -> None:
        assert LOSSLESS.header.lossless
        assert not HEADER.lossless
        assert LOSSLESS.header.tiles == 2

    @pytest.mark.parametrize("length", range(len(pack(LOSSLESS))))
    def test_cut_anywhere(self, length: int) -> None:
        with pytest.raises(TruncatedError, match="; "):
            unpack(pack(LOSSLESS)[:length])

    def test_cut_in_the_trailer_has_all_pixels(self) -> None:
        found = unpack(pack(LOSSLESS)[:-1], partial=True)
        assert found == dataclasses.replace(LOSSLESS, complete=False)

    def test_cut_before_has_nothing_to_restore(self) -> None:
        cut = pack(LOSSLESS)[:-5]
        with pytest.raises(TruncatedError, match="holds 0 of 1 complete levels"):
            unpack(cut, partial=True)
        assert container.salvage(cut).started == (b"left",)

    def test_every_byte_changed(self) -> None:
        data = pack(LOSSLESS)
        for position in range(len(data)):
            for change in (1, 0x80, 0xFF):
                changed = bytearray(data)
                changed[position] ^= change
                with pytest.raises(FormatError, match="; "):
                    unpack(bytes(changed))

    def test_data_after_its_end(self) -> None:
        with pytest.raises(TrailingDataError):
            unpack(pack(LOSSLESS) + b"\0")

    @pytest.mark.parametrize(
        ("position", "value", "expected"),
        [(5, 2, "flags 0x02"), (8, 0, "height of 0"), (9, 9, "claims 9 extras")],
    )
    def test_header_field(self, position: int, value: int, expected: str) -> None:
        header = bytearray(pack(LOSSLESS)[:10])
        header[position] = value
        with pytest.raises(HeaderError, match=expected):
            peek(sealed(bytes(header)))

    @pytest.mark.parametrize(
        "fields",
        [
            {"tile": 4096},
            {"quality": 5},
            {"levels": 2},
            {"weights_hash": bytes(8)},
            {"width": 0},
            {"model_id": "a"},
        ],
    )
    def test_a_header_that_is_half_of_each(self, fields: dict[str, Any]) -> None:
        header = dataclasses.replace(LOSSLESS.header, **fields)
        with pytest.raises(HeaderError, match="such a file cannot be written"):
            pack(dataclasses.replace(LOSSLESS, header=header))

    def test_checksum_of_indices_that_are_not_there(self) -> None:
        with pytest.raises(SectionError, match="such a file cannot be written"):
            pack(dataclasses.replace(LOSSLESS, indices_crc=0))


def test_every_format_error_of_a_file_says_what_to_do() -> None:
    for length in range(len(pack(COMPLETE))):
        with pytest.raises(FormatError, match="; "):
            unpack(pack(COMPLETE)[:length])
