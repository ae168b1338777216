"""Rows shared out among threads: compiled steps let go of the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

from vqcodec.entropy.kernels.steps import ROWS

PARTS = 4  # of the rows, for each thread, so that none waits long for another


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "vqcodec")


def spread(work: Callable[[int, int], object], rows: int) -> None:
    """Has `work(first, end)` done for all of so many rows, in as many threads as torch has."""
    threads = torch.get_num_threads()
    each = ROWS * max(1, -(-rows // (ROWS * PARTS * threads)))
    if threads == 1 or rows <= each:
        work(0, rows)
        return
    parts = iter(range(0, rows, each))

    def some() -> None:
        for first in parts:
            work(first, min(first + each, rows))

    others = [_pool(threads - 1).submit(some) for _ in range(threads - 1)]
    some()
    for other in others:
        other.result()
