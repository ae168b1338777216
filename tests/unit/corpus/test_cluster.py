"""What Ray runs in an actor, without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import corpora
import numpy as np
import pytest

from vqcodec.batch import SPAWN
from vqcodec.corpus import run, site
from vqcodec.corpus.cluster import Actor
from vqcodec.corpus.local import Limits
from vqcodec.corpus.plan import Plan
from vqcodec.corpus.run import Wish
from vqcodec.corpus.site import Job
from vqcodec.corpus.work import Work


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(site, "do", corpora.do_badly)
    contents = {f"{n:02}.png": f"picture {n}".encode() for n in range(9)}
    corpora.write(tmp_path / "photos", contents | {"03.png": corpora.KILLER})
    work = Work("compress", lossless="always")
    return Wish(str(tmp_path / "photos"), str(tmp_path / "small"), work, shard_size=6).plan()


@pytest.fixture
def actor(plan: Plan) -> Iterator[Actor]:
    made = Actor(Job(plan.store.root), Limits())
    yield made
    made.close()
    assert SPAWN.active_children() == []


def batch(*ranges: tuple[int, int, int]) -> dict[str, np.ndarray]:
    names = ("shard", "first", "end")
    return {
        name: np.array(each) for name, each in zip(names, zip(*ranges, strict=True), strict=True)
    }


def test_it_does_ranges_and_meets_deaths(plan: Plan, actor: Actor) -> None:
    found = actor(batch((0, 0, 6)))
    assert (found["images"], found["failed"], found["stop"]) == ([5], [1], [""])
    assert found["errors"] == ["03: its process was killed each time, perhaps for its memory"]
    found = actor(batch((1, 0, 3), (0, 0, 0), (1, 0, 0)))  # and the ends of both shards
    assert found["images"] == [3, 0, 0]
    assert plan.finished() == {0, 1}
    assert run.run(plan, workers=0)[:3] == (8, 1, 9)


def test_what_ends_the_run_is_told(plan: Plan, actor: Actor) -> None:
    (Path(plan.store.root) / "_vqcodec/plan/00000.csv").unlink()
    found = actor(batch((0, 0, 6)))
    assert "cannot be read" in found["stop"][0]
    assert found["images"] == [0]
