"""Holds FORMAT.md to what the code does, by a second decoder written from it."""

from __future__ import annotations

import dataclasses
import io
import re
import struct
import zlib
from importlib import resources

import numpy as np
import PIL.Image
import pytest

import vqcodec
from vqcodec import container
from vqcodec.container import Container, Header, pack, unpack

TEXT = resources.files("vqcodec").joinpath("FORMAT.md").read_text(encoding="utf-8")
BEFORE, _, LOSSLESS = TEXT.partition("## Worked example of a lossless file\n")
DUMP_LINE = re.compile(r"^    ([0-9a-f]{4})  ((?:[0-9a-f]{2} )+) *(\S.*)$", re.MULTILINE)
CRC_RANGE = re.compile(r"CRC-32 of ([0-9a-f]{4})\.\.([0-9a-f]{4})")
PIXELS_LINE = re.compile(r"^\| \d \| ((?:[0-9A-F]{6} ?)+) \|$", re.MULTILINE)
INDICES_LINE = re.compile(r"^\| (\d) \| (\d) \| \d x \d \| ([\d ]+) \|$", re.MULTILINE)
NOT_HERE = "constriction is not made for this machine"
FREQUENCIES = [2**23, 2**22, 2**21, 2**21]


def dump(text: str = BEFORE) -> bytes:
    return b"".join(bytes.fromhex(content) for _, content, _ in DUMP_LINE.findall(text))


def indices() -> dict[tuple[int, int], list[int]]:
    return {
        (int(level), int(tile)): [int(index) for index in row.split()]
        for level, tile, row in INDICES_LINE.findall(TEXT)
    }


def range_decode(payload: bytes, frequencies: list[list[int]]) -> tuple[list[int], int]:
    """The section "Range coder", word for word; returns the symbols and the words left over."""
    words = list(struct.unpack(f"<{len(payload) // 4}I", payload))

    def next_word() -> int:
        return words.pop(0) if words else 0

    modulus = 1 << 64
    lower, range_, point = 0, modulus - 1, next_word() << 32 | next_word()
    symbols = []
    for table in frequencies:
        scale = range_ >> 24
        quantile = (point - lower) % modulus // scale
        assert quantile < 1 << 24
        starts = np.cumsum([0, *table]).tolist()
        symbol = next(s for s in range(len(table)) if quantile < starts[s + 1])
        lower = (lower + scale * starts[symbol]) % modulus
        range_ = scale * table[symbol]
        if range_ < 1 << 32:
            lower, range_ = (lower << 32) % modulus, range_ << 32
            point = (point << 32) % modulus | next_word()
        symbols.append(symbol)
    return symbols, len(words)


def range_encode(symbols: list[int], frequencies: list[list[int]]) -> bytes:
    """The encoder of that section, word for word."""
    lower, range_, number, count = 0, (1 << 64) - 1, 0, 0
    for symbol, table in zip(symbols, frequencies, strict=True):
        scale = range_ >> 24
        lower += scale * sum(table[:symbol])
        range_ = scale * table[symbol]
        number, lower = number + (lower >> 64), lower % (1 << 64)
        if range_ < 1 << 32:
            number, count = number << 32 | lower >> 32, count + 1
            lower, range_ = (lower << 32) % (1 << 64), range_ << 32
    if symbols:
        last = lower + (1 << 32) - 1 >> 32
        number, count = (number << 32) + last, count + 1
        if last % (1 << 32) == (lower + range_) % (1 << 64) >> 32:
            number, count = number << 32, count + 1
    words = number.to_bytes(4 * count, "big")
    return struct.pack(f"<{count}I", *struct.unpack(f">{count}I", words))


@pytest.mark.parametrize("text", [BEFORE, LOSSLESS])
def test_offsets_of_the_dump_are_right(text: str) -> None:
    offset = 0
    for stated, content, _ in DUMP_LINE.findall(text):
        assert int(stated, 16) == offset
        offset += len(bytes.fromhex(content))


@pytest.mark.parametrize(("text", "checksums"), [(BEFORE, 7), (LOSSLESS, 4)])
def test_checksums_of_the_dump_are_right(text: str, checksums: int) -> None:
    data = dump(text)
    checked = 0
    for _, content, meaning in DUMP_LINE.findall(text):
        if covered := CRC_RANGE.fullmatch(meaning):
            first, last = (int(bound, 16) for bound in covered.groups())
            assert bytes.fromhex(content) == struct.pack("<I", zlib.crc32(data[first : last + 1]))
            checked += 1
    assert checked == checksums


