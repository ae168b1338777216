from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from vqcodec.codec import compress, decompress
from vqcodec.watch import Clock, stage, watching


def test_nobody_watches_by_default() -> None:
    with stage("outer"), stage("inner"):
        pass


def test_stages_are_entered_and_left_in_turn() -> None:
    seen: list[str] = []

    @contextmanager
    def note(name: str) -> Iterator[None]:
        seen.append(f"+{name}")
        yield
        seen.append(f"-{name}")

    with watching(note), stage("outer"), stage("inner"):
        pass
    with stage("after"):
        pass
    assert seen == ["+outer", "+inner", "-inner", "-outer"]


def test_the_corridor_names_its_stages(tiny_model: Path) -> None:
    seen: list[str] = []

    @contextmanager
    def note(name: str) -> Iterator[None]:
        seen.append(name)
        yield

    pixels = np.zeros((40, 40, 3), np.uint8)
    with watching(note):
        data = bytes(compress(pixels, lossless="never", model=tiny_model))
    names = list(dict.fromkeys(seen))
    assert names == [
        *("weights", "tiling", "analysis", "search", "level 0, frequencies", "coding"),
        *("level 1, frequencies", "level 2, frequencies", "checksum of indices", "pack"),
    ]
    seen.clear()
    with watching(note):
        decompress(data, model=tiny_model)
    assert list(dict.fromkeys(seen)) == [
        *("unpack", "weights", "tiling", "level 0, frequencies", "coding"),
        *("level 1, frequencies", "level 2, frequencies", "checksum of indices", "synthesis"),
    ]


class TestClock:
    def test_a_stage_is_without_those_inside_it(self) -> None:
        clock = Clock()
        with watching(clock.stage):
            with stage("outer"):
                time.sleep(0.02)
                with stage("inner"):
                    time.sleep(0.01)
            with stage("inner"):
                time.sleep(0.01)
        found = clock.milliseconds()
        assert list(found) == ["outer", "inner", "rest", "all"]
        assert found["outer"] >= 20
        assert found["inner"] >= 20
        assert found["all"] == pytest.approx(sum(found.values()) - found["all"])

    def test_an_error_ends_a_stage(self) -> None:
        clock = Clock()
        with pytest.raises(ValueError, match="sleep length"), clock.stage("inner"):
            time.sleep(-1)
        assert clock.running == ["rest"]
        assert list(clock.milliseconds()) == ["inner", "rest", "all"]
