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
    done = dict(fuzz.outcomes(TARGET, 0, range(len(WAYS))))
    faults = {WAYS[n]: each.fault and each.fault[0] for n, each in done.items()}
    assert faults == {
        "fine": None,
        "raises": "KeyError in tests/broken_targets.py, check",
        "prints": "something was printed",
        "dies": "the process ended with -6",
        "loops": "took more than 0 s of the processor",
        "takes memory": "MemoryError in tests/broken_targets.py, check",
        "says nothing": "WrongError in benchmarks/fuzz.py, one_line",
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
    assert reasons[ChecksumError.__name__] < 60
    assert len(reasons) > 4


@pytest.mark.parametrize("name", list(fuzz.TARGETS))
def test_a_case_is_the_same_again(name: str) -> None:
    target = fuzz.TARGETS[name]
    for number in (0, 150, 777):
        one, other = target.case(3, number), target.case(3, number)
        assert one[:2] == other[:2]
        assert one[2].getstate() == other[2].getstate()
