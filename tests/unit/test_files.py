from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vqcodec import files
from vqcodec.errors import CodecError, OutputError


def raising(number: int) -> Any:
    def fail(*_args: Any, **_keywords: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


class TestReadBytes:
    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"\x00\xff")
        assert files.read_bytes(tmp_path / "a") == b"\x00\xff"
        assert files.read_bytes(str(tmp_path / "a")) == b"\x00\xff"

    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x00\xff")))
        assert files.read_bytes("-") == b"\x00\xff"

    def test_standard_input_that_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", None)
        with pytest.raises(CodecError, match="standard input: is closed; give a file"):
            files.read_bytes("-")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(CodecError, match=r"missing: no such file; check the name$"):
            files.read_bytes(tmp_path / "missing")

    def test_directory(self, tmp_path: Path) -> None:
        with pytest.raises(CodecError, match=r"is a directory; name a file$"):
            files.read_bytes(tmp_path)

    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "read_bytes", raising(errno.EACCES))
        with pytest.raises(CodecError, match=r"a: cannot be read \(Permission denied\)"):
            files.read_bytes(tmp_path / "a")


class TestCheckWritable:
    @pytest.mark.parametrize("force", [False, True])
    def test_new_file_and_standard_output_pass(self, tmp_path: Path, force: bool) -> None:
        files.check_writable(tmp_path / "new", force)
        files.check_writable("-", force)
        assert list(tmp_path.iterdir()) == []

    def test_existing_file_needs_force(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"old")
        with pytest.raises(OutputError, match=r"a: exists already; use --force"):
            files.check_writable(tmp_path / "a", force=False)
        files.check_writable(tmp_path / "a", force=True)
        assert (tmp_path / "a").read_bytes() == b"old"

    def test_directory(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="is a directory"):
            files.check_writable(tmp_path, force=True)

    def test_device_is_not_replaced(self) -> None:
        with pytest.raises(OutputError, match="not a regular file"):
            files.check_writable(os.devnull, force=True)

    def test_circle_of_links(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(OutputError, match="a symbolic link that leads to itself; remove it"):
            files.check_writable(tmp_path / "a", force=True)

    def test_missing_directory(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"missing is not a directory; create it first"):
            files.check_writable(tmp_path / "missing" / "a", force=False)

    def test_file_as_directory(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"")
        with pytest.raises(OutputError, match=r"is not a directory"):
            files.check_writable(tmp_path / "a" / "b", force=False)

    def test_directory_without_permission(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda *_args: False)
        with pytest.raises(OutputError, match="no permission to create files"):
            files.check_writable(tmp_path / "a", force=False)

    def test_name_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError):
            files.write_atomically(tmp_path / ("a" * 5000), b"", force=False)
        assert list(tmp_path.iterdir()) == []


class TestCheckDifferent:
    def test_one_file_by_any_name(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"precious")
        (tmp_path / "link").symlink_to("a")
        os.link(tmp_path / "a", tmp_path / "hard")
        for name in ("a", "../" + tmp_path.name + "/a", "link", "hard"):
            with pytest.raises(OutputError, match="is the input itself; give another output"):
                files.check_different(tmp_path / "a", tmp_path / name)

    def test_other_files_and_streams_pass(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"same")
        (tmp_path / "b").write_bytes(b"same")
        for source, target in (("a", "b"), ("a", "missing"), ("missing", "a")):
            files.check_different(tmp_path / source, tmp_path / target)
        files.check_different("-", "-")


