"""A command that is stopped leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Run

from vqcodec.container import unpack

# The writing of the output stands still at its last step, with the temporary file complete.
STALLED = """
import os, signal, sys, time

# A shell may start its background jobs with interrupts ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def stall(descriptor):
    sys.stderr.write("writing\\n")
    sys.stderr.flush()
    time.sleep(60)

os.fsync = stall

from vqcodec.cli import main

main(sys.argv[1:])
"""

STOPS = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("stop", "code"), STOPS)
@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_stopped_while_writing(
    run: Run,
    tiny_model: Path,
    astronaut: Path,
    tmp_path: Path,
    environment: dict[str, str],
    command: str,
    stop: signal.Signals,
    code: int,
) -> None:
    source, name = astronaut, "a.vqz"
    if command == "decompress":
        source, name = tmp_path / "source.vqz", "a.png"
        assert run("compress", astronaut, source, "--model", tiny_model).returncode == 0
    results = tmp_path / "results"
    results.mkdir()
    (results / name).write_bytes(b"precious")

    process = subprocess.Popen(
        [
            *(sys.executable, "-c", STALLED, command, source, results / name),
            *("--force", "--model", tiny_model),
        ],
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stderr
    with process.stderr:
        assert process.stderr.readline() == b"writing\n"
        assert len(list(results.iterdir())) == 2
        process.send_signal(stop)
        told = process.stderr.read()
    assert process.wait(30) == code
    assert b"Traceback" not in told
    assert told.count(b"\n") <= 1
    assert [path.name for path in results.iterdir()] == [name]
    assert (results / name).read_bytes() == b"precious"


@pytest.mark.parametrize(("stop", "code"), STOPS)
def test_stopped_while_reading(
    tmp_path: Path, environment: dict[str, str], stop: signal.Signals, code: int
) -> None:
    program = STALLED + "\n"
    program = program.replace(
        "main(sys.argv[1:])",
        "sys.stderr.write('reading\\n'); sys.stderr.flush(); main(sys.argv[1:])",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "compress", "-", tmp_path / "a.vqz"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdin
    assert process.stderr
    with process.stdin, process.stderr:
        assert process.stderr.readline() == b"reading\n"
        process.stdin.write(bytes(1 << 20))  # more than a pipe holds: returns once it is read
        process.stdin.flush()
        time.sleep(0.5)  # CPython notices a signal in a waiting read, not just before it
        process.send_signal(stop)
        told = process.stderr.read()
    assert process.wait(30) == code
    assert b"Traceback" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(("stop", "code"), STOPS)
def test_stopped_among_many_files(
    tiny_model: Path,
    astronaut: Path,
    tmp_path: Path,
    environment: dict[str, str],
    stop: signal.Signals,
    code: int,
    jobs: str,
) -> None:
    for number in range(60):
        shutil.copy(astronaut, tmp_path / f"{number:02}.png")
    out = tmp_path / "out"
    program = STALLED.replace("os.fsync = stall\n", "")
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", program, "compress", tmp_path, "--out", out),
            *("--jobs", jobs, "--effort", "1", "--model", tiny_model),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    while process.poll() is None and not list(out.glob("*.vqz")):
        time.sleep(0.01)
    os.killpg(process.pid, stop)  # as a terminal does
    # Which end when all processes have.
    printed, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert printed == b""
    assert told == (b"vqcodec: error: interrupted\n" if stop == signal.SIGINT else b"")
    found = list(out.iterdir())
    assert 1 <= len(found) < 60
    for path in found:
        assert path.suffix == ".vqz"
        unpack(path.read_bytes())


@pytest.mark.parametrize(("stop", "code"), STOPS)
def test_stopped_within_a_library_that_makes_an_error_of_it(
    tmp_path: Path, environment: dict[str, str], stop: signal.Signals, code: int
) -> None:
    program = f"""
import os, signal
from vqcodec import cli, files

signal.signal(signal.SIGINT, signal.default_int_handler)

def read(path):
    try:
        os.kill(os.getpid(), {stop:d})
        os.getpid()
    except BaseException:
        raise ValueError("of a shape that is not known") from None

files.read_bytes = read
cli.main()
"""
    (tmp_path / "a.vqz").write_bytes(b"anything")
    result = subprocess.run(
        [sys.executable, "-c", program, "info", tmp_path / "a.vqz"],
        capture_output=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert result.returncode == code, result.stderr
    assert result.stderr == (b"vqcodec: error: interrupted\n" if stop == signal.SIGINT else b"")
