"""The local engine: worker processes of this machine, each watched.

A worker that dies is replaced. The image that it was at is tried once more, alone; if its worker
dies again, it is listed with the others that failed. So is what takes too long or too much memory.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from vqcodec.batch import SPAWN, Process, ending_what_is_started
from vqcodec.corpus import site
from vqcodec.corpus.parts import Range
from vqcodec.corpus.site import INDEX, NOTHING, PID, SINCE, Job, Outcome, Task
from vqcodec.errors import CodecError

Done = Callable[[Task, Outcome], Iterable[Task]]
"""Called with a task and what became of it; gives the tasks that follow from it."""

MEMORY = 0.9  # of the machine's, for all workers
LOOK = 0.1  # seconds between two looks at workers
TRIES_ALONE = 1  # of an image that broke a limit
TRIES_OF_THE_DEAD = 3  # of one whose worker was killed by somebody else, perhaps by chance
DEATHS_BEFORE_WORK = 5  # in a row


@dataclass(frozen=True)
class Limits:
    """Of one image.

    Attributes:
        seconds: At most.
        memory: Bytes that its worker may have resident at most, as far as the system tells them;
            None for its share of the machine's, and nearly all where it works alone.
    """

    seconds: float = math.inf
    memory: float | None = None


class _Suspect(NamedTuple):
    """An image whose worker died: where, why, and how often it was tried alone."""

    range: Range
    reason: str
    tries: int
    most: int


@dataclass
class _Worker:
    """A process and what it tells of itself."""

    beat: Any = field(default_factory=lambda: SPAWN.Array("d", [0.0, NOTHING, 0.0], lock=False))
    process: Process = field(init=False)
    broken: str = ""
    """The limit for which it was killed."""

    def __post_init__(self) -> None:
        self.process = Process(1, site.begin, self.beat)

    def look(self, seconds: float, memory: float) -> None:
        """Kills it if its image takes more than so many seconds or bytes."""
        if self.beat[INDEX] == NOTHING or self.broken:
            return
        pid, since = int(self.beat[PID]), self.beat[SINCE]
        if time.monotonic() - since > seconds:
            self.broken = f"took more than {seconds:g} seconds"
        elif memory < math.inf and (taken := resident(pid)) > memory:
            self.broken = f"took {taken >> 20} MiB of memory, more than {int(memory) >> 20}"
        if self.broken:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


class Pool:
    """Workers, which stay from run to run. To be entered by `with`.

    Args:
        job: What they have to know.
        workers: How many.
        limits: Of one image.
        beside: How many workers share the machine's memory; None for these.
    """

    def __init__(self, job: Job, workers: int, limits: Limits, beside: int | None = None) -> None:
        self._job = job
        self._seconds = limits.seconds
        everything = MEMORY * machine_memory() if limits.memory is None else limits.memory
        shared = limits.memory is None
        self._memory = everything / (beside or workers) if shared else everything
        self._memory_alone = everything if beside is None else self._memory
        self._workers = workers
        self._idle: list[_Worker] = []
        self._running: dict[Future[Outcome], tuple[Task, _Worker]] = {}
        self._deaths = 0
        self._stack = ExitStack()
        self._started: list[Process] = []

    def __enter__(self) -> Pool:
        self._started = self._stack.enter_context(ending_what_is_started())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def run(self, tasks: Iterator[Task], done: Done) -> None:
        """Does tasks.

        Args:
            tasks: Each is taken when a worker is free.
            done: Called in this thread as soon as one has ended.

        Raises:
            CodecError: a store failed, an image did if that is to end the run, or workers die
                before they begin.
        """
        again: deque[Task] = deque()
        suspects: deque[_Suspect] = deque()
        alone: _Suspect | None = None
        while True:
            while len(self._running) < self._workers and alone is None:
                task = again.popleft() if again else next(tasks, None)
                if task is None:
                    break
                self._give(task)
            if not self._running:
                if not suspects:
                    return
                alone = suspects.popleft()
                self._give(Task(alone.range))
            for task, worker, future in self._ended(alone is not None):
                error = future.exception()
                if error is None:
                    self._deaths = 0
                    self._idle.append(worker)
                    again.extend(done(task, future.result()))
                elif isinstance(error, BrokenProcessPool):
                    worker.process.shutdown()
                    suspect = self._suspect(task, worker, alone)
                    if suspect is None:
                        again.append(task)
                    elif suspect.tries >= suspect.most:
                        again.append(Task(suspect.range, suspect.reason))
                    else:
                        suspects.append(suspect)
                        again.extend(_around(task.range, suspect.range))
                else:
                    raise error
                alone = None

    def _give(self, task: Task) -> None:
        while self._idle:
            worker = self._idle.pop()
            with suppress(BrokenProcessPool):  # it was killed while it had nothing to do
                self._running[worker.process.submit(site.do, (self._job, task))] = task, worker
                return
            worker.process.shutdown()
        worker = _Worker()
        self._started.append(worker.process)
        self._running[worker.process.submit(site.do, (self._job, task))] = task, worker

    def _ended(self, alone: bool) -> list[tuple[Task, _Worker, Future[Outcome]]]:
        """Waits for tasks that have ended, and looks after the others."""
        memory = self._memory_alone if alone else self._memory
        while True:
            ended, _ = wait(self._running, LOOK, return_when=FIRST_COMPLETED)
            for future, (_, worker) in self._running.items():
                if future not in ended:
                    worker.look(self._seconds, memory)
            if ended:
                return [(*self._running.pop(future), future) for future in ended]

    def _suspect(self, task: Task, worker: _Worker, alone: _Suspect | None) -> _Suspect | None:
        """The image that a worker died at, if it was at one."""
        number = int(worker.beat[INDEX])
        if number == NOTHING or task.error:
            self._deaths += 1
            if self._deaths == DEATHS_BEFORE_WORK:
                advice = "see whether vqcodec compress works here, and use fewer --workers"
                raise CodecError(f"{self._deaths} workers died before they began; {advice}")
            return None
        self._deaths = 0
        reason = worker.broken or "its process was killed each time, perhaps for its memory"
        most = TRIES_ALONE if worker.broken else TRIES_OF_THE_DEAD
        own = Range(task.range.shard, number, number + 1)
        return _Suspect(own, reason, 0 if alone is None else alone.tries + 1, most)


def _around(whole: Range, part: Range) -> list[Task]:
    """What a range has besides one of its images."""
    sides = (whole._replace(end=part.first), whole._replace(first=part.end))
    return [Task(side) for side in sides if side.first < side.end]


def resident(pid: int) -> int:
    """Bytes that a process has in memory; 0 where the system does not tell."""
    with suppress(OSError, IndexError, ValueError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def machine_memory() -> float:
    """Bytes of memory that there are; infinite where the system does not tell."""
    found = math.inf
    with suppress(AttributeError, OSError, ValueError):
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            found = min(found, int(Path("/sys/fs/cgroup", name).read_text()))
    return found


def workers_for(threads: int) -> int:
    """How many workers of so many threads this machine has processors for."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)) // threads)
    return max(1, (os.cpu_count() or 1) // threads)