class TestWriteAtomically:
    def test_new_file(self, tmp_path: Path) -> None:
        files.write_atomically(tmp_path / "a", b"\x00\xff", force=False)
        assert (tmp_path / "a").read_bytes() == b"\x00\xff"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_new_file_has_the_usual_permissions(self, tmp_path: Path) -> None:
        files.write_atomically(tmp_path / "a", b"", force=False)
        (tmp_path / "usual").write_bytes(b"")
        assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode

    def test_existing_file_needs_force(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"old")
        with pytest.raises(OutputError, match="--force"):
            files.write_atomically(tmp_path / "a", b"new", force=False)
        assert (tmp_path / "a").read_bytes() == b"old"

    def test_force_replaces_and_keeps_permissions(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"old")
        (tmp_path / "a").chmod(0o640)
        files.write_atomically(tmp_path / "a", b"new", force=True)
        assert (tmp_path / "a").read_bytes() == b"new"
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640

    def test_symbolic_link_stays(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"old")
        (tmp_path / "link").symlink_to("a")
        files.write_atomically(tmp_path / "link", b"new", force=True)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "a").read_bytes() == b"new"

    @pytest.mark.parametrize("step", ["fsync", "link", "replace"])
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
    def test_nothing_is_left_after_an_exception(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        step: str,
        error: type[BaseException],
    ) -> None:
        def interrupt(*_args: Any) -> None:
            raise error

        there = [] if step == "link" else ["a"]
        for name in there:
            (tmp_path / name).write_bytes(b"old")
        monkeypatch.setattr(os, step, interrupt)
        with pytest.raises(error):
            files.write_atomically(tmp_path / "a", b"new", force=step != "link")
        assert [path.name for path in tmp_path.iterdir()] == there
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"] * len(there)

    def test_an_interrupt_while_the_temporary_file_is_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unlink = Path.unlink

        def interrupted(path: Path) -> None:
            monkeypatch.setattr(Path, "unlink", unlink)
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "unlink", interrupted)
        with pytest.raises(KeyboardInterrupt):
            files.write_atomically(tmp_path / "a", b"new", force=False)
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    @pytest.mark.parametrize("links", [True, False])
    def test_of_two_at_once_one_has_the_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
    ) -> None:
        """The second one is done while the first one writes."""
        sync = os.fsync

        def second(descriptor: int) -> None:
            monkeypatch.setattr(os, "fsync", sync)
            files.write_atomically(tmp_path / "a", b"second", force=False)

        monkeypatch.setattr(os, "fsync", second)
        if not links:
            monkeypatch.setattr(os, "link", raising(errno.EPERM))
        with pytest.raises(OutputError, match=r"a: exists already; use --force to replace it"):
            files.write_atomically(tmp_path / "a", b"first", force=False)
        assert (tmp_path / "a").read_bytes() == b"second"
        files.write_atomically(tmp_path / "a", b"first", force=True)
        assert (tmp_path / "a").read_bytes() == b"first"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_where_a_file_has_one_name_only(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "link", raising(errno.EPERM))
        files.write_atomically(tmp_path / "a", b"new", force=False)
        assert (tmp_path / "a").read_bytes() == b"new"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_link_to_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("a")
        files.write_atomically(tmp_path / "link", b"new", force=False)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "a").read_bytes() == b"new"

    @pytest.mark.parametrize("name", [b"a" * 255, b"new\nline", b"\xff\xfe", b"-", b" "])
    def test_names_of_any_bytes(self, tmp_path: Path, name: bytes) -> None:
        path = tmp_path / os.fsdecode(name)
        files.write_atomically(path, b"new", force=False)
        with pytest.raises(OutputError, match="exists already") as caught:
            files.write_atomically(path, b"newer", force=False)
        assert str(caught.value).isprintable()
        files.write_atomically(path, b"newer", force=True)
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
        assert path.read_bytes() == b"newer"

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        monkeypatch.setattr(os, "fsync", raising(number))
        with pytest.raises(OutputError, match=r"a: no space left on the device; "):
            files.write_atomically(tmp_path / "a", b"new", force=False)
        assert list(tmp_path.iterdir()) == []

    def test_no_room_for_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "mkdir", raising(errno.ENOSPC))
        with pytest.raises(OutputError, match=r"a: no space left on the device; free some"):
            files.make_folder(tmp_path / "a")

    def test_other_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "replace", raising(errno.EIO))
        with pytest.raises(OutputError, match=r"a: cannot be written \(Input/output error\); "):
            files.write_atomically(tmp_path / "a", b"new", force=True)
        assert list(tmp_path.iterdir()) == []


