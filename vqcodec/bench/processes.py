"""Processes that share nothing with this one but files and environment."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial


@contextmanager
def fresh(
    prepare: Callable[[], object] | None = None,
    *,
    count: int = 1,
    variables: Mapping[str, str | None] | None = None,
) -> Iterator[ProcessPoolExecutor]:
    """New Python processes, which leave an interrupt to this one.

    Args:
        prepare: Called once in every process, before anything else.
        count: How many.
        variables: Of the environment for the block, here too; None for those to remove.
    """
    before = dict(os.environ)
    for name, value in (variables or {}).items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(count, spawn, partial(_begin, prepare)) as processes:
            yield processes
    finally:
        os.environ.clear()
        os.environ.update(before)


def _begin(prepare: Callable[[], object] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if prepare is not None:
        prepare()
