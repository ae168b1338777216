"""Work shared out among threads, as many as torch has: for what lets go of Python's lock.

Torch's own threads stand still meanwhile: in each thread its operations run in that one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

PARTS = 4  # of each thread's rows, so that none waits long for another

_here = threading.local()
_lock = threading.Lock()


def number() -> int:
    """In how many threads work can be shared out; 1 for work that is itself a share."""
    return 1 if getattr(_here, "shared", False) else torch.get_num_threads()


@contextmanager
def single() -> Iterator[None]:
    """Has torch's operations run in this thread alone, for the block."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    set_here(1)
    try:
        yield
    finally:
        set_here(before)


def set_here(threads: int) -> None:
    """`torch.set_num_threads` of this thread alone.

    That of torch is also of all threads that have not computed yet. Here they keep what they have,
    which one of them has to say.
    """
    with _lock, ThreadPoolExecutor(1) as fresh:
        torch.get_num_threads()  # what is first asked for later would undo this
        usual = fresh.submit(torch.get_num_threads).result()
        torch.set_num_threads(threads)
        fresh.submit(torch.set_num_threads, usual).result()


def share(work: Callable[[T], object], parts: Iterable[T], threads: int | None = None) -> None:
    """Has `work` done for all parts, by other threads; they end in any order.

    What one of them raises is raised here, when the others have ended what they were at.

    Args:
        work: What to do.
        parts: With what.
        threads: How many; None for `number()`. One is this one.
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
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
                for part in left:
                    if failed.is_set():
                        return
                    work(part)
        except BaseException:
            failed.set()
            raise

    others = [_pool.submit(some) for _ in range(min(threads, len(given)))]
    try:
        errors = [other.exception() for other in others]
    except BaseException:
        failed.set()
        wait(others)
        raise
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


def _begin() -> None:
    """What a thread of the pool does first."""
    _here.shared = True
    set_here(1)


def _new_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="vqcodec", initializer=_begin)


def _after_fork() -> None:
    """In the new process, which has none of the threads."""
    global _pool
    _lock.release()
    _pool = _new_pool()


_pool = _new_pool()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork
    )
