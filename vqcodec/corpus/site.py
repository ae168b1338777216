"""A worker's side: ranges of a plan done image by image, in a process that may be killed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

from vqcodec import registry
from vqcodec.corpus import parts, shards
from vqcodec.corpus import plan as plans
from vqcodec.corpus.manifest import DONE, FAILED, Row
from vqcodec.corpus.names import FILES
from vqcodec.corpus.parts import Part, Range
from vqcodec.corpus.plan import Plan
from vqcodec.corpus.sources import Item, Reader
from vqcodec.corpus.store import StoreError, open_store
from vqcodec.corpus.work import Work, error_text
from vqcodec.errors import CodecError, one_line

PID, INDEX, SINCE = range(3)  # what a worker tells of itself
NOTHING = -1.0


class Beat(Protocol):
    """Three numbers that another process sees: PID, number of the image, since when."""

    def __setitem__(self, place: int, value: float, /) -> None: ...


@dataclass(frozen=True)
class Job:
    """What every worker has to know.

    Attributes:
        target: URL of the corpus, where the plan is.
        threads: Of torch, a worker.
        fail: Whether the first image that fails ends the run.
    """

    target: str
    threads: int = 1
    fail: bool = False


class Task(NamedTuple):
    """What a worker is given.

    Attributes:
        range: Images to be done; of none, the shard is to be finished.
        error: Why its only image is not to be tried; empty if it is.
    """

    range: Range
    error: str = ""

    @property
    def finishes(self) -> bool:
        """Whether it is the end of a shard."""
        return self.range.first == self.range.end


class Outcome(NamedTuple):
    """What became of a task.

    Attributes:
        images: That are done.
        failed: That are not.
        bytes_in: Of the sources.
        bytes_out: Of what was made.
        pixels: Of the images.
        errors: Lines for the first of those that failed.
    """

    images: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    pixels: int = 0
    errors: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: list[Row]) -> Outcome:
        """That of the rows of images."""
        failed = [row for row in rows if row.status == FAILED]
        return cls(
            len(rows) - len(failed),
            len(failed),
            sum(row.source_bytes for row in rows),
            sum(row.bytes for row in rows),
            sum(row.width * row.height for row in rows),
            tuple(one_line(f"{row.key}: {row.error}") for row in failed),
        )

    @classmethod
    def total(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """That of several tasks."""
        return cls(
            sum(each.images for each in outcomes),
            sum(each.failed for each in outcomes),
            sum(each.bytes_in for each in outcomes),
            sum(each.bytes_out for each in outcomes),
            sum(each.pixels for each in outcomes),
            tuple(line for each in outcomes for line in each.errors),
        )


@dataclass
class Site:
    """Where the work is done.

    Attributes:
        job: What is to be known.
        beat: Told of every image, before and after.
    """

    job: Job
    beat: Beat
    plan: Plan = field(init=False)
    work: Work = field(init=False)
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        found = plans.read(open_store(self.job.target))
        if found is None:
            raise CodecError("has no plan any more; start again").in_file(self.job.target)
        self.plan, self.work = found, found.work
        settings = found.settings
        if self.work.settings()["model_sha256"] != settings["work"]["model_sha256"]:
            name = self.work.model or registry.DEFAULT_MODEL
            raise CodecError(f"{name} is another model here than in the plan; give all the same")
        source = open_store(settings["source"])
        self.reader = Reader(source, settings["source_format"], self.work.endings)
        self.items = lru_cache(maxsize=2)(self.plan.items)
        self.work.check()

    def do(self, task: Task) -> Outcome:
        """Does a task.

        Raises:
            StoreError: a store failed.
            CodecError: an image failed, and the job is to end then.
        """
        if task.finishes:
            shards.finish(self.plan, task.range.shard)
            return Outcome()
        items = self.items(task.range.shard)
        with self._writing(task.range) as stream_path, open(stream_path, "wb") as stream:
            part = Part(stream)
            for number in range(task.range.first, task.range.end):
                self.beat[SINCE] = time.monotonic()
                self.beat[INDEX] = number
                row, content = self._one(task, items[number])
                part.add(row, content)
                self.beat[INDEX] = NOTHING
            part.close()
        return Outcome.of(part.rows)

    def _writing(self, wanted: Range) -> AbstractContextManager[os.PathLike[str]]:
        return self.plan.store.building(parts.name_of(wanted))

    def _one(self, task: Task, item: Item) -> tuple[Row, bytes]:
        """The row of an image, and what the part keeps of it."""
        row = Row(item.key, FAILED, label=item.label, source=item.name)
        try:
            if task.error:
                raise CodecError(task.error)
            content = self.reader.read(item)
            row = row._replace(
                sha256=hashlib.sha256(content).hexdigest(), source_bytes=len(content)
            )
            made = self.work.do(content)
        except StoreError:
            raise
        except Exception as error:  # whatever a picture can do to a library
            text = error_text(error)
            if self.job.fail:
                raise CodecError(text).in_file(item.key) from error
            return row._replace(error=text), b""
        row = row._replace(
            status=DONE,
            file=shards.file_of(self.plan, task.range.shard, item.key),
            bytes=len(made.content),
            width=made.width,
            height=made.height,
            output_sha256=hashlib.sha256(made.content).hexdigest(),
            model=made.model,
        )
        if self.plan.settings["format"] == FILES:
            self.plan.store.write(row.file, made.content)
            return row, b""
        return row, made.content


_here: Site | None = None
_stay = ExitStack()


def begin(beat: Beat) -> None:
    """What a worker does first."""
    global _beat
    _beat = beat
    beat[INDEX] = NOTHING
    beat[PID] = os.getpid()


_beat: Beat = [0.0, NOTHING, 0.0]


def do(given: tuple[Job, Task]) -> Outcome:
    """Does a task in a worker, whose site stays.

    Raises:
        CodecError: as of `Site.do`.
    """
    global _here
    job, task = given
    if _here is None or _here.job != job:
        _here = Site(job, _beat)
        if _here.work.needs_torch:
            _stay.enter_context(prepared(job.threads))
    return _here.do(task)


@contextmanager
def prepared(threads: int) -> Iterator[None]:
    """Has torch compute as it does in every worker: in so many threads, compiled if it can be."""
    import torch

    from vqcodec import compiling

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    compiling.prepare(compiling.WORTH_COMPILING)
    try:
        yield
    finally:
        torch.set_num_threads(before)
