from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vqcodec.corpus.plan import Plan
from vqcodec.corpus.run import Summary, Wish, run
from vqcodec.corpus.work import Work

Corpus = Callable[..., Plan]


@pytest.fixture
def corpus(tmp_path: Path, request: pytest.FixtureRequest) -> Corpus:
    """Plan a corpus of `tmp_path`, and make it in this process: `corpus("compress", SRC, DST)`.

    Files are lossless unless something else is asked for, which is quick.
    """

    def make(command: str, source: str, target: str, **options: Any) -> Plan:
        own = {name: options.pop(name) for name in list(options) if name not in _WISHES}
        if command == "compress":
            own = {"lossless": "always", **own}
        if own.get("lossless") != "always":
            own = {"model": str(request.getfixturevalue("tiny_model")), **own}
        wish = Wish(
            str(tmp_path / source) if "://" not in source else source,
            str(tmp_path / target) if "://" not in target else target,
            Work(command, **own),
            **options,
        )
        plan = wish.plan()
        summary[0] = run(plan, workers=0)
        return plan

    return make


_WISHES = ("format", "source_format", "shard_size", "threads")
summary: list[Any] = [None]


@pytest.fixture
def account() -> Callable[[], Summary]:
    """The account of the last corpus."""
    return lambda: summary[0]
