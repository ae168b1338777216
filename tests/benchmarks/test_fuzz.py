"""The fuzzer sees all that can go wrong, and its files are broken in the ways they should be."""

from __future__ import annotations

import random
from collections import Counter

import fuzz
import mutations
import pytest
from broken_targets import TARGET, WAYS

from vqcodec import container
from vqcodec.errors import ChecksumError, CodecError


def test_all_that_goes_wrong_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 0.5)
    numbers: list[int] = []
    for way in WAYS:  # one case of each
        numbers += [next(n for n in range(500) if TARGET.case(0, n)[1] == way)]
    first, last = min(numbers), max(numbers)
    faults = {}
    for number, done in fuzz.outcomes(TARGET, 0, range(first, last + 1)):
        way = TARGET.case(0, number)[1]
        faults[way] = "" if done.fault is None else done.fault[0]
    assert {way: faults[way] for way in WAYS} == {
        b"fine": "",
        b"raises": "KeyError in tests/broken_targets.py, check",
        b"prints": "something was printed",
        b"dies": "the process ended with -6",
        b"loops": "took more than 0 s of the processor",
        b"takes memory": "MemoryError in tests/broken_targets.py, check",
        b"says nothing": "WrongError in benchmarks/fuzz.py, one_line",
    }


def test_most_mutations_have_right_checksums() -> None:
    rng = random.Random(1)
    seeds = fuzz.vqz_files()
    reasons: Counter[str] = Counter()
    for n in range(400):
        try:
            container.salvage(mutations.vqz(seeds[n % len(seeds)].data, rng))
        except CodecError as error:
            reasons[type(error).__name__] += 1
        else:
            reasons["none"] += 1
    assert reasons["none"] > 200
    assert reasons[ChecksumError.__name__] < 20
    assert len(reasons) > 4


@pytest.mark.parametrize("name", list(fuzz.TARGETS))
def test_a_case_is_the_same_again(name: str) -> None:
    target = fuzz.TARGETS[name]
    for number in (0, 150, 777):
        one, other = target.case(3, number), target.case(3, number)
        assert one[:2] == other[:2]
        assert one[2].getstate() == other[2].getstate()