class TestStandardOutput:
    code = (
        "import sys\n"
        "from vqcodec.files import write_atomically\n"
        "from vqcodec.errors import OutputError\n"
        "try: write_atomically('-', bytes(range(256)) * 4096, force=False)\n"
        "except OutputError as error: sys.exit(str(error))"
    )

    def test_bytes_arrive_unchanged(self, environment: dict[str, str]) -> None:
        finished = subprocess.run(
            [sys.executable, "-c", self.code],
            capture_output=True,
            check=True,
            timeout=60,
            env=environment,
        )
        assert finished.stdout == bytes(range(256)) * 4096
        assert finished.stderr == b""

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device /dev/full")
    def test_full_device_is_one_line(self, environment: dict[str, str]) -> None:
        with open("/dev/full", "wb") as full:
            finished = run_python(self.code, stdout=full, env=environment)
        assert finished.returncode == 1
        assert finished.stderr.splitlines() == [
            "standard output: no space left on the device; free some or choose another place"
        ]

    def test_closed_pipe_is_one_line(self, environment: dict[str, str]) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        try:
            finished = run_python(self.code, stdout=writing, env=environment)
        finally:
            os.close(writing)
        assert finished.returncode == 1
        assert finished.stderr.splitlines() == [
            "standard output: cannot be written (Broken pipe); choose another place"
        ]


def run_python(code: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        **streams,
    )


class TestRemoveLeftovers:
    PART = ".0123456789abcdef.vqcodec-part"

    def test_of_killed_processes(self, tmp_path: Path) -> None:
        (tmp_path / self.PART).write_bytes(b"half")
        (tmp_path / "a.vqz").write_bytes(b"whole")
        (tmp_path / "a.vqcodec-part").write_bytes(b"somebody's")
        files.remove_leftovers(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"a.vqz", "a.vqcodec-part"}

    def test_not_of_those_that_are_writing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "fsync", lambda _: files.remove_leftovers(tmp_path))
        files.write_atomically(tmp_path / "a", b"whole", force=False)
        assert (tmp_path / "a").read_bytes() == b"whole"

    @pytest.mark.skipif(files.fcntl is None, reason="needs locks")
    def test_of_those_that_begin_another_is_begun(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One looks for leftovers when the other has made its file, and has not locked it yet."""
        lock, looked = files.fcntl.flock, []

        def look(stream: Any, how: int) -> None:
            if not looked:
                looked.append(how)
                files.remove_leftovers(tmp_path)
                assert list(tmp_path.iterdir()) == []
            lock(stream, how)

        monkeypatch.setattr(files.fcntl, "flock", look)
        files.write_atomically(tmp_path / "a", b"whole", force=False)
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").read_bytes() == b"whole"

    def test_when_a_process_first_writes_to_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / self.PART).write_bytes(b"")
        files.write_atomically(tmp_path / "a", b"whole", force=False)
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


class TestAppend:
    def test_to_a_file_and_to_none(self, tmp_path: Path) -> None:
        files.append(tmp_path / "a", b"one")
        files.append(tmp_path / "a", b"two")
        assert (tmp_path / "a").read_bytes() == b"onetwo"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a limit of a process of its own")
    def test_all_or_nothing(self, tmp_path: Path, environment: dict[str, str]) -> None:
        code = (
            "import resource, sys, pathlib\n"
            "from vqcodec.files import append\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (5, 5))\n"
            "path = pathlib.Path(sys.argv[1])\n"
            "append(path, b'one')\n"
            "try: append(path, b'two')\n"
            "except Exception as error: sys.exit(f'{type(error).__name__} {error}')\n"
        )
        finished = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "a"],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            check=False,
        )
        assert finished.returncode == 1
        assert "OutputError" in finished.stderr
        assert f"{tmp_path}/a: no space left on the device; " in finished.stderr
        assert (tmp_path / "a").read_bytes() == b"one"
