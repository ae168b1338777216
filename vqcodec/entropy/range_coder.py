"""The range coder of FORMAT.md in code of our own: the same words as constriction's.

`encode` and `decode` are the reference for `vqcodec.kernels.range_coder`, which takes their place
where compiled code is usable. What a coder knows between calls is a state of uint64: lower, range,
and for an encoder how many words there are; for a decoder point, and how many words it has read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vqcodec import kernels
from vqcodec.spec.prior import TOTAL, TOTAL_BITS

WORD_BITS = 32
LEAST_RANGE = 1 << WORD_BITS
LAST_WORD = LEAST_RANGE - 1
LAST = (1 << 64) - 1
FARTHEST = 2 * LEAST_RANGE - 2  # that constriction lets the point be above lower after all symbols

Symbols = npt.NDArray[np.int32]
Above = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.uint64]


class RangeEncoder:
    """As of `vqcodec.entropy.constriction_coder`.

    Args:
        compiled: Whether compiled code does it; by default, where it is usable.
    """

    def __init__(self, compiled: bool | None = None) -> None:
        self._encode = _compiled().encode if _usable(compiled) else encode
        self._words: Words = np.zeros(256, np.uint32)
        self._state: Numbers = np.array([0, LAST, 0], np.uint64)

    def encode(self, symbols: Symbols, above: Above) -> None:
        """As of `vqcodec.entropy.constriction_coder`."""
        most = int(self._state[2]) + len(symbols)
        if most > len(self._words):
            self._words = np.resize(self._words, 2 * most)
        given = np.ascontiguousarray(symbols), np.ascontiguousarray(above)
        self._encode(*given, self._words, self._state)

    def words(self) -> Words:
        """As of `vqcodec.entropy.constriction_coder`."""
        lower, range_, count = map(int, self._state)
        words = self._words[:count].copy()
        if range_ == LAST:  # no symbols
            return words
        point = lower + LAST_WORD
        if point > LAST:
            _carry(words, count)
        last = point >> WORD_BITS & LAST_WORD
        beyond = lower + range_ >> WORD_BITS & LAST_WORD
        return np.append(words, np.array([last, 0] if beyond == last else [last], np.uint32))


class RangeDecoder:
    """As of `vqcodec.entropy.constriction_coder`.

    Args:
        words: All of them, uint32.
        compiled: As of `RangeEncoder`.
    """

    def __init__(self, words: Words, compiled: bool | None = None) -> None:
        self._decode = _compiled().decode if _usable(compiled) else decode
        self._words = words
        first, second = (int(words[n]) if n < len(words) else 0 for n in range(2))
        self._state: Numbers = np.array([0, LAST, first << WORD_BITS | second, 2], np.uint64)

    def decode(self, above: Above) -> Symbols | None:
        """As of `vqcodec.entropy.constriction_coder`."""
        symbols = np.empty(len(above), np.int32)
        fit = self._decode(np.ascontiguousarray(above), self._words, self._state, symbols)
        return symbols if fit else None

    def exhausted(self) -> bool:
        """As of `vqcodec.entropy.constriction_coder`."""
        lower, range_, point, read = map(int, self._state)
        near = range_ == LAST or (point - lower) & LAST <= FARTHEST
        return near and read >= len(self._words)


def encode(symbols: Symbols, above: Above, words: Words, state: Numbers) -> None:
    """Codes symbols.

    Args:
        symbols: int32 [m].
        above: Frequencies less 1, float32 [m, K].
        words: The words so far, uint32, with room for m more.
        state: Of the encoder, [3]; it is changed, too.
    """
    lower, range_, count = map(int, state)
    ends = np.cumsum(above.astype(np.int32) + 1, axis=1, dtype=np.int32)
    end = ends[np.arange(len(symbols)), symbols]
    frequencies = above[np.arange(len(symbols)), symbols].astype(np.int32) + 1
    for start, frequency in zip((end - frequencies).tolist(), frequencies.tolist(), strict=True):
        scale = range_ >> TOTAL_BITS
        lower += scale * start
        range_ = scale * frequency
        if lower > LAST:
            lower &= LAST
            _carry(words, count)
        if range_ < LEAST_RANGE:
            words[count] = lower >> WORD_BITS
            count += 1
            lower = lower << WORD_BITS & LAST
            range_ <<= WORD_BITS
    state[:] = np.array([lower, range_, count], np.uint64)


def _carry(words: Words, count: int) -> None:
    """Adds 1 to the number that the first words are."""
    place = count - 1
    while words[place] == LAST_WORD:
        words[place] = 0
        place -= 1
    words[place] += 1


def decode(above: Above, words: Words, state: Numbers, symbols: Symbols) -> bool:
    """Decodes symbols.

    Args:
        above: Frequencies less 1, float32 [m, K].
        words: All of them, uint32.
        state: Of the decoder, [4]; it is changed.
        symbols: Where to write, int32 [m].

    Returns:
        Whether the words fit the frequencies; if not, state and symbols are of no use.
    """
    lower, range_, point, read = map(int, state)
    ends = np.cumsum(above.astype(np.int32) + 1, axis=1, dtype=np.int32)
    for i, row in enumerate(ends):
        scale = range_ >> TOTAL_BITS
        quantile = ((point - lower) & LAST) // scale
        if quantile >= TOTAL:
            return False
        symbol = int(row.searchsorted(np.int32(quantile), "right"))
        start = int(row[symbol - 1]) if symbol else 0
        symbols[i] = symbol
        lower = (lower + scale * start) & LAST
        range_ = scale * (int(row[symbol]) - start)
        if range_ < LEAST_RANGE:
            lower = lower << WORD_BITS & LAST
            range_ <<= WORD_BITS
            point = point << WORD_BITS & LAST | (int(words[read]) if read < len(words) else 0)
            read += 1
    state[:] = np.array([lower, range_, point, read], np.uint64)
    return True


def _usable(compiled: bool | None) -> bool:
    return kernels.usable(torch.device("cpu")) if compiled is None else compiled


def _compiled() -> Any:
    from vqcodec.kernels import range_coder

    return range_coder


def fault() -> str | None:
    """Compiles what is not compiled, and says what is wrong with it, or None."""
    raw = np.random.PCG64(2).random_raw  # of this seed, the words fit the frequencies
    count, size = 2000, 5
    shifts = raw(count * size) % np.uint64(24) + np.uint64(42)
    above = (raw(count * size) >> shifts).reshape(count, size)
    above[:, 2] += np.uint64(TOTAL - size) - above.sum(1)
    above = above.astype(np.float32)
    words = (raw(count) >> np.uint64(WORD_BITS)).astype(np.uint32)
    words.reshape(-1, 4)[:, 1:3] = 0  # lower comes near them from below, and carries in the end
    symbols = RangeDecoder(words, compiled=False).decode(above)
    assert symbols is not None
    encoder, reference = RangeEncoder(compiled=True), RangeEncoder(compiled=False)
    encoder.encode(symbols, above)
    reference.encode(symbols, above)
    decoder = RangeDecoder(reference.words(), compiled=True)
    found = decoder.decode(above)
    same = found is not None and np.array_equal(found, symbols) and decoder.exhausted()
    same &= np.array_equal(encoder.words(), reference.words())
    return None if same else "the compiled range coder does not find what the plain one finds"
