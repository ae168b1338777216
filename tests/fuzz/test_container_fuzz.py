from __future__ import annotations

import random
import struct
import tracemalloc
import zlib

import pytest

from vqcodec.container import Container, Header, pack, peek, unpack
from vqcodec.errors import CodecError, TruncatedError

HEADER = Header(70, 33, True, "a.model-1", b"01234567", 32, 7, 3)
EXTRAS = {1: b"alpha", 3: b"exif"}
SECTIONS = tuple(
    tuple(bytes([level, tile]) * (8 * level + tile) for tile in range(HEADER.tiles))
    for level in range(HEADER.levels)
)
DATA = pack(Container(HEADER, EXTRAS, SECTIONS, 0x12345678, True))
HEADER_LENGTH = len(DATA) - len(DATA[DATA.index(b"\x01\x05alpha") :])

BYTES = 1 << 20


@pytest.mark.parametrize("length", range(len(DATA)))
def test_truncation_at_every_byte(length: int) -> None:
    with pytest.raises(TruncatedError):
        unpack(DATA[:length])
    if length < HEADER_LENGTH:
        with pytest.raises(TruncatedError):
            peek(DATA[:length])
    else:
        assert peek(DATA[:length]) == HEADER


@pytest.mark.parametrize("position", range(HEADER_LENGTH))
def test_every_single_byte_change_of_the_header(position: int) -> None:
    for value in set(range(256)) - {DATA[position]}:
        changed = DATA[:position] + bytes([value]) + DATA[position + 1 :]
        for partial in (False, True):
            with pytest.raises(CodecError):
                unpack(changed, partial=partial)
        with pytest.raises(CodecError):
            peek(changed)


def test_every_bit_flip_of_the_rest() -> None:
    for position in range(HEADER_LENGTH, len(DATA)):
        for bit in range(8):
            changed = bytearray(DATA)
            changed[position] ^= 1 << bit
            with pytest.raises(CodecError):
                unpack(bytes(changed))


def mutated(rng: random.Random) -> bytes:
    """DATA with one to four pieces changed, cut out, doubled, exchanged or filled."""
    data = bytearray(DATA)
    for _ in range(rng.randint(1, 4)):
        start, end = sorted(rng.choices(range(len(data) + 1), k=2))
        match rng.randrange(5):
            case 0:
                data[start:end] = rng.randbytes(end - start)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = data[start:end]
            case 3:
                data[start:end] = reversed(data[start:end])
            case 4:
                data[start:end] = rng.choice([b"\0", b"\x80", b"\xff"]) * (end - start)
    return bytes(data)


def test_random_mutations() -> None:
    rng = random.Random(0)
    refused = 0
    for _ in range(2000):
        changed = mutated(rng)
        if changed == DATA:
            continue
        with pytest.raises(CodecError):
            unpack(changed)
        refused += 1
    assert refused > 1900


def test_random_mutations_of_a_partial_file() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        try:
            restored = unpack(mutated(rng), partial=True)
        except CodecError:
            continue
        assert restored.header == HEADER
        assert restored.extras == EXTRAS
        assert restored.sections == SECTIONS[: len(restored.sections)]


def hostile_header(width: bytes, height: bytes, tile_log2: int, tiles: bytes, extras: int) -> bytes:
    header = DATA[: DATA.index(HEADER.weights_hash) + 8]
    header += width + height + bytes([tile_log2, 1, 8]) + tiles + bytes([extras])
    return header + struct.pack("<I", zlib.crc32(header))


@pytest.mark.parametrize(
    "data",
    [
        # The most tiles and levels, and nothing behind them.
        hostile_header(b"\x80\x80\x40", b"\x80\x02", 5, b"\x80\x80\x10", 0),
        hostile_header(b"\x01", b"\x01", 12, b"\xff\xff\xff\xff\x0f", 0),
        hostile_header(b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x0f", 12, b"\x01", 0),
        # An extra of 64 MiB, a section of 4 GiB.
        hostile_header(b"\x01", b"\x01", 12, b"\x01", 8) + b"\x01\x80\x80\x80\x20",
        hostile_header(b"\x01", b"\x01", 12, b"\x01", 8) + b"\x01\xff\xff\xff\xff\x0f",
        hostile_header(b"\x01", b"\x01", 12, b"\x01", 0) + b"\xff\xff\xff\xff\x0f",
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_hostile_lengths_allocate_nothing(data: bytes, partial: bool) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            unpack(data, partial=partial)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BYTES
