from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from vqcodec.entropy.coder import Decoder, Encoder
from vqcodec.entropy.frequencies import frequencies
from vqcodec.errors import SectionError
from vqcodec.spec.prior import TOTAL, TOTAL_BITS
from vqcodec.training.export import shared_tables

pytestmark = pytest.mark.usefixtures("each_coder")

EXPONENTIAL = shared_tables().exponential
SIZES = [2, 3, 16, 128, 1000, 1024]


def message(size: int, count: int, spread: int) -> tuple[Tensor, Tensor]:
    """Symbols [count] drawn from frequencies [count, size]."""
    generator = torch.Generator().manual_seed(size)
    logits = torch.randint(-spread, spread + 1, (count, size), generator=generator)
    freqs = frequencies(logits, EXPONENTIAL)
    symbols = torch.multinomial(freqs.double(), 1, generator=generator).squeeze(1)
    return symbols, freqs


def above(freqs: Tensor) -> npt.NDArray[np.float32]:
    """Frequencies less 1, as the coder takes them."""
    return (freqs - 1).float().numpy()


def encoded(symbols: Tensor, freqs: Tensor) -> bytes:
    encoder = Encoder()
    encoder.encode(symbols.int().numpy(), above(freqs))
    return encoder.payload()


@pytest.mark.parametrize("spread", [0, 30, 300])
@pytest.mark.parametrize("size", SIZES)
def test_lossless_and_exactly_consumed(size: int, spread: int) -> None:
    symbols, freqs = message(size, 500, spread)
    decoder = Decoder(encoded(symbols, freqs))
    assert decoder.decode(above(freqs)).tolist() == symbols.tolist()
    decoder.finish()


@pytest.mark.parametrize("size", SIZES)
def test_the_unlikeliest_symbols_are_lossless(size: int) -> None:
    freqs = torch.ones(40, size, dtype=torch.int64)
    freqs[:, 0] = TOTAL - size + 1
    symbols = torch.arange(40) % size
    assert Decoder(encoded(symbols, freqs)).decode(above(freqs)).tolist() == symbols.tolist()


def test_alphabets_alternate_in_one_payload() -> None:
    parts = [message(size, 7, 30) for size in SIZES]
    encoder = Encoder()
    for symbols, freqs in parts:
        encoder.encode(symbols.int().numpy(), above(freqs))
    decoder = Decoder(encoder.payload())
    for symbols, freqs in parts:
        assert decoder.decode(above(freqs)).tolist() == symbols.tolist()


@pytest.mark.parametrize("spread", [0, 30, 300])
@pytest.mark.parametrize("size", SIZES)
def test_size_is_the_ideal_code_length(size: int, spread: int) -> None:
    """Within 0.01 % and two words."""
    symbols, freqs = message(size, 5000, spread)
    ideal = float((TOTAL_BITS - freqs.gather(1, symbols[:, None]).double().log2()).sum())
    bits = 8 * len(encoded(symbols, freqs))
    assert ideal <= bits <= 1.0001 * ideal + 64


@pytest.mark.parametrize("spread", [0, 30, 300])
@pytest.mark.parametrize("size", SIZES)
def test_frequencies_are_not_rounded(size: int, spread: int) -> None:
    """Points just at and just below every boundary decode to the symbols beside it.

    The first point of a payload is divided by scale = (2**64 - 1) >> 24, see FORMAT.md.
    """
    freqs = message(size, 1, spread)[1]
    starts = (freqs.cumsum(1) - freqs)[0].long().tolist()
    scale = (2**64 - 1) >> TOTAL_BITS
    for symbol, start in enumerate(starts):
        for point, expected in ((scale * start, symbol), (scale * start - 1, symbol - 1)):
            if expected >= 0:
                payload = struct.pack("<II", point >> 32, point & (2**32 - 1))
                assert Decoder(payload).decode(above(freqs)).tolist() == [expected]


def test_what_is_asked_for_codes(each_coder: str) -> None:
    module = {"constriction": "constriction_coder", "own": "range_coder"}[each_coder]
    for coder in (Encoder(), Decoder(b"")):
        assert type(coder._coder).__module__ == f"vqcodec.entropy.{module}"


def test_no_symbols_take_no_bytes() -> None:
    assert Encoder().payload() == b""
    assert Decoder(b"").decode(np.zeros((0, 2), np.float32)).tolist() == []


def test_payload_is_whole_words() -> None:
    symbols, freqs = message(16, 3, 30)
    payload = encoded(symbols, freqs)
    assert len(payload) % 4 == 0
    with pytest.raises(SectionError, match="not whole 32-bit words"):
        Decoder(payload + b"\0")


def test_a_point_outside_the_range_is_refused() -> None:
    freqs = message(16, 1, 30)[1]
    with pytest.raises(SectionError, match="does not fit its model"):
        Decoder(b"\xff" * 8).decode(above(freqs))


@pytest.mark.parametrize("count", [0, 1, 7, 5_000])
def test_words_beyond_the_last_symbol_are_refused(count: int) -> None:
    symbols, freqs = message(16, count, 30)
    payload = encoded(symbols, freqs)
    whole = Decoder(payload)
    whole.decode(above(freqs))
    whole.finish()
    longer = Decoder(payload + struct.pack("<III", 1, 2, 3))
    longer.decode(above(freqs))
    with pytest.raises(SectionError, match="longer than its symbols"):
        longer.finish()
