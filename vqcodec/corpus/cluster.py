"""The engine of a cluster: Ray Data hands out ranges, each to an actor with a worker of its own.

An actor is a local engine with one worker, so that limits and deaths are met there; whatever Ray
itself loses, an actor, a node or the driver, it does again, and what is finished stays.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

from vqcodec.corpus import plan as plans
from vqcodec.corpus import shards
from vqcodec.corpus.local import Done, Limits, Pool, workers_for
from vqcodec.corpus.optional import needed
from vqcodec.corpus.parts import Range
from vqcodec.corpus.plan import Plan
from vqcodec.corpus.site import Job, Outcome, Task
from vqcodec.corpus.store import open_store
from vqcodec.errors import CodecError

_BLOCKS = 4096  # at most, that Ray keeps account of
_STOP = "stop"
_NUMBERS = Outcome._fields[:-1]


class Actor:
    """Does ranges; what Ray Data's `map_batches` makes in every actor.

    Args:
        job: What is to be known.
        limits: Of one image.
    """

    def __init__(self, job: Job, limits: Limits) -> None:
        self._pool = Pool(job, 1, limits, beside=workers_for(job.threads)).__enter__()

    def close(self) -> None:
        """Ends its worker, which would end with this process anyway."""
        self._pool.__exit__(None, None, None)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Does the ranges of a batch; gives the outcome of each, or why the run is to stop."""
        found: dict[str, list[Any]] = {name: [] for name in (*Range._fields, *Outcome._fields)}
        found[_STOP] = []
        for shard, first, end in zip(*(batch[name] for name in Range._fields), strict=True):
            own = Range(int(shard), int(first), int(end))
            outcome, stop = Outcome(), ""
            try:
                outcome = self._do(own)
            except CodecError as error:
                stop = str(error)
            lines = "\n".join(outcome.errors)
            row = {**own._asdict(), **outcome._asdict(), "errors": lines, _STOP: stop}
            for name, value in row.items():
                found[name].append(value)
        return found

    def _do(self, own: Range) -> Outcome:
        """The outcome of a range, which an image that kills its worker divides."""
        found: list[Outcome] = []

        def done(task: Task, outcome: Outcome) -> tuple[Task, ...]:
            found.append(outcome)
            return ()

        self._pool.run(iter([Task(own)]), done)
        return Outcome.total(found)


def run(
    plan: Plan, job: Job, tasks: Iterator[Task], done: Done, *, workers: int, limits: Limits
) -> None:
    """Does tasks on the cluster that is there, or on one of this machine.

    Args:
        plan: Of the corpus.
        job: What every worker has to know.
        tasks: Ranges, each of which becomes a row.
        done: As of the local engine.
        workers: How many actors.
        limits: Of one image.

    Raises:
        CodecError: ray is not installed or failed, a store failed, or an image did if that is to
            end the run.
    """
    ray: Any = needed("ray", "--engine ray")
    data: Any = needed("ray.data", "--engine ray")
    ranges = [task.range._asdict() for task in tasks]
    if not ranges:
        return
    most = min(workers, len(ranges))
    device = plan.settings["work"]["device"]
    try:
        _join(ray)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        finish = ray.remote(num_cpus=0, max_retries=-1)(_finish)
        finishing = []
        rows = data.from_items(ranges, override_num_blocks=min(len(ranges), _BLOCKS)).map_batches(
            Actor,
            batch_size=1,
            fn_constructor_args=(job, limits),
            compute=data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
            num_cpus=job.threads,
            num_gpus=0 if device == "cpu" else 1,
        )
        for row in rows.iter_rows():
            own = Range(*(int(row[name]) for name in Range._fields))
            if row[_STOP]:
                raise CodecError(row[_STOP])
            numbers: dict[str, Any] = {name: int(row[name]) for name in _NUMBERS}
            outcome = Outcome(**numbers, errors=tuple(filter(None, row["errors"].split("\n"))))
            finishing += [
                finish.remote(job, task) for task in done(Task(own), outcome) if task.finishes
            ]
        ray.get(finishing)
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CodecError(f"Ray failed ({lines[-1]}); start again, and the run goes on") from error


def processors() -> int:
    """Of the cluster that is there, or of this machine.

    Raises:
        CodecError: ray is not installed.
    """
    ray: Any = needed("ray", "--engine ray")
    _join(ray)
    return int(ray.cluster_resources().get("CPU", 1))


def _join(ray: Any) -> None:
    """Joins the cluster of RAY_ADDRESS, or starts one on this machine.

    Raises:
        CodecError: it cannot.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except Exception as error:  # of many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        advice = "see whether ray status works here"
        raise CodecError(f"no Ray at {address or 'this machine'} ({lines[0]}); {advice}") from error


def _finish(job: Job, task: Task) -> None:
    """Puts the parts of a shard together, on any node."""
    found = plans.read(open_store(job.target))
    assert found is not None
    if task.range.shard not in found.finished():  # an earlier attempt may have, on a node now lost
        shards.finish(found, task.range.shard)
