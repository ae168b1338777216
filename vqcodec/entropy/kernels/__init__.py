"""An integer prior on a CPU, compiled: the same integers as `vqcodec.entropy.prior`, sooner.

numba compiles once for a processor and keeps the code (see `store`). Until then PyTorch computes
the priors, unless there is so much to do that compiling is sooner done; small images leave the
compiling to a process in the background. `VQCODEC_KERNELS` says `torch` to do without compiled
code, and `numba` to insist on it. Code that does not pass a self-test is not used.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch

from vqcodec.errors import CodecError

CHOICE = "VQCODEC_KERNELS"
WORTH_COMPILING = 3 << 20  # pixels which PyTorch alone takes longer for than compiling does
BACKGROUND = "vqcodec.entropy.kernels.compile"

_loaded = False


def ready(device: torch.device) -> bool:
    """Whether a device's priors are to be computed by compiled code: it is there, and loaded.

    Raises:
        CodecError: it was insisted on, and cannot be had.
    """
    if device.type != "cpu":
        return False
    chosen = choice()
    if chosen == "torch" or not (_loaded or chosen == "numba" or _found()):
        return False
    fault = fault_of_compiled()
    if fault and chosen == "numba":
        raise CodecError(f"{CHOICE}=numba: {fault}; install numba, or leave the variable out")
    return fault is None


def prepare(pixels: int, tell: Callable[[int, int], object] | None = None) -> None:
    """To be called before an image of so many pixels: sees to it that code is compiled.

    Args:
        pixels: Of the image.
        tell: Called with 0 and 1, and with 1 and 1, around compiling if that has to be waited for.
    """
    if _loaded or choice() == "torch" or find_spec("numba") is None or _found():
        return
    if choice() == "numba" or pixels >= WORTH_COMPILING:
        if tell is not None:
            tell(0, 1)
        fault_of_compiled()
        if tell is not None:
            tell(1, 1)
    else:
        _compile_in_background()


def choice() -> str:
    """What `VQCODEC_KERNELS` says: torch, numba, or nothing.

    Raises:
        CodecError: it says something else.
    """
    chosen = os.environ.get(CHOICE, "")
    if chosen not in ("", "torch", "numba"):
        raise CodecError(f"{CHOICE}={chosen}: must be torch or numba, or not set")
    return chosen


@cache
def fault_of_compiled() -> str | None:
    """Loads the code, compiles what is missing, and tests it: what is wrong with it, or None."""
    global _loaded
    try:
        from vqcodec.entropy.kernels.self_test import fault

        found = fault()
    except ImportError as error:
        return f"numba cannot be imported ({error})"
    _loaded = found is None
    return found


def _found() -> bool:
    """Whether all code is there already, compiled by an earlier process."""
    if find_spec("numba") is None:
        return False
    from vqcodec.entropy.kernels import store

    return store.any_complete() and store.complete()


@cache
def _compile_in_background() -> None:
    """Starts a process that compiles for later ones; does nothing where they could not find it."""
    from vqcodec.entropy.kernels import store

    if not store.claim():
        return
    subprocess.Popen(
        [sys.executable, "-m", BACKGROUND],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
