"""Sees to it that there is compiled code: `python -m vqcodec.compiling`, or when it is needed.

numba compiles once for a processor and keeps the code (see `vqcodec.kernels.store`). Until then
PyTorch computes everything, unless there is so much to do that compiling is sooner done; small
images leave the compiling to a process in the background. `VQCODEC_KERNELS` says `torch` to do
without compiled code, and `numba` to insist on it. Code that does not pass its tests is not used.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from vqcodec import kernels
from vqcodec.ambient import shared_lock
from vqcodec.entropy import range_coder
from vqcodec.entropy import self_test as of_priors
from vqcodec.errors import CodecError
from vqcodec.kernels import CHOICE, store
from vqcodec.models import winograd

_compiling, _beginning = shared_lock(), shared_lock()

WORTH_COMPILING = 3 << 20  # pixels which PyTorch alone takes longer for than compiling does


def look() -> None:
    """Loads compiled code if it is there, or if it is insisted on.

    Raises:
        CodecError: it is insisted on, and cannot be had.
    """
    chosen = _choice()
    if chosen == "numba":
        if found := fault():
            raise CodecError(f"{CHOICE}=numba: {found}; mend that, or leave the variable out")
    elif chosen != "torch" and _found():
        fault()


def prepare(pixels: int, tell: Callable[[int, int], object] | None = None) -> None:
    """To be called before an image of so many pixels, when `look` has found nothing perhaps.

    Args:
        pixels: Of the image.
        tell: Called with 0 and 1, and with 1 and 1, around compiling if that has to be waited for.
    """
    if _choice() or find_spec("numba") is None or _found():
        return
    if pixels < WORTH_COMPILING:
        with _beginning:
            _compile_in_background()
    elif not _fault.cache_info().currsize:
        if tell is not None:
            tell(0, 1)
        fault()
        if tell is not None:
            tell(1, 1)


def fault() -> str | None:
    """Loads all code, compiles what is missing, and tests it: what is wrong with it, or None."""
    with _compiling:  # one thread, and others wait for what it finds
        return _fault()


@cache
def _fault() -> str | None:
    if find_spec("numba") is None:
        return "numba is not installed"
    try:
        _import_numba()
        found = of_priors.fault() or winograd.fault() or range_coder.fault()
    except Exception as error:  # whatever a compiler may raise: PyTorch is there
        return f"compiling failed ({type(error).__name__}: {error})"
    if found is None:
        store.finish()
        kernels.loaded()
    return found


def _choice() -> str:
    """What `VQCODEC_KERNELS` says: torch, numba, or nothing.

    Raises:
        CodecError: it says something else.
    """
    chosen = os.environ.get(CHOICE, "")
    if chosen not in ("", "torch", "numba"):
        raise CodecError(f"{CHOICE}={chosen}: must be torch or numba, or not set")
    return chosen


def _found() -> bool:
    """Whether all code is there already, compiled by an earlier process."""
    if find_spec("numba") is None or not store.any_complete():
        return False
    _import_numba()
    return store.complete()


@cache
def _import_numba() -> None:
    """Imports it in a thread, which no interrupt stops: what is half imported stays broken."""
    ThreadPoolExecutor(1).submit(import_module, "numba").result()


@cache
def _compile_in_background() -> subprocess.Popen[bytes] | None:
    """Starts a process that compiles for later ones, if they will find what it compiles.

    The cache keeps the process: nobody waits for it.
    """
    if not store.claim():
        return None
    return subprocess.Popen(
        [sys.executable, "-m", "vqcodec.compiling"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(10)
    if found := fault():
        raise SystemExit(f"vqcodec: {found}")
