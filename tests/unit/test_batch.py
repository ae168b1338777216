from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import chores
import pytest
import torch

from vqcodec import batch
from vqcodec.errors import CodecError, OutputError
from vqcodec.folders import Task

WORDS = ["one", "fail", "two", "fault", "three"]


def tasks_of(folder: Path, words: list[str]) -> list[Task]:
    """A task for every word, to be copied into another folder."""
    for number, word in enumerate(words):
        (folder / f"{number}.txt").write_text(word)
    return [
        Task(str(folder / f"{number}.txt"), str(folder / "out" / f"{number}.txt"))
        for number in range(len(words))
    ]


@pytest.mark.parametrize("jobs", [1, 2])
def test_whatever_becomes_of_others(tmp_path: Path, jobs: int) -> None:
    tasks = tasks_of(tmp_path, WORDS)
    results: dict[Task, object] = {}
    batch.run(chores.copy, tasks, results.__setitem__, jobs=jobs)
    assert set(results) == set(tasks)
    told = [results[task] for task in tasks]
    assert told[::2] == ["one", "two", "three"]
    assert isinstance(told[1], CodecError)
    assert str(told[1]) == f"{tasks[1].source}: is no good; get another"
    assert isinstance(told[3], ZeroDivisionError)
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert multiprocessing.active_children() == []


def test_processes_share_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    results: list[tuple[int, int]] = []
    tasks = tasks_of(tmp_path, ["one"] * 6)

    def done(task: Task, result: tuple[int, int] | Exception) -> None:
        assert isinstance(result, tuple)
        results.append(result)

    batch.run(chores.pid_and_threads, tasks, done, jobs=2)
    processes = {pid for pid, _ in results}
    assert len(results) == 6
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {threads for _, threads in results} == {1}


def test_alone_it_is_this_process(tmp_path: Path) -> None:
    results: list[object] = []
    tasks = tasks_of(tmp_path, ["one"])
    batch.run(chores.pid_and_threads, tasks, lambda task, result: results.append(result), jobs=8)
    assert results == [(os.getpid(), torch.get_num_threads())]


def test_a_killed_process_fails_its_task_alone(tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, ["one", "die", "two", "three"])
    results: dict[Task, object] = {}
    batch.run(chores.copy, tasks, results.__setitem__, jobs=2)
    assert [results.pop(tasks[n]) for n in (0, 2, 3)] == ["one", "two", "three"]
    (error,) = results.values()
    assert isinstance(error, CodecError)
    assert str(error).startswith(f"{tasks[1].source}: its process was killed")


def test_an_interrupt_ends_everything_and_keeps_what_is_finished(tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, ["stall", "one", "two", "three"])
    begun = tmp_path / "out" / "0.txt.begun"

    def done(task: Task, result: object) -> None:
        if begun.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run(chores.copy, [tasks[0], *tasks[1:] * 1000], done, jobs=2)
    assert multiprocessing.active_children() == []
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert "1.txt" in found
    assert not found & {"0.txt", begun.name}  # it had the time to put things in order


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="cannot be made a folder"):
        batch.run(chores.copy, tasks_of(tmp_path, ["one"]), lambda task, result: None)