def test_dump_is_the_file_it_describes() -> None:
    parsed = unpack(dump())
    assert parsed.header == Header(
        width=33,
        height=20,
        grey=True,
        model_id="example-1",
        weights_hash=bytes.fromhex("e3b0c44298fc1c14"),
        tile=32,
        quality=5,
        levels=2,
    )
    assert parsed.extras == {200: b"ignored"}
    assert parsed.complete
    assert pack(parsed) == dump()


def test_payloads_of_the_dump_hold_the_indices() -> None:
    constriction = pytest.importorskip("constriction", reason=NOT_HERE)
    parsed = unpack(dump())
    model = constriction.stream.model.Categorical(
        np.array(FREQUENCIES, np.float64) - 1, perfect=False
    )
    for (level, tile), expected in indices().items():
        payload = parsed.sections[level][tile]
        assert range_decode(payload, [FREQUENCIES] * len(expected)) == (expected, 0)
        assert range_encode(expected, [FREQUENCIES] * len(expected)) == payload
        words = np.frombuffer(payload, "<u4").astype(np.uint32)
        decoder = constriction.stream.queue.RangeDecoder(words)
        assert decoder.decode(model, len(expected)).tolist() == expected
    assert len(indices()) == sum(map(len, parsed.sections))


def test_indices_checksum_of_the_dump() -> None:
    flat = [index for _, row in sorted(indices().items()) for index in row]
    assert unpack(dump()).indices_crc == zlib.crc32(struct.pack(f"<{len(flat)}H", *flat))


def test_range_coder_is_constrictions() -> None:
    constriction = pytest.importorskip("constriction", reason=NOT_HERE)
    rng = np.random.default_rng(0)
    for count in range(60):
        encoder = constriction.stream.queue.RangeEncoder()
        tables, symbols = [], []
        for _ in range(count):
            # Skewed tables, now and then with an unlikely symbol: words that carry are met as well.
            table = 1 + rng.multinomial(2**24 - 5, rng.dirichlet(np.full(5, 0.1)))
            symbol = int(rng.integers(5) if rng.random() < 0.3 else table.argmax())
            model = constriction.stream.model.Categorical(
                (table - 1).astype(np.float64), perfect=False
            )
            encoder.encode(np.array([symbol], np.int32), model)
            tables.append(table.tolist())
            symbols.append(symbol)
        payload = encoder.get_compressed().astype("<u4").tobytes()
        assert range_decode(payload, tables) == (symbols, 0)
        assert range_encode(symbols, tables) == payload


@pytest.mark.parametrize(
    ("field", "limits"),
    [
        ("magic", container.MAGIC.hex(" ").upper()),
        ("format_version", str(container.FORMAT_VERSION)),
        ("model_id", f"1..{container.MAX_MODEL_ID_LENGTH} bytes"),
        ("width", f"1..{container.MAX_SIDE}"),
        ("height", f"1..{container.MAX_SIDE}"),
        ("height", f"at most {container.MAX_PIXELS}"),
        ("tile_log2", f"{container.MIN_TILE_LOG2}..{container.MAX_TILE_LOG2}"),
        ("quality", f"1..{container.MAX_QUALITY}"),
        ("levels", f"1..{container.MAX_LEVELS}"),
        ("extra_count", f"0..{container.MAX_EXTRAS}"),
        ("length", f"0..{container.MAX_EXTRA_LENGTH}"),
    ],
)
def test_stated_limits_are_the_codes(field: str, limits: str) -> None:
    row = re.search(rf"^\| {field} \| .*$", TEXT, re.MULTILINE)
    assert row is not None
    assert limits in row.group()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (container.EXTRA_ALPHA, "alpha channel"),
        (container.EXTRA_ICC, "ICC profile"),
        (container.EXTRA_EXIF, "EXIF block"),
    ],
)
def test_stated_kinds_are_the_codes(kind: int, name: str) -> None:
    assert f"\n| {kind} | {name}" in TEXT


