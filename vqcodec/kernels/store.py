"""Where compiled code is kept: a folder of the user's own, one for each processor and version.

    $VQCODEC_CACHE, or else the user's folder for caches
        vqcodec-kernels-<key>/      code; the key is of all that it depends on
            complete                written last: everything is there

Each function has one signature, and so one file of code, which is written to a temporary name and
renamed: processes that compile at the same time write the same.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vqcodec.ambient import shared_lock

FOLDER = "VQCODEC_CACHE"
PREFIX = "vqcodec-kernels-"
COMPLETE = "complete"
CLAIM = "vqcodec-kernels.compiling"
CLAIM_SECONDS = 600
SOURCES = tuple(sorted(Path(__file__).parent.glob("*.py")))


_declaring = shared_lock()


def root() -> Path:
    """The folder of caches; it need not exist."""
    if chosen := os.environ.get(FOLDER):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@cache
def folder() -> Path | None:
    """Where this version's code for this processor is kept; None where nothing can be written."""
    from vqcodec.kernels.tile import processor

    parts = [*processor(), sys.version, *map(version, ("numba", "llvmlite", "numpy"))]
    for source in SOURCES:
        known = source.stat()
        parts += [str(source), str(known.st_mtime_ns), str(known.st_size)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    try:
        path = root() / f"{PREFIX}{key}"
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, RuntimeError):  # no home
        return None
    return path


def any_complete() -> bool:
    """Whether some code is there: what can be said without loading numba."""
    try:
        return any(root().glob(f"{PREFIX}*/{COMPLETE}"))
    except (OSError, RuntimeError):  # no home
        return False


def complete() -> bool:
    """Whether all code is there already."""
    path = folder()
    return path is not None and (path / COMPLETE).exists()


def finish() -> None:
    """Marks the folder as complete, if it can be written to: else the next process compiles."""
    if (path := folder()) is not None and not complete():
        with suppress(OSError):
            (path / COMPLETE).touch()


def claim() -> bool:
    """Whether this process is to see to compiling: no other has begun to in the last minutes."""
    try:
        path = root() / CLAIM
        root().mkdir(parents=True, exist_ok=True)
        if path.exists() and time.time() - path.stat().st_mtime > CLAIM_SECONDS:
            path.unlink()
        path.touch(exist_ok=False)
    except (OSError, RuntimeError):  # somebody has, or nothing can be written, or no home
        return False
    return True


@contextmanager
def _kept() -> Iterator[bool]:
    """Has numba keep what is declared in the block in `folder`; gives whether it can."""
    import numba

    config: Any = numba.config
    with _declaring:
        path, before = folder(), config.CACHE_DIR
        config.CACHE_DIR = str(path or before)
        try:
            yield path is not None
        finally:
            config.CACHE_DIR = before


def compiled(function: Callable[..., None], **options: Any) -> Any:
    """A function that Python calls: without its lock, and kept for later processes."""
    import numba

    with _kept() as keeping:
        return numba.njit(nogil=True, error_model="numpy", cache=keeping, **options)(function)


def compiled_floats(function: Callable[..., None]) -> Any:
    """The same of floats, whose sums may be taken in another order."""
    return compiled(function, fastmath=True)
