from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vqcodec.codec import compress, decompress
from vqcodec.watch import stage, watching


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
        data = bytes(compress(pixels, model=tiny_model))
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
