"""Our range coder, plain and compiled, against constriction's: the same words, the same symbols."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.entropy import range_coder
from vqcodec.entropy.range_coder import RangeDecoder, RangeEncoder
from vqcodec.spec.prior import TOTAL

constriction_coder = pytest.importorskip(
    "vqcodec.entropy.constriction_coder", reason="constriction is not made for this machine"
)

WORD = 1 << 32
WAYS = [False, True]  # whether compiled
SKEWS = [0.003, 0.05, 1.0, 100.0]  # of Dirichlet distributions: one likely symbol, to all the same


class Part(NamedTuple):
    """Some symbols with one alphabet: int32 [m], and frequencies less 1, float32 [m, K]."""

    symbols: npt.NDArray[np.int32]
    above: npt.NDArray[np.float32]


def tables(seed: int, count: int, size: int, skew: float) -> npt.NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    drawn = generator.dirichlet(np.full(size, skew), count)
    return generator.multinomial(TOTAL - size, drawn).astype(np.float32)


def with_cuts(cuts: list[int]) -> npt.NDArray[np.float32]:
    """The table whose symbols end at these places."""
    return (np.diff([0, *sorted(cuts), TOTAL]) - 1).astype(np.float32)[None]


above_of_any = st.one_of(
    st.builds(
        tables,
        st.integers(0, 2**32 - 1),
        st.one_of(st.integers(0, 40), st.integers(500, 3000)),
        st.integers(2, 12),
        st.sampled_from(SKEWS),
    ),
    st.builds(
        tables,
        st.integers(0, 2**32 - 1),
        st.integers(0, 9),
        st.integers(2, 1100),
        st.sampled_from(SKEWS),
    ),
    st.builds(with_cuts, st.lists(st.integers(1, TOTAL - 1), min_size=1, max_size=30, unique=True)),
)


@st.composite
def parts(draw: st.DrawFn) -> Part:
    """Symbols as likely as they are said to be, or any."""
    above = draw(above_of_any)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        symbols = generator.integers(0, above.shape[1], len(above))
    else:
        ends = np.cumsum(above + 1.0, axis=1)
        symbols = (ends > generator.integers(0, TOTAL, (len(above), 1))).argmax(1)
    return Part(symbols.astype(np.int32), above)


def encoded(encoder: Any, message: list[Part]) -> list[int]:
    for part in message:
        encoder.encode(part.symbols, part.above)
    return encoder.words().tolist()


def coders(words: list[int]) -> Iterator[Any]:
    """A decoder of constriction's, and both of ours."""
    given = np.array(words, np.uint32)
    yield constriction_coder.RangeDecoder(given)
    for compiled in WAYS:
        yield RangeDecoder(given, compiled)


def agree(message: list[Part]) -> list[int]:
    """Encodes and decodes every way; gives the words."""
    words = encoded(constriction_coder.RangeEncoder(), message)
    for compiled in WAYS:
        assert encoded(RangeEncoder(compiled), message) == words
    for decoder in coders(words):
        for part in message:
            assert decoder.decode(part.above).tolist() == part.symbols.tolist()
        assert decoder.exhausted()
    return words


@given(st.lists(parts(), max_size=6))
@settings(deadline=None)
def test_the_same_words(message: list[Part]) -> None:
    agree(message)


edges = st.sampled_from([0, 0, 0, 1, WORD - 1, WORD - 1, WORD - 1, WORD - 2])


@given(
    st.lists(edges, min_size=2, max_size=30),
    st.integers(0, 2**32 - 1),
    st.integers(2, 9),
    st.sampled_from(SKEWS),
    st.lists(st.integers(0, 1), max_size=3),
)
@settings(deadline=None)
def test_words_that_carry(
    words: list[int], seed: int, size: int, skew: float, last: list[int]
) -> None:
    """Symbols whose range stays around a run of zeros or ones, and then leaves it anywhere."""
    above = tables(seed, 200, size, skew)
    decoder = RangeDecoder(np.array([WORD // 3, *words], np.uint32), compiled=False)
    symbols: list[int] = []
    for row in above[: -len(last) or None]:
        found = decoder.decode(row[None])
        if found is None or decoder._state[3] > len(words):
            break
        symbols += found.tolist()
    symbols += [one * (size - 1) for one in last]
    agree([Part(np.array(symbols, np.int32), above[: len(symbols)])])


def test_carries_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over no, one and several full words, while symbols come and after the last one."""
    runs: list[int] = []
    carry = range_coder._carry

    def counted(words: npt.NDArray[np.uint32], count: int) -> None:
        full = words[:count][::-1] == WORD - 1
        runs.append(int(full.argmin()))
        carry(words, count)

    monkeypatch.setattr(range_coder, "_carry", counted)
    above = tables(0, 120, 3, 1.0)
    # A point at which words end: the symbols' range stays around it, and lower is below it.
    around = RangeDecoder(np.array([WORD // 3], np.uint32), compiled=False).decode(above)
    assert around is not None
    coded, settled = set(), set()
    for count in range(len(above)):
        encoder = RangeEncoder(compiled=False)
        encoder.encode(around[:count], above[:count])
        coded.update(runs)
        runs.clear()
        encoder.words()
        settled.update(runs)
        runs.clear()
        encoder.encode(np.array([2], np.int32), above[count][None])
        coded.update(runs)
        runs.clear()
        agree([Part(around[:count], above[:count])])
        agree([Part(np.append(around[:count], np.int32(2)), above[: count + 1])])
    assert coded >= {0, 1, 2}
    assert settled >= {0, 1}


damaged_words = st.lists(st.one_of(edges, st.integers(0, WORD - 1)), max_size=12)


@given(damaged_words, st.lists(above_of_any, max_size=3))
@settings(deadline=None)
def test_damaged_words_are_noticed_alike(words: list[int], asked: list[Any]) -> None:
    first, *others = coders(words)
    for above in asked:
        expected = first.decode(above)
        found = [other.decode(above) for other in others]
        if expected is None:
            assert found == [None, None]
            return
        assert [each.tolist() for each in found] == [expected.tolist()] * 2
    assert {other.exhausted() for other in others} == {first.exhausted()}


@given(parts(), st.integers(-2, 2), st.lists(st.sampled_from([0, 1, WORD - 1]), max_size=2))
@settings(deadline=None)
def test_other_last_words_are_noticed_alike(part: Part, by: int, after: list[int]) -> None:
    words = encoded(RangeEncoder(compiled=True), [part])
    if words:
        words[-1] = (words[-1] + by) % WORD
    first, *others = coders(words + after)
    expected = first.decode(part.above)
    for other in others:
        found = other.decode(part.above)
        assert (found is None) == (expected is None)
        if expected is not None:
            assert found.tolist() == expected.tolist()
            assert other.exhausted() == first.exhausted()
