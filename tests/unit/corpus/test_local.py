"""The local engine: workers that die, and images that they die of."""

from __future__ import annotations

import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import corpora
import pytest

from vqcodec.batch import SPAWN
from vqcodec.corpus import local, run, site, verification
from vqcodec.corpus.local import Limits, Pool
from vqcodec.corpus.parts import Range
from vqcodec.corpus.plan import Plan
from vqcodec.corpus.run import Wish
from vqcodec.corpus.site import Job, Outcome, Task
from vqcodec.corpus.work import Work
from vqcodec.errors import CodecError


@pytest.fixture(autouse=True)
def mischief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "do", corpora.do_badly)


def planned(folder: Path, contents: dict[str, bytes], **options: Any) -> Plan:
    corpora.write(folder / "photos", contents)
    work = Work("compress", lossless="always")
    return Wish(str(folder / "photos"), str(folder / "small"), work, **options).plan()


def some(count: int) -> dict[str, bytes]:
    return {f"{n:02}.png": f"picture {n}".encode() for n in range(count)}


def test_one_image_that_kills_is_found(tmp_path: Path) -> None:
    contents = some(20) | {"07.png": corpora.KILLER, "12.png": corpora.FAULT}
    plan = planned(tmp_path, contents, shard_size=15)
    summary = run.run(plan, workers=2)
    assert summary[:2] == (18, 2)
    failed = {row.key: row.error for row in plan.rows() if row.status == "failed"}
    assert failed == {
        "07": "its process was killed each time, perhaps for its memory",
        "12": "ZeroDivisionError: a fault of our own",
    }
    expected = {f"{n:02}.vqz": f"picture {n}!".encode() for n in range(20) if n not in (7, 12)}
    errors = "key,source,error\n" + "".join(f'{k},{k}.png,"{e}"\n' for k, e in failed.items())
    made = corpora.made(tmp_path / "small")
    assert made.pop("errors.csv").decode().replace('"', "") == errors.replace('"', "")
    assert made == expected
    assert not [line for each in verification.verify(plan) for line in each.faults]


def test_a_worker_that_is_killed_by_chance_costs_no_image(tmp_path: Path) -> None:
    contents = some(12)
    for n in (3, 4, 9):
        contents[f"{n:02}.png"] = b"once:" + str(tmp_path / f"mark-{n}").encode()
    summary = run.run(planned(tmp_path, contents), workers=2)
    assert summary[:2] == (12, 0)
    assert len(list(tmp_path.glob("mark-*"))) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of others is told by /proc")
def test_what_takes_too_much_memory(tmp_path: Path) -> None:
    plan = planned(tmp_path, some(6) | {"02.png": corpora.HOG}, format="webdataset")
    assert run.run(plan, workers=2, limits=Limits(memory=2 << 30))[:2] == (5, 1)
    (failed,) = (row for row in plan.rows() if row.status == "failed")
    assert failed.key == "02"
    assert re.fullmatch(r"took \d+ MiB of memory, more than 2048", failed.error)
    assert failed.sha256 == failed.output_sha256 == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_never_ends(tmp_path: Path) -> None:
    """The limit is far above what the others take, however busy the machine is."""
    plan = planned(tmp_path, some(6) | {"04.png": corpora.STALLER}, format="webdataset")
    assert run.run(plan, workers=2, limits=Limits(seconds=30))[:2] == (5, 1)
    failed = {row.key: row.error for row in plan.rows() if row.status == "failed"}
    assert failed == {"04": "took more than 30 seconds"}


def test_the_first_failure_may_end_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, some(4) | {"02.png": corpora.FAULT})
    with pytest.raises(CodecError, match="02: ZeroDivisionError"):
        run.run(plan, workers=2, fail=True)
    plan = planned(tmp_path / "other", some(4) | {"02.png": corpora.KILLER})
    with pytest.raises(CodecError, match="was killed each time"):
        run.run(plan, workers=1, fail=True)
    assert SPAWN.active_children() == []


def test_workers_that_never_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "begin", corpora.die)
    with pytest.raises(CodecError, match="5 workers died before they began"):
        run.run(planned(tmp_path, some(4)), workers=1)


def test_an_idle_worker_that_dies(tmp_path: Path) -> None:
    plan = planned(tmp_path, some(4))
    job = Job(plan.store.root)
    with Pool(job, 1, Limits()) as pool:
        outcomes: list[Outcome] = []

        def done(task: Task, outcome: Outcome) -> tuple[Task, ...]:
            outcomes.append(outcome)
            return ()

        pool.run(iter([Task(Range(0, 0, 2))]), done)
        (child,) = SPAWN.active_children()
        child.kill()
        child.join()
        time.sleep(0.5)  # its executor sees it
        pool.run(iter([Task(Range(0, 2, 4))]), done)
        assert [each.images for each in outcomes] == [2, 2]
    assert SPAWN.active_children() == []


def test_workers_are_taken_as_they_come_free(tmp_path: Path) -> None:
    """A range is cut when a worker asks for it, the smaller the less there is left."""
    plan = planned(tmp_path, some(64), shard_size=40)
    sizes = [task.range.end - task.range.first for task in run.Left(plan, 2).tasks()]
    assert sum(sizes) == 64
    assert sizes[0] == 8
    assert sizes[-1] == 1
    assert sorted(sizes, reverse=True) != [64]


def test_memory_of_processes() -> None:
    import os

    if sys.platform == "linux":
        assert 1 << 20 < local.resident(os.getpid()) < local.machine_memory()
    assert local.resident(2**22 + 1) == 0


def test_an_interrupt_ends_the_workers(tmp_path: Path) -> None:
    plan = planned(tmp_path, some(30) | {"20.png": corpora.STALLER})

    def stop(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(plan, workers=2, tell=stop)
    assert SPAWN.active_children() == []
    assert threading.active_count() < 20
