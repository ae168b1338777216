"""The same work on many files, in this process or in several new ones."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import TypeVar

from vqcodec.errors import CodecError
from vqcodec.files import make_folder, remove_leftovers
from vqcodec.folders import Task

T = TypeVar("T")
W = TypeVar("W")

SPAWN = multiprocessing.get_context("spawn")
GRACE = 3.0  # seconds that an ended process has to remove what it has begun to write


def run(
    work: Callable[[Task], T],
    tasks: Sequence[Task],
    done: Callable[[Task, T | Exception], object],
    *,
    jobs: int = 1,
) -> None:
    """Does tasks whose targets are files, whatever becomes of the others.

    Folders of targets are made, and what killed processes left in them is removed. An interrupt,
    or anything else that `done` raises, ends the work at once; what is finished stays. Processes
    end with this one, even if it is killed.

    Args:
        work: Does one task. For several processes it and its result can be pickled, and a script
            that calls this does so under `if __name__ == "__main__"`.
        tasks: What to do, begun in this order.
        done: Called in this thread with every task, as soon as it ends, and its result or what it
            raised.
        jobs: How many processes, which share torch's threads; 1 for this process alone.

    Raises:
        OutputError: A folder cannot be made.
    """
    for folder in dict.fromkeys(Path(task.target).parent for task in tasks):
        make_folder(folder)
        remove_leftovers(folder)
    jobs = min(jobs, len(tasks))
    if jobs > 1:
        _run_in_processes(work, tasks, done, jobs)
        return
    for task in tasks:
        result: T | Exception
        try:
            result = work(task)
        except Exception as error:
            result = error
        done(task, result)


def _run_in_processes(
    work: Callable[[Task], T],
    tasks: Sequence[Task],
    done: Callable[[Task, T | Exception], object],
    jobs: int,
) -> None:
    left = iter(tasks)
    running: dict[Future[T], tuple[Task, Process]] = {}
    with ending_what_is_started() as started:
        for task in [next(left) for _ in range(jobs)]:
            process = Process(jobs)
            started.append(process)
            running[process.submit(work, task)] = task, process
        while running:
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                task, process = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    # It has had one task alone, so it is known which.
                    reason = "its process was killed, perhaps for its memory; use fewer --jobs"
                    error = CodecError(reason).in_file(task.source)
                    process.shutdown()
                    process = Process(jobs)
                    started.append(process)
                if (following := next(left, None)) is not None:
                    running[process.submit(work, following)] = following, process
                if error is not None and not isinstance(error, Exception):
                    raise error
                done(task, future.result() if error is None else error)


class Process(ProcessPoolExecutor):
    """One new process, which ends with this one.

    Args:
        jobs: How many share torch's threads.
        begin: What it does first.
        arguments: Of that.
    """

    def __init__(
        self, jobs: int, begin: Callable[..., object] | None = None, *arguments: object
    ) -> None:
        super().__init__(1, SPAWN, partial(_begin, jobs, begin, *arguments))

    def submit(self, work: Callable[[W], T], task: W) -> Future[T]:  # type: ignore[override]
        """Has it do a task; the first one starts it."""
        with _without_interrupts():
            return super().submit(_within, work, task)


@contextmanager
def ending_what_is_started() -> Iterator[list[Process]]:
    """Ends the processes that were started in the block, at once if it fails."""
    before = set(multiprocessing.active_children())
    started: list[Process] = []
    try:
        yield started
    except BaseException:
        _end([each for each in multiprocessing.active_children() if each not in before])
        raise
    finally:
        for process in started:
            process.shutdown()


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Has processes that are started in the block not see a terminal's interrupt, ever.

    The executor has started multiprocessing's own process before, which would undo this.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(jobs: int, begin: Callable[..., object] | None = None, *arguments: object) -> None:
    """What a new process does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    if begin is not None:
        begin(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _within(work: Callable[[W], T], task: W) -> T:
    """Does a task in such a process."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, leave)
    try:
        return work(task)
    except SystemExit:
        os._exit(1)  # what it had begun to write is removed; the executor would keep the process
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
