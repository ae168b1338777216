"""The driver: a plan made or found, its ranges handed to an engine, the account of all images."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vqcodec.corpus import manifest, parts, sources
from vqcodec.corpus import plan as plans
from vqcodec.corpus.local import Limits, Pool
from vqcodec.corpus.manifest import DONE, ERRORS
from vqcodec.corpus.names import FILES, LOCAL, OWN, RAY, WEBDATASET
from vqcodec.corpus.parts import Range
from vqcodec.corpus.plan import Plan
from vqcodec.corpus.site import Job, Outcome, Site, Task, prepared
from vqcodec.corpus.sources import Item
from vqcodec.corpus.store import LocalStore, absolute, open_store
from vqcodec.corpus.work import Work
from vqcodec.errors import CodecError, OutputError

IMAGES_AT_ONCE = 64  # at most, in a range
BYTES_AT_ONCE = 8 << 20  # of sources, unless one alone has more
SHARES = 4  # of what is left, each worker takes no more than such a part at once

Tell = Callable[[Outcome], object]
"""Called with every outcome."""


@dataclass(frozen=True)
class Wish:
    """A corpus that is wanted.

    Attributes:
        source: A folder, a file or pattern of shards, or a URL.
        target: A folder or a URL.
        work: What is done with every image.
        format: One of `names.FORMATS`.
        source_format: The same of the source; None to see for itself.
        shard_size: Images of a shard.
        threads: Of torch, a worker.
    """

    source: str
    target: str
    work: Work
    format: str = FILES
    source_format: str | None = None
    shard_size: int = 10_000
    threads: int = 1

    def plan(self, tell: Callable[[int], object] = lambda images: None) -> Plan:
        """The plan that is there, or a new one.

        Args:
            tell: Called with the number of images so far.

        Raises:
            CodecError: as of `plan.make`.
        """
        root, wanted = sources.split(absolute(self.source))
        if absolute(self.target) == root:
            raise OutputError("is the source itself; give another folder").in_file(self.target)
        source, store = open_store(root), open_store(absolute(self.target))
        kind = self.source_format or sources.kind_of(source, wanted)
        settings = {
            "source": root,
            "source_pattern": wanted,
            "source_format": kind,
            "format": self.format,
            "shard_size": self.shard_size,
            "threads": self.threads,
            "work": self.work.settings(),
        }
        if plans.read(store) is None:
            self.work.check()  # what cannot be is told before there is a plan of it
        endings = self.work.endings
        return plans.make(store, settings, lambda: self._items(kind, root, wanted, endings), tell)

    def _items(self, kind: str, root: str, wanted: str, endings: frozenset[str]) -> Iterator[Item]:
        dots = self.format != WEBDATASET  # there, what is behind a dot is no part of the key
        return sources.find(open_store(root), kind, wanted, endings, dots=dots)


class Summary(NamedTuple):
    """The account of a corpus.

    Attributes:
        images: That are done.
        failed: That are not.
        before: How many of both an earlier run had done.
        bytes_in: Of the sources.
        bytes_out: Of what was made.
        pixels: Of the images.
    """

    images: int
    failed: int
    before: int
    bytes_in: int
    bytes_out: int
    pixels: int


class Left:
    """What is left of a plan: cut into ranges as it is asked for.

    Args:
        plan: Of the corpus.
        workers: That share it.
    """

    def __init__(self, plan: Plan, workers: int) -> None:
        self._plan = plan
        self._shares = SHARES * workers
        finished = plan.finished()
        self._missing: deque[Range] = deque()
        self._lacks: Counter[int] = Counter()
        self._complete: list[int] = []
        there = parts.finished(plan)
        for shard, count in enumerate(plan.counts):
            if shard in finished:
                continue
            missing = parts.missing(shard, count, there.get(shard, []))
            self._missing.extend(missing)
            self._lacks[shard] = sum(each.end - each.first for each in missing)
            if not missing:
                self._complete.append(shard)
        self.images = sum(self._lacks.values())
        self.shards = len(self._lacks)

    def tasks(self) -> Iterator[Task]:
        """Shards to be finished, then ranges, the smaller the less there is left."""
        for shard in self._complete:
            yield _finish(shard)
        left, shard, items = self.images, -1, []
        while self._missing:
            whole = self._missing.popleft()
            if whole.shard != shard:
                shard, items = whole.shard, self._plan.items(whole.shard)
            most = max(1, min(IMAGES_AT_ONCE, left // self._shares))
            end, size = whole.first, 0
            while end < min(whole.end, whole.first + most) and size < BYTES_AT_ONCE:
                size += items[end].size
                end += 1
            if end < whole.end:
                self._missing.appendleft(whole._replace(first=end))
            left -= end - whole.first
            yield Task(whole._replace(end=end))

    def done(self, task: Task) -> list[Task]:
        """Takes a task for done, and gives those that follow from it."""
        shard = task.range.shard
        self._lacks[shard] -= task.range.end - task.range.first
        return [] if task.finishes or self._lacks[shard] else [_finish(shard)]


def run(
    plan: Plan,
    *,
    workers: int,
    engine: str = LOCAL,
    limits: Limits | None = None,
    fail: bool = False,
    begin: Callable[[int], object] = lambda before: None,
    tell: Tell = lambda outcome: None,
) -> Summary:
    """Does what is left of a plan.

    Args:
        plan: Of the corpus.
        workers: How many; 0 for this process alone, without limits.
        engine: One of `names.ENGINES`.
        limits: Of one image; None for none.
        fail: Whether the first image that fails ends the run.
        begin: Called with the number of images that are done already.
        tell: Called with every outcome.

    Raises:
        CodecError: a store failed, another run is at work on it, what the engine needs is missing,
            or an image failed and is to end the run.
    """
    job = Job(plan.store.root, plan.settings["threads"], fail)
    limits = limits or Limits()
    with _locked(plan):
        left = Left(plan, max(1, workers))
        begin(plan.images - left.images)

        def done(task: Task, outcome: Outcome) -> list[Task]:
            tell(outcome)
            return left.done(task)

        if engine == RAY:
            from vqcodec.corpus import cluster

            cluster.run(plan, job, left.tasks(), done, workers=workers, limits=limits)
        elif workers == 0 or plan.store.root.startswith("memory:"):  # which others do not see
            _run_here(job, left.tasks(), done)
        elif left.shards:
            with Pool(job, workers, limits) as pool:
                pool.run(left.tasks(), done)
        return _account(plan, plan.images - left.images, tidy=bool(left.shards))


def _run_here(job: Job, tasks: Iterator[Task], done: Callable[[Task, Outcome], list[Task]]) -> None:
    """In this process, without limits."""
    site = Site(job, [0.0, 0.0, 0.0])
    with prepared(job.threads) if site.work.needs_torch else nullcontext():
        for task in tasks:
            following = [task]
            while following:
                own = following.pop()
                following += done(own, site.do(own))


def _account(plan: Plan, before: int, *, tidy: bool) -> Summary:
    """Adds up all manifests, and writes the list of what failed."""
    total: Counter[str] = Counter()
    failed = []
    for row in plan.rows():
        total["bytes_in"] += row.source_bytes
        total["bytes_out"] += row.bytes
        total["pixels"] += row.width * row.height
        total["images"] += row.status == DONE
        if row.status != DONE:
            failed.append(row)
    content = manifest.dump_errors(failed)
    if tidy:
        plan.store.tidy("")
        for shard in range(len(plan.counts)):
            plan.store.tidy(plans.parts_folder(shard))
        for name in list(plan.store.names(f"{OWN}/parts")):
            plan.store.remove(name)
    if not plan.store.exists(ERRORS) or plan.store.read(ERRORS) != content:
        plan.store.write(ERRORS, content)
    return Summary(
        total["images"],
        len(failed),
        before,
        total["bytes_in"],
        total["bytes_out"],
        total["pixels"],
    )


def _finish(shard: int) -> Task:
    return Task(Range(shard, 0, 0))


def _locked(plan: Plan) -> AbstractContextManager[None]:
    """Keeps other runs of this machine away from a folder."""
    if not isinstance(plan.store, LocalStore) or sys.platform == "win32":
        return nullcontext()
    return _lock(Path(plan.store.root, OWN, ".lock"))


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    import fcntl

    with open(path, "wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            reason = "another run is at work on it; wait for it, or end it"
            raise CodecError(reason).in_file(path.parent.parent) from error
        yield