def test_every_kind_of_extra_has_its_row() -> None:
    rows = re.findall(r"^\| (\d) \| ", TEXT.partition("### Extras")[2].partition("###")[0], re.M)
    named = {value for name, value in vars(container).items() if name.startswith("EXTRA_")}
    assert named == {int(row) for row in rows}
    assert f"| {container.DEFLATED} + k |" in TEXT


def test_a_reader_accepts_extras_in_any_order() -> None:
    empty = dataclasses.replace(unpack(dump()), extras={})
    extras = [
        content + struct.pack("<I", zlib.crc32(content)) for content in (b"\x09\x01b", b"\x08\x01a")
    ]
    header = bytearray(dump()[:0x1F])
    header[-1] = len(extras)
    body = bytes(header) + struct.pack("<I", zlib.crc32(header)) + b"".join(extras)
    body += pack(empty)[0x23:-4]
    parsed: Container = unpack(body + struct.pack("<I", zlib.crc32(body)))
    assert parsed.extras == {9: b"b", 8: b"a"}


def lossless_pixels(data: bytes) -> tuple[np.ndarray, bool]:
    """The section "Lossless files", word for word; returns the pixels and whether they are grey."""
    position = 0

    def take(length: int) -> bytes:
        nonlocal position
        position += length
        assert position <= len(data)
        return data[position - length : position]

    def varint() -> int:
        value = shift = 0
        while (byte := take(1)[0]) >= 0x80:
            value, shift = value | (byte & 0x7F) << shift, shift + 7
        return value | byte << shift

    def check(start: int) -> None:
        expected = zlib.crc32(data[start:position])
        assert struct.unpack("<I", take(4)) == (expected,)

    assert take(4) == b"\x89VQZ"
    assert take(1) == b"\x02"
    (flags,) = take(1)
    width, height = varint(), varint()
    (extras,) = take(1)
    check(0)
    for _ in range(extras):
        start = position
        take(1)
        take(varint())
        check(start)
    pixels = np.zeros((height, width, 3), np.uint8)
    for top in range(0, height, 8192):
        for left in range(0, width, 8192):
            start = position
            stream = take(varint())
            check(start)
            tile = pixels[top : top + 8192, left : left + 8192]
            bits = int.from_bytes(stream[:5], "little")
            assert bits & 0xFF == 0x2F
            assert (bits >> 8 & 0x3FFF) + 1 == tile.shape[1]
            assert (bits >> 22 & 0x3FFF) + 1 == tile.shape[0]
            assert bits >> 36 == 0
            chunk = b"VP8L" + struct.pack("<I", len(stream)) + stream + bytes(len(stream) % 2)
            riff = b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
            tile[:] = PIL.Image.open(io.BytesIO(riff)).convert("RGB")
    check(0)
    assert position == len(data)
    return pixels, bool(flags & 1)


def test_lossless_dump_is_the_file_it_describes() -> None:
    parsed = unpack(dump(LOSSLESS))
    assert parsed.header == Header.of_lossless(3, 2, grey=False)
    assert parsed.extras == {200: b"ignored"}
    assert (parsed.complete, parsed.indices_crc) == (True, None)
    assert pack(parsed) == dump(LOSSLESS)


def test_lossless_dump_holds_the_pixels() -> None:
    rows = [bytes.fromhex(row) for row in PIXELS_LINE.findall(LOSSLESS)]
    expected = np.frombuffer(b"".join(rows), np.uint8).reshape(2, 3, 3)
    found, grey = lossless_pixels(dump(LOSSLESS))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(vqcodec.decompress(dump(LOSSLESS)).pixels, expected)
    assert not grey


@pytest.mark.parametrize("shape", [(1, 1), (7, 5, 3), (9, 6, 4), (1, 8193), (8200, 2, 3)])
def test_lossless_files_are_as_specified(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(4).integers(256, size=shape, dtype=np.uint8)
    found, grey = lossless_pixels(bytes(vqcodec.compress(image, lossless="always")))
    assert grey == (len(shape) == 2)
    colours = image[..., :3] if len(shape) == 3 else image[..., None].repeat(3, 2)
    np.testing.assert_array_equal(found, colours)


def test_stated_side_of_lossless_tiles_is_the_codes() -> None:
    assert f"a square of {container.LOSSLESS_TILE} pixels a side" in TEXT
    assert f"format_version is {container.LOSSLESS_VERSION}" in TEXT
