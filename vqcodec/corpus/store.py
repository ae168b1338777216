"""Where a corpus lies: a folder, or a URL of fsspec such as `s3://bucket/photos`.

What is written is there whole or not at all: a file is renamed, an object is put at once.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from vqcodec.corpus.optional import needed
from vqcodec.errors import CodecError
from vqcodec.files import make_folder, remove_leftovers, write_atomically

T = TypeVar("T")

TRIES = 6  # of what a remote store refuses
READ_AHEAD = 1 << 20  # bytes
PAUSE = 0.5  # seconds before the second one, doubled before every other
HIDDEN = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""What is wrong with one file, not with the store."""


class StoreError(CodecError):
    """The store failed, not an image: the run stops, and goes on when it is started again."""


class Store(Protocol):
    """Files by names with slashes, below a root."""

    root: str

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """A file's bytes, or some of them.

        Raises:
            CodecError: there is no such file, or it is not to be read.
            StoreError: the store failed.
        """

    def open(self, name: str) -> IO[bytes]:
        """A file that can be read from anywhere; raises as `read`."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a whole file, in place of one that is there.

        Raises:
            StoreError: the store failed.
        """

    def building(self, name: str) -> AbstractContextManager[Path]:
        """A local file to be filled in the block; at its end it is the store's.

        Raises:
            StoreError: the store failed.
        """

    def names(self, folder: str = "") -> Iterator[str]:
        """Of all files below a folder, in order; none if there is no such folder."""

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Of all files: their names, in order, and bytes."""

    def top(self) -> list[str]:
        """Names of the files that lie in no folder, in order.

        Raises:
            CodecError: there is no such root.
        """

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""

    def tidy(self, folder: str) -> None:
        """Removes what killed processes have left in a folder."""


def open_store(url: str) -> Store:
    """The store of a folder or URL.

    Raises:
        CodecError: what it needs is not installed, or there is no such kind of URL.
    """
    return RemoteStore(url) if is_remote(url) else LocalStore(url)


def is_remote(url: str) -> bool:
    """Whether a name is a URL of fsspec, not that of a file here."""
    return "://" in url


def absolute(url: str) -> str:
    """A URL, or the name of a folder or file from the root on."""
    return url if is_remote(url) else os.path.abspath(url)


class LocalStore:
    """A folder here, or where every machine has it.

    Args:
        root: Its name.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._made: set[Path] = set()

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """As of `Store`."""
        with self._named(name), open(self._path(name), "rb") as stream:
            stream.seek(offset)
            return stream.read() if size is None else stream.read(size)

    def open(self, name: str) -> IO[bytes]:
        """As of `Store`."""
        with self._named(name):
            return open(self._path(name), "rb")

    def write(self, name: str, content: bytes) -> None:
        """As of `Store`."""
        try:
            write_atomically(self._target(name), content, force=True)
        except CodecError as error:
            raise StoreError(*error.args).in_file(error.filename or name) from error

    @contextmanager
    def building(self, name: str) -> Iterator[Path]:
        """As of `Store`."""
        target = self._target(name)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.building")
        try:
            try:
                yield temporary
                with open(temporary, "rb+") as stream:
                    os.fsync(stream.fileno())
                os.replace(temporary, target)
            except OSError as error:
                raise StoreError(f"cannot be written ({error})").in_file(target) from error
        finally:
            temporary.unlink(missing_ok=True)

    def names(self, folder: str = "") -> Iterator[str]:
        """As of `Store`; what begins with a dot is not there."""
        top = self._path(folder)
        for path, folders, names in os.walk(top):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    yield Path(path, name).relative_to(self.root).as_posix()

    def sizes(self) -> Iterator[tuple[str, int]]:
        """As of `Store`."""
        return ((name, self._path(name).stat().st_size) for name in self.names())

    def top(self) -> list[str]:
        """As of `Store`."""
        root = Path(self.root)
        if not root.is_dir():
            raise CodecError("no such folder; check the name").in_file(self.root)
        return sorted(each.name for each in root.iterdir() if each.is_file())

    def exists(self, name: str) -> bool:
        """As of `Store`."""
        return self._path(name).is_file()

    def remove(self, name: str) -> None:
        """As of `Store`; a folder goes with its last file."""
        path = self._path(name)
        path.unlink(missing_ok=True)
        self._made.clear()
        with suppress(OSError):
            for folder in path.parents:
                if folder == Path(self.root):
                    return
                folder.rmdir()

    def tidy(self, folder: str) -> None:
        """As of `Store`."""
        path = self._path(folder)
        remove_leftovers(path)
        for each in path.glob(".*.building"):
            each.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return Path(self.root, name)

    def _target(self, name: str) -> Path:
        path = self._path(name)
        if path.parent not in self._made:
            try:
                make_folder(path.parent)
            except CodecError as error:
                raise StoreError(*error.args).in_file(path.parent) from error
            self._made.add(path.parent)
        return path

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = CodecError if isinstance(error, HIDDEN) else StoreError
            raise kind(f"cannot be read ({error.strerror or error})").in_file(name) from error


