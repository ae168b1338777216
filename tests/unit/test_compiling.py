"""Whether code is compiled: now, in the background, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vqcodec import compiling, kernels
from vqcodec.entropy import self_test
from vqcodec.entropy.state import TorchState
from vqcodec.errors import CodecError
from vqcodec.kernels import store

CPU = torch.device("cpu")
TESTS = Path(__file__).parents[1]


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """As in a process that has compiled nothing; gives what is started in the background."""
    started: list[Any] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *of, **options: started.append(of))
    monkeypatch.setenv("VQCODEC_CACHE", str(tmp_path))
    monkeypatch.delenv("VQCODEC_KERNELS", raising=False)
    monkeypatch.setattr(kernels, "_loaded", False)
    for function in (store.folder, compiling._fault, compiling._compile_in_background):
        function.cache_clear()
    yield started
    for function in (store.folder, compiling._fault, compiling._compile_in_background):
        function.cache_clear()


def test_small_images_leave_it_to_the_background(fresh: list[Any]) -> None:
    compiling.look()
    compiling.prepare(768 * 512, lambda done, of: pytest.fail("nothing is waited for"))
    compiling.prepare(768 * 512)
    assert len(fresh) == 1
    assert not kernels.usable(CPU)


def test_large_images_wait_for_it(fresh: list[Any]) -> None:
    told: list[tuple[int, int]] = []
    compiling.prepare(compiling.WORTH_COMPILING, lambda done, of: told.append((done, of)))
    compiling.prepare(compiling.WORTH_COMPILING, lambda done, of: told.append((done, of)))
    assert told == [(0, 1), (1, 1)]
    assert not fresh
    assert kernels.usable(CPU)
    assert not kernels.usable(torch.device("meta"))
    assert store.complete()


def test_what_is_there_is_taken(fresh: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    store.finish()
    compiling.look()
    assert kernels.usable(CPU)
    monkeypatch.setenv("VQCODEC_KERNELS", "torch")
    assert not kernels.usable(CPU)


def test_it_may_be_forbidden(fresh: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQCODEC_KERNELS", "torch")
    store.finish()
    compiling.look()
    compiling.prepare(1 << 30)
    assert not kernels.usable(CPU)
    assert not fresh


def test_a_choice_that_there_is_not(fresh: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQCODEC_KERNELS", "fast")
    with pytest.raises(CodecError, match="must be torch or numba"):
        compiling.look()


def test_without_numba(fresh: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    compiling.look()
    compiling.prepare(1 << 30)
    assert not kernels.usable(CPU)
    assert not fresh
    monkeypatch.setenv("VQCODEC_KERNELS", "numba")
    with pytest.raises(CodecError, match="numba is not installed"):
        compiling.look()


def test_what_does_not_agree_is_not_used(fresh: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "EXPECTED", "another hash")
    compiling.prepare(1 << 30)
    assert not kernels.usable(CPU)
    assert not store.complete()
    assert "do not find what PyTorch finds" in str(compiling.fault())


def test_what_cannot_be_compiled_is_not_used(
    fresh: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(self_test, "fault", fail)
    compiling.prepare(1 << 30)
    assert not kernels.usable(CPU)
    assert compiling.fault() == "compiling failed (RuntimeError: no compiler)"


INTERRUPTED = """
import signal, sys
from vqcodec import compiling

class Interrupt:
    def find_spec(self, name, *_):
        if name == "numba.core.typing":
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
try:
    compiling.fault()
except KeyboardInterrupt:
    print("interrupted", compiling.fault())
"""


def test_an_interrupt_while_numba_is_imported_breaks_nothing(environment: dict[str, str]) -> None:
    asked = [sys.executable, "-c", INTERRUPTED]
    result = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
    assert (result.stdout, result.returncode) == ("interrupted None\n", 0), result.stderr


def test_the_expected_hash_is_what_pytorch_finds() -> None:
    prior, (own, coarser) = self_test.prior(), self_test.maps()
    zero = torch.zeros(self_test.COUNT, dtype=torch.int64)
    shape = self_test.HEIGHT, self_test.WIDTH
    context = prior.context(coarser, zero, zero, *shape)
    heads = prior.heads_of(len(prior.groups))
    state = TorchState(prior, heads, context, self_test.COUNT, *shape)
    assert self_test.digest(state, own) == self_test.EXPECTED


@pytest.mark.slow
@pytest.mark.parametrize("features", ["", "+ssse3", "+ssse3,+avx2"], ids=["none", "SSSE3", "AVX2"])
def test_other_processors_find_the_same(features: str, tmp_path: Path) -> None:
    if "avx2" in features and torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("this processor has no AVX2")
    environment = dict(os.environ) | {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": features,
        "VQCODEC_CACHE": str(tmp_path),
    }
    command = [sys.executable, "-m", "vqcodec.compiling"]
    subprocess.run(command, env=environment, check=True, timeout=200)


@pytest.mark.slow
def test_processes_compile_at_once(tmp_path: Path) -> None:
    environment = dict(os.environ) | {"VQCODEC_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "vqcodec.compiling"]
    processes = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [process.wait(timeout=250) for process in processes] == [0, 0, 0]
    subprocess.run(command, env=environment, check=True, timeout=100)
