"""Fixtures for all tests: photographs, a tiny model, the command line as a process, no network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

# Tiny models gain nothing from threads, and tests may share their machine. Before torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# And none of them leaves it to chance whether priors are compiled.
os.environ.setdefault("VQCODEC_KERNELS", "numba")

import pytest
from click.testing import CliRunner, Result

import vqcodec
from vqcodec.cli import main

FIXTURES = Path(__file__).parent / "fixtures"


Invoke = Callable[..., Result]
"""Run `vqcodec ARGUMENTS...` in this process and give what it printed."""


class Run(Protocol):
    """Run `vqcodec ARGUMENTS...` and wait for it."""

    def __call__(
        self, *arguments: str | Path, **options: Any
    ) -> subprocess.CompletedProcess[bytes]: ...


@pytest.fixture(scope="session")
def coffee() -> Path:
    """A photograph, 600x400 RGB."""
    return FIXTURES / "coffee.png"


@pytest.fixture(scope="session")
def chelsea() -> Path:
    """A photograph, 451x300 RGB, with an ICC profile."""
    return FIXTURES / "chelsea.png"


@pytest.fixture(scope="session")
def astronaut() -> Path:
    """A small photograph, 128x96 RGB."""
    return FIXTURES / "astronaut-crop.png"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights file of a tiny model with random weights."""
    from tiny import write_tiny_model

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_tiny_model(path)
    return path


@pytest.fixture(scope="session")
def tiny_synthesis(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Weights file of another synthesis of the tiny model, which restores other pixels."""
    from tiny import write_tiny_synthesis

    path = tmp_path_factory.mktemp("weights") / "smooth.safetensors"
    write_tiny_synthesis(path, tiny_model)
    return path


@pytest.fixture(scope="session")
def class_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights file of a tiny model with classes, of random weights."""
    from tiny_classes import write_tiny_class_model

    path = tmp_path_factory.mktemp("weights") / "classes.safetensors"
    write_tiny_class_model(path)
    return path


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment in which a new Python process imports the same vqcodec as the tests."""
    return {**os.environ, "PYTHONPATH": str(Path(vqcodec.__file__).parents[1])}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in `tmp_path`, within this process: a new one takes seconds to start."""
    monkeypatch.chdir(tmp_path)

    def run_vqcodec(
        *arguments: str | Path, input: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        words = [*map(str, arguments)]
        result = CliRunner().invoke(main, words, input=input)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess(
            words, result.exit_code, result.stdout_bytes, result.stderr_bytes
        )

    return run_vqcodec


@pytest.fixture
def process(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Run the command line as a process in `tmp_path`, warnings being errors."""

    def run_vqcodec(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
        if "stdout" not in options and "stderr" not in options:
            options["capture_output"] = True
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "vqcodec", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            timeout=120,
            check=False,
            **options,
        )

    return run_vqcodec


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the command line in this process, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Let connections reach this machine alone (training's processes talk over loopback)."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test connects to {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_locally)
        yield
