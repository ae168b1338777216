"""What input or the machine can cause: one line on standard error and exit code 1."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Run

import vqcodec.cli.info
from vqcodec.cli import main


def error_line(result: subprocess.CompletedProcess[bytes]) -> str:
    """The one line of a failed run, less its beginning."""
    assert result.returncode == 1, result
    assert not result.stdout
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("vqcodec: error: ")
    return lines[0].removeprefix("vqcodec: error: ")


COMMANDS = [["compress", "IN", "OUT"], ["decompress", "IN", "OUT"], ["info", "IN"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
class TestUnusableInput:
    def command(self, command: list[str], source: str) -> list[str]:
        output = "a.png" if command[0] == "decompress" else "a.vqz"
        return [{"IN": source, "OUT": output}.get(word, word) for word in command]

    def test_missing(self, process: Run, tmp_path: Path, command: list[str]) -> None:
        line = error_line(process(*self.command(command, "missing")))
        assert line.startswith("missing: no such file")
        assert list(tmp_path.iterdir()) == []

    def test_directory(self, run: Run, tmp_path: Path, command: list[str]) -> None:
        (tmp_path / "folder").mkdir()
        line = error_line(run(*self.command(command, "folder")))
        assert line.startswith("folder: is a directory")

    def test_empty(self, run: Run, tmp_path: Path, command: list[str]) -> None:
        (tmp_path / "empty").touch()
        line = error_line(run(*self.command(command, "empty")))
        assert line.startswith("empty: ")

    def test_text(self, run: Run, tmp_path: Path, command: list[str]) -> None:
        (tmp_path / "letter.txt").write_text("Dear reader,\n")
        line = error_line(run(*self.command(command, "letter.txt")))
        assert line.startswith("letter.txt: ")
        assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]

    def test_empty_standard_input(self, run: Run, command: list[str]) -> None:
        line = error_line(run(*self.command(command, "-"), input=b""))
        assert line.startswith("standard input: ")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_unreadable(self, run: Run, tmp_path: Path, command: list[str]) -> None:
        (tmp_path / "locked").touch(mode=0)
        line = error_line(run(*self.command(command, "locked")))
        assert line.startswith("locked: cannot be read")

    def test_name_that_would_break_the_line(self, run: Run, command: list[str]) -> None:
        line = error_line(run(*self.command(command, "a\nb\x1b[2J")))
        assert line.startswith(r"a\nb\x1b[2J: ")

    def test_name_that_is_no_text(self, process: Run, command: list[str]) -> None:
        error_line(process(*self.command(command, os.fsdecode(b"\xff\xfe"))))


def test_existing_output_is_told_before_the_input_is_read(process: Run, tmp_path: Path) -> None:
    (tmp_path / "a.vqz").touch()
    line = error_line(
        process("compress", "-", "a.vqz", stdin=subprocess.DEVNULL, capture_output=True)
    )
    assert line.startswith("a.vqz: exists already; use --force")


def test_output_in_a_missing_directory(process: Run, coffee: Path, tmp_path: Path) -> None:
    line = error_line(process("compress", coffee, "missing/a.vqz"))
    assert line.startswith("missing/a.vqz: cannot be written")
    assert list(tmp_path.iterdir()) == []


def test_unknown_model(run: Run, coffee: Path, tmp_path: Path) -> None:
    line = error_line(run("compress", coffee, "a.vqz", "--model", "nonsense"))
    assert "nonsense" in line
    assert "--model FILE" in line
    assert list(tmp_path.iterdir()) == []


def test_missing_weights_file(run: Run, coffee: Path, tmp_path: Path) -> None:
    line = error_line(run("compress", coffee, "a.vqz", "--model", "missing.safetensors"))
    assert line.startswith("missing.safetensors: cannot be read")


def test_file_of_a_model_that_is_not_registered(
    run: Run, tiny_model: Path, astronaut: Path
) -> None:
    assert run("compress", astronaut, "a.vqz", "--model", tiny_model).returncode == 0
    line = error_line(run("decompress", "a.vqz", "a.png"))
    assert line.startswith("a.vqz: ")
    assert "--model FILE" in line


def test_wrong_weights_name_both_hashes(
    run: Run, tiny_model: Path, astronaut: Path, tmp_path: Path
) -> None:
    assert run("compress", astronaut, "a.vqz", "--model", tiny_model).returncode == 0
    # One changed bit of the last tensor: still a well-formed file, but not the same weights.
    weights = bytearray(tiny_model.read_bytes())
    weights[-1] ^= 1
    (tmp_path / "other.safetensors").write_bytes(weights)

    from vqcodec.registry import sha256_of

    line = error_line(run("decompress", "a.vqz", "a.png", "--model", "other.safetensors"))
    assert sha256_of(tiny_model)[:16] in line
    assert sha256_of(tmp_path / "other.safetensors")[:16] in line
    assert not (tmp_path / "a.png").exists()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 8 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a tiny file system needs rights that this user does not have")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(run: Run, tiny_model: Path, astronaut: Path, tiny_disk: Path) -> None:
    assert run("compress", astronaut, "a.vqz", "--model", tiny_model).returncode == 0
    line = error_line(run("decompress", "a.vqz", tiny_disk / "a.png", "--model", tiny_model))
    assert "no space left" in line
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_full_device_as_standard_output(process: Run, tiny_model: Path, astronaut: Path) -> None:
    with open("/dev/full", "wb") as full:
        result = process(
            *("compress", astronaut, "-", "--model", tiny_model),
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert "no space left" in error_line(result)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_full_device_for_values(process: Run) -> None:
    with open("/dev/full", "wb") as full:
        result = process("models", stdout=full, stderr=subprocess.PIPE)
    assert "No space left" in error_line(result)


def test_reader_of_a_pipe_that_is_gone(process: Run, tiny_model: Path, astronaut: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = process(
        *("compress", astronaut, "-", "--model", tiny_model),
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert result.returncode == 1
    assert b"Traceback" not in result.stderr


def test_input_larger_than_the_memory(process: Run, tmp_path: Path) -> None:
    with open(tmp_path / "huge.vqz", "wb") as huge:
        huge.truncate(1 << 33)
    limit = 1 << 30
    result = process(
        *("info", "huge.vqz"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert error_line(result).startswith("not enough memory")


def test_allocator_of_torch_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def allocate(source: str) -> bytes:
        return bytes(torch.empty(1 << 60, dtype=torch.uint8).numpy())

    monkeypatch.setattr(vqcodec.cli.info, "read_bytes", allocate)
    result = CliRunner().invoke(main, ["info", "a.vqz"])
    assert result.exit_code == 1
    assert result.stderr.startswith("vqcodec: error: not enough memory")


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(source: str) -> bytes:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(vqcodec.cli.info, "read_bytes", fault)
    result = CliRunner().invoke(main, ["info", "a.vqz"])
    assert isinstance(result.exception, RuntimeError)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["compress"],
        ["compress", "a.png", "a.vqz", "--quality", "0"],
        ["compress", "a.png", "a.vqz", "--quality", "256"],
        ["decompress", "a.vqz", "a.png", "--levels", "0"],
        ["info"],
        ["verify"],
        ["sample", "a.png", "--size", "64"],
        ["sample", "a.png", "--size", "0x64"],
        ["sample", "-", "--count", "2"],
        ["sample", "a.png", "--temperature", "0"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


def test_installed_command(environment: dict[str, str]) -> None:
    script = Path(sys.executable).parent / "vqcodec"
    if not script.exists():
        pytest.skip("vqcodec is not installed in this environment, only importable")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"vqcodec, version {vqcodec.__version__}\n"
