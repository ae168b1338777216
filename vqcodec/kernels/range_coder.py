"""The range coder of FORMAT.md, compiled. The reference is `vqcodec.entropy.range_coder`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vqcodec.kernels.store import compiled
from vqcodec.spec.prior import TOTAL, TOTAL_BITS

# Of uint64 and another integer type numba makes a float: these are all uint64.
NONE, ONE = np.uint64(0), np.uint64(1)
BITS = np.uint64(TOTAL_BITS)
ALL = np.uint64(TOTAL)
WORD_BITS = np.uint64(32)
LEAST_RANGE = np.uint64(1 << 32)

part: Any = njit(nogil=True, error_model="numpy")  # what compiled functions call


@compiled
def encode(symbols, above, words, state):  # type: ignore[no-untyped-def]
    """As of `vqcodec.entropy.range_coder.encode`."""
    lower, width, count = state[0], state[1], state[2]
    for i in range(len(symbols)):
        start = symbols[i]
        for smaller in range(symbols[i]):
            start += np.int32(above[i, smaller])
        scale, before = width >> BITS, lower
        lower += scale * np.uint64(start)
        width = scale * np.uint64(np.int32(above[i, symbols[i]]) + 1)
        if lower < before:
            carry(words, count)
        if width < LEAST_RANGE:
            words[count] = np.uint32(lower >> WORD_BITS)
            count += ONE
            lower <<= WORD_BITS
            width <<= WORD_BITS
    state[0], state[1], state[2] = lower, width, count


@part
def carry(words, count):  # type: ignore[no-untyped-def]
    """Adds 1 to the number that the words so far are."""
    place = count
    while place > NONE:
        place -= ONE
        words[place] += np.uint32(1)
        if words[place]:
            return


@compiled
def decode(above, words, state, symbols):  # type: ignore[no-untyped-def]
    """As of `vqcodec.entropy.range_coder.decode`."""
    lower, width, point, place = state[0], state[1], state[2], state[3]
    last = above.shape[1] - 1
    for i in range(len(symbols)):
        scale = width >> BITS
        quantile = (point - lower) // scale
        if quantile >= ALL:
            return False
        symbol, start = 0, np.int64(0)
        frequency = np.int64(above[i, 0]) + 1
        while symbol < last and start + frequency <= np.int64(quantile):
            start += frequency
            symbol += 1
            frequency = np.int64(above[i, symbol]) + 1
        symbols[i] = symbol
        lower += scale * np.uint64(start)
        width = scale * np.uint64(frequency)
        if width < LEAST_RANGE:
            lower <<= WORD_BITS
            width <<= WORD_BITS
            point <<= WORD_BITS
            if place < np.uint64(len(words)):
                point |= np.uint64(words[place])
            place += ONE
    state[0], state[1], state[2], state[3] = lower, width, point, place
    return True
