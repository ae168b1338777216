"""Calls from many threads at once, and in processes of other kinds."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import concurrent_calls
import pytest
import torch

from vqcodec import threads, weights_file
from vqcodec.image.guard import silent_libraries

LONG = 300  # seconds, for a process that does not hang


@pytest.fixture
def three_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kernels", ["torch", "numba"])
def test_first_calls_of_all_threads_at_once(
    kernels: str, tiny_model: Path, astronaut: Path, environment: dict[str, str]
) -> None:
    """The results are those of one thread, the model is read once, and nothing else is changed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", concurrent_calls.__file__, tiny_model, astronaut],
        env={**environment, "VQCODEC_KERNELS": kernels, "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert len(found["results"]) == 10
    for name, results in found["results"].items():
        assert len(results) == 1, name
        assert len(results[0]) == 64, results
    assert found["read"] == 1
    assert found["changed"] == []


def test_a_pool_of_processes() -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert list(pool.map(concurrent_calls.size, (0, 80))) == [
            concurrent_calls.size(0),
            concurrent_calls.size(80),
        ]


@pytest.mark.usefixtures("three_threads")
def test_threads_that_overlap_leave_torch_as_many_threads_as_it_had() -> None:
    entered, leave = threading.Event(), threading.Event()
    found: list[int] = []

    def other() -> None:
        with threads.single():
            found.append(torch.get_num_threads())
            entered.set()
            leave.wait(LONG)
        found.append(torch.get_num_threads())

    thread = threading.Thread(target=other)
    with threads.single():
        assert torch.get_num_threads() == 1
        assert concurrent_calls.of_new_threads() == 3
        thread.start()
        assert entered.wait(LONG)
    assert torch.get_num_threads() == 3
    leave.set()
    thread.join()
    assert found == [1, 3]
    assert concurrent_calls.of_new_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_shared_work_runs_in_one_thread_each_and_leaves_others_alone() -> None:
    found: list[tuple[int, int, int]] = []

    def look(_: int) -> None:
        numbers = torch.get_num_threads(), threads.number()
        found.append((*numbers, concurrent_calls.of_new_threads()))

    threads.share(look, range(8))
    assert found == [(1, 1, 3)] * 8
    assert torch.get_num_threads() == 3
    assert concurrent_calls.of_new_threads() == 3


def test_what_shared_work_raises_is_raised() -> None:
    def fail(number: int) -> None:
        raise KeyError(number)

    with pytest.raises(KeyError):
        threads.share(fail, range(8), threads=3)


def test_standard_error_is_there_after_threads_that_silence_it() -> None:
    """The first one to silence it is the first one to end."""
    before = os.fstat(2).st_ino
    silent, begun = threading.Event(), threading.Event()

    def other() -> None:
        begun.set()
        with silent_libraries():
            silent.wait(LONG)

    thread = threading.Thread(target=other)
    with silent_libraries():
        thread.start()
        assert begun.wait(LONG)
        thread.join(0.2)
    silent.set()
    thread.join()
    assert os.fstat(2).st_ino == before


NO_COMPILER = """
import os, sys, warnings
import importlib.util, torch
importlib.util.find_spec("numba") and __import__("numba")  # which adds to the filters itself
from vqcodec.weights_file import load

before = dict(os.environ), list(warnings.filters)
generator = torch.random.get_rng_state()
load(sys.argv[1])
assert (dict(os.environ), list(warnings.filters)) == before
assert torch.equal(torch.random.get_rng_state(), generator)
assert not {"torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules)
"""


@pytest.mark.parametrize("kernels", ["torch", "numba"])
def test_reading_a_model_loads_no_compiler(
    kernels: str, tiny_model: Path, environment: dict[str, str]
) -> None:
    """Of torch, which draws on no device by it, and sets variables of the environment then."""
    result = subprocess.run(
        [sys.executable, "-c", NO_COMPILER, tiny_model],
        env={**environment, "VQCODEC_KERNELS": kernels},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_forked_while_a_model_is_read(tiny_model: Path) -> None:
    """Its own calls do not wait for the thread that read it, and that it has not."""
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with weights_file._loading:
            held.set()
            leave.wait(LONG)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(LONG)
    child = os.fork()
    if child == 0:
        os._exit(0 if weights_file._loading.acquire(blocking=False) else 1)
    _, status = os.waitpid(child, 0)
    leave.set()
    thread.join()
    assert status == 0
