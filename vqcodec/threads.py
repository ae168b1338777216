"""Work shared out among threads, as many as torch has: for what lets go of Python's lock.

Torch's own threads stand still meanwhile: in each thread its operations run in that one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")

PARTS = 4  # of each thread's rows, so that none waits long for another

_here = threading.local()


def number() -> int:
    """In how many threads work can be shared out; 1 for work that is itself a share."""
    return 1 if getattr(_here, "shared", False) else torch.get_num_threads()


@contextmanager
def single() -> Iterator[None]:
    """Has torch's operations run in this thread alone, for the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share(work: Callable[[T], object], parts: Iterable[T], threads: int | None = None) -> None:
    """Has `work` done for all parts, by this thread and others; they end in any order.

    What one of them raises is raised here, when the others have ended what they were at.

    Args:
        work: What to do.
        parts: With what.
        threads: How many, this one among them; None for `number()`.
    """
    given = list(parts)
    threads = number() if threads is None else threads
    if threads == 1 or len(given) < 2:
        for part in given:
            work(part)
        return
    left = iter(given)  # taking the next is one step to Python
    failed = threading.Event()
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def some() -> None:
        _here.shared = True
        try:
            for part in left:
                if failed.is_set():
                    return
                work(part)
        except BaseException:
            failed.set()
            raise
        finally:
            _here.shared = False

    def others() -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients), single():
            some()

    others_at = [_pool().submit(others) for _ in range(min(threads, len(given)) - 1)]
    try:
        with single():
            some()
    finally:
        errors = [other.exception() for other in others_at]
    for error in errors:
        if error is not None:
            raise error


def spread(work: Callable[[int, int], object], rows: int, least: int) -> None:
    """Has `work(first, end)` done for all of so many rows, a multiple of `least` at a time."""
    threads = number()
    each = least * max(1, -(-rows // (least * PARTS * threads)))
    if threads == 1 or rows <= each:
        work(0, rows)
        return
    share(lambda first: work(first, min(first + each, rows)), range(0, rows, each))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="vqcodec")


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
