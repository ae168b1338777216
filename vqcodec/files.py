"""Whole files in, whole files out: an output is there complete or not at all.

`-` stands for standard input or output everywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sys
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from vqcodec.errors import CodecError, OutputError

try:
    import fcntl
except ImportError:  # Windows, where no file can be removed while it is open
    fcntl = None  # type: ignore[assignment]

STANDARD_STREAM = "-"

_PART = ".vqcodec-part"  # ending of temporary files, whose names begin with a dot

_STANDARD_OUTPUTS = (STANDARD_STREAM, "/dev/stdout", "/dev/fd/1")
_EXISTS = "exists already; use --force to replace it"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def read_bytes(path: str | Path) -> bytes:
    """Reads a whole file.

    Args:
        path: A file name, or `-` for standard input.

    Raises:
        CodecError: The file is missing, a directory, or cannot be read.
    """
    try:
        if str(path) == STANDARD_STREAM:
            if sys.stdin is None:
                raise CodecError("is closed; give a file").in_file(input_name(path))
            return sys.stdin.buffer.read()
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        reason = "no such file; check the name"
        raise CodecError(reason).in_file(input_name(path)) from error
    except IsADirectoryError as error:
        reason = "is a directory; name a file"
        raise CodecError(reason).in_file(input_name(path)) from error
    except OSError as error:
        reason = f"cannot be read ({_reason(error)}); check it and its permissions"
        raise CodecError(reason).in_file(input_name(path)) from error


def is_standard_stream(path: str | Path) -> bool:
    """Whether an output is standard output: `-`, or a name that the system has for it."""
    return str(path) in _STANDARD_OUTPUTS


def check_different(source: str | Path, target: str | Path) -> None:
    """Checks that an output is not the input, whatever its name: it would destroy it.

    Args:
        source: A file name, or `-` for standard input.
        target: A file name, or `-` for standard output.

    Raises:
        OutputError: they are one file.
    """
    with contextlib.suppress(OSError):
        if str(source) != STANDARD_STREAM and os.path.samefile(source, target):
            raise OutputError("is the input itself; give another output").in_file(target)


def input_name(path: str | Path) -> str:
    """What an error message calls an input: its name, or "standard input" for `-`."""
    return "standard input" if str(path) == STANDARD_STREAM else str(path)


def check_writable(path: str | Path, force: bool) -> None:
    """Checks that `write_atomically` may write to a path, without touching it.

    A long computation calls this first, so that it fails before it has begun.

    Args:
        path: A file name, or `-` for standard output, which always passes.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists and `force` is false, it is no regular file, or its directory
            is missing or not writable.
    """
    if is_standard_stream(path):
        return
    target = Path(os.path.realpath(path))
    try:
        if target.is_symlink():  # realpath ends at one only where links go round in a circle
            raise OutputError("is a symbolic link that leads to itself; remove it").in_file(path)
        if target.is_dir():
            raise OutputError("is a directory; name a file in it").in_file(path)
        if target.exists():
            # Replacing a device or a pipe by a regular file is never what was meant.
            if not target.is_file():
                raise OutputError("is not a regular file; write to - instead").in_file(path)
            if not force:
                raise OutputError(_EXISTS).in_file(path)
        if not target.parent.is_dir():
            reason = f"cannot be written: {target.parent} is not a directory; create it first"
            raise OutputError(reason).in_file(path)
    except OSError as error:
        raise _output_error(error).in_file(path) from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        reason = f"cannot be written: no permission to create files in {target.parent}"
        raise OutputError(f"{reason}; choose another directory").in_file(path)


def write_atomically(path: str | Path, data: bytes, *, force: bool) -> None:
    """Writes a whole file, so that nobody ever sees a part of it.

    The bytes go to a temporary file in the same directory, which then takes the file's name. The
    temporary is removed on any exception, KeyboardInterrupt included; those of killed processes
    are, when a process first writes to their directory. A symbolic link stays, and the file it
    points to is replaced; a replaced file's permissions are kept.

    Args:
        path: A file name, or `-` for standard output.
        data: What to write.
        force: Whether an existing file may be replaced, also one that has come meanwhile.

    Raises:
        OutputError: The file exists and `force` is false, or it cannot be written.
    """
    if is_standard_stream(path):
        _write_to_standard_output(data)
        return
    check_writable(path, force)
    target = Path(os.path.realpath(path))
    _remove_leftovers_once(target.parent)
    temporary = target.with_name(f".{secrets.token_hex(8)}{_PART}")
    try:
        with _new(temporary) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            with contextlib.suppress(FileNotFoundError):
                shutil.copymode(target, temporary)
            if fcntl is None:
                stream.close()  # what is open has no other name
            _rename(temporary, target, force)
    except OSError as error:
        raise _output_error(error).in_file(path) from error
    finally:
        try:
            _remove(temporary)
        finally:
            _remove(temporary)  # if the first one was interrupted


def append(path: Path, data: bytes) -> None:
    """Adds to the end of a file, which need not exist: all of it or, if that fails, nothing.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with open(path, "ab", buffering=0) as stream:
            before = stream.tell()
            if stream.write(data) != len(data):
                stream.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise _output_error(error).in_file(path) from error


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that processes left in a folder when they were killed.

    Those that a process is writing stay, as it keeps them locked.
    """
    for path in folder.glob(f".*{_PART}"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if fcntl is not None:
                stream = stack.enter_context(open(path, "rb"))
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@lru_cache(maxsize=256)
def _remove_leftovers_once(folder: Path) -> None:
    """The same, but once in a process: a folder may be large."""
    remove_leftovers(folder)


def _new(path: Path) -> BinaryIO:
    """A new file that is locked until it is closed: nobody takes it for a leftover."""
    while True:
        stream = open(path, "xb")  # noqa: SIM115
        if fcntl is not None:
            with contextlib.suppress(OSError):  # there are no locks
                fcntl.flock(stream, fcntl.LOCK_EX)
        if path.exists():
            return stream
        stream.close()  # somebody took it for one before it was locked


def _remove(path: Path) -> None:
    """Removes a file that may be there; after `os.replace` it is not."""
    with contextlib.suppress(OSError):
        path.unlink()


def _rename(path: Path, target: Path, force: bool) -> None:
    """Gives a file another name; without force one that is free, which one process alone gets.

    Raises:
        OSError: it cannot be renamed; FileExistsError if the name is not free.
    """
    if not force:
        try:
            os.link(path, target)
        except FileExistsError:
            raise
        except OSError:  # the file system has no links
            if target.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        else:
            return
    os.replace(path, target)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where they are not there.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise _output_error(error).in_file(folder) from error
        reason = f"cannot be made a folder ({_reason(error)}); choose another place"
        raise OutputError(reason).in_file(folder) from error


def class_folder(folder: Path, name: str) -> Path:
    """The folder of a class in another one, which is itself that of images without a class.

    Args:
        folder: The other one.
        name: Of the class, "" for none. Models and archives may bring any.

    Raises:
        CodecError: it is no name, but a way out of the folder.
    """
    if name != Path(name).name or name == ".." or "\0" in name:
        raise CodecError(f"the class {name!r} cannot name a folder in {folder}; rename it")
    return folder / name


def _write_to_standard_output(data: bytes) -> None:
    if sys.stdout is None:
        raise OutputError("is closed; give a file").in_file("standard output")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # The unwritten rest stays in the buffer, and the interpreter would fail on it once more,
        # with a traceback, when it flushes standard output at exit.
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
        raise _output_error(error).in_file("standard output") from error


def _output_error(error: OSError) -> OutputError:
    if isinstance(error, FileExistsError):
        return OutputError(_EXISTS)
    if error.errno in _NO_SPACE:
        return OutputError("no space left on the device; free some or choose another place")
    return OutputError(f"cannot be written ({_reason(error)}); choose another place")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