class RemoteStore:
    """What fsspec reaches.

    Args:
        root: Its URL.
    """

    def __init__(self, root: str) -> None:
        fsspec = needed("fsspec", root)
        self.root = root
        try:
            self._files, self._base = fsspec.core.url_to_fs(root.rstrip("/"))
        except (ImportError, ValueError) as error:
            reason = f"cannot be reached ({error}); install what fsspec needs for it"
            raise CodecError(reason).in_file(root) from error

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """As of `Store`."""
        if size == 0:
            return b""
        some = {"start": offset} if size is None else {"start": offset, "end": offset + size}
        part = some if offset or size is not None else {}  # an empty object has no parts

        def read() -> bytes:
            content: bytes = self._files.cat_file(self._path(name), **part)
            if size is not None and len(content) != size:
                raise OSError(f"{len(content)} bytes came instead of {size}")
            return content

        return self._patiently(name, "read", read)

    def open(self, name: str) -> IO[bytes]:
        """As of `Store`."""

        def size() -> int:
            self._files.invalidate_cache()
            found: int = self._files.info(self._path(name))["size"]
            return found

        return BufferedReader(_Remote(self, name, self._patiently(name, "read", size)), READ_AHEAD)

    def write(self, name: str, content: bytes) -> None:
        """As of `Store`."""
        self._patiently(name, "written", lambda: self._files.pipe_file(self._path(name), content))

    @contextmanager
    def building(self, name: str) -> Iterator[Path]:
        """As of `Store`."""
        with tempfile.TemporaryDirectory(prefix="vqcodec-") as folder:
            temporary = Path(folder, "building")
            yield temporary
            self._patiently(
                name, "written", lambda: self._files.put_file(str(temporary), self._path(name))
            )

    def names(self, folder: str = "") -> Iterator[str]:
        """As of `Store`."""
        return (name for name, _ in self._found(folder))

    def sizes(self) -> Iterator[tuple[str, int]]:
        """As of `Store`."""
        return ((name, about.get("size") or 0) for name, about in self._found(""))

    def top(self) -> list[str]:
        """As of `Store`."""

        def look() -> list[dict[str, Any]]:
            self._files.invalidate_cache()
            found: list[dict[str, Any]] = self._files.ls(self._base, detail=True)
            return found

        found = self._patiently("", "read", look)
        return sorted(self._name(each["name"]) for each in found if each["type"] == "file")

    def exists(self, name: str) -> bool:
        """As of `Store`."""

        def look() -> bool:
            self._files.invalidate_cache()
            there: bool = self._files.isfile(self._path(name))
            return there

        return self._patiently(name, "read", look)

    def remove(self, name: str) -> None:
        """As of `Store`."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._files.rm_file(self._path(name))

        self._patiently(name, "removed", remove)

    def tidy(self, folder: str) -> None:
        """Nothing is left of an object that was not put whole."""

    def _found(self, folder: str) -> list[tuple[str, dict[str, Any]]]:
        def find() -> dict[str, dict[str, Any]]:
            self._files.invalidate_cache()
            with suppress(FileNotFoundError):
                found: dict[str, dict[str, Any]] = self._files.find(self._path(folder), detail=True)
                return found
            return {}

        found = self._patiently(folder, "read", find)
        return [(self._name(path), found[path]) for path in sorted(found)]

    def _name(self, path: str) -> str:
        return path.removeprefix(self._base).lstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _patiently(self, name: str, done: str, call: Callable[[], T]) -> T:
        """Calls, again and again if the store fails."""
        failure: Any = None
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                return call()
            except HIDDEN as error:
                kind = CodecError if done == "read" else StoreError
                reason = f"cannot be {done} ({type(error).__name__}: {error})"
                raise kind(reason).in_file(f"{self.root}/{name}") from error
            except Exception as error:  # each kind of store has its own
                failure = error
        reason = f"cannot be {done} ({type(failure).__name__}: {failure})"
        advice = "start again when the store is well, and the run goes on"
        raise StoreError(f"{reason}; {advice}").in_file(f"{self.root}/{name}") from failure


class _Remote(RawIOBase):
    """A file of a store, whose bytes are read as patiently as all else, where they are wanted."""

    def __init__(self, store: RemoteStore, name: str, size: int) -> None:
        self._store, self._name, self._size, self._place = store, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._place))
        buffer[:count] = self._store.read(self._name, self._place, count)
        self._place += count
        return count
