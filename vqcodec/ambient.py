"""The state of torch that vqcodec computes in, whatever its caller has set.

Autocast, inference mode, a default device and flushed denormals are of one thread. Default dtype
and precision are of the process: where they are not as vqcodec needs them, they are from the
beginning of the first call to the end of the last one, of all threads.

A process that was forked has none of the threads that torch had, and would wait for them for ever:
there, torch computes in one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

from vqcodec.errors import CodecError

T = TypeVar("T")

DEVICES = ("cpu", "cuda")
EXACT = ("none", "ieee")  # float32 products that nothing rounds
_PRECISIONS = (
    *(("generic", "all"), ("mkldnn", "all"), ("cuda", "all")),  # those below inherit from these
    *(("mkldnn", "matmul"), ("mkldnn", "conv"), ("cuda", "matmul")),
)

_lock = threading.Lock()
_inside: list[int] = []  # the thread of every call
_before: dict[int, Any] = {}  # by the number of a switch, what to put back
_forked = False


class _Switch(NamedTuple):
    """Something of the process.

    Attributes:
        get: Gives its value.
        put: Takes one.
        good: The values that it may have; the first is put if it has another.
    """

    get: Callable[[], Any]
    put: Callable[[Any], object]
    good: tuple[Any, ...]


def shared_lock() -> AbstractContextManager[bool]:
    """A lock for the threads of a process, which a forked one finds open."""
    found = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=found._at_fork_reinit)  # type: ignore[attr-defined]
    return found


@contextmanager
def ordinary_state() -> Iterator[None]:
    """Has torch compute as it does where nothing was set, for the block or the function.

    Afterwards everything is as before. Torch is not loaded for it.

    Raises:
        CodecError: for what torch does not do in a forked process, such as to use a GPU.
    """
    if "torch" not in sys.modules:  # so nothing was set
        yield
        return
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # and with gradients
        for kind in DEVICES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if _elsewhere():
            stack.enter_context(torch.device("cpu"))
        if sys.float_info.min / 2 == 0:
            torch.set_flush_denormal(False)
            stack.callback(torch.set_flush_denormal, True)
        if _forked and (threads := torch.get_num_threads()) > 1:
            from vqcodec.threads import set_here

            set_here(1)
            stack.callback(set_here, threads)
        stack.enter_context(_switched())
        try:
            yield
        except RuntimeError as error:
            if not _forked or "fork" not in str(error):
                raise
            hint = "start it with spawn, which multiprocessing calls a start method"
            raise CodecError(f"a forked process cannot do this ({error}); {hint}") from error


def each_in_ordinary_state(items: Iterator[T]) -> Iterator[T]:
    """The same items, of which each is made in `ordinary_state`."""
    while True:
        with ordinary_state():
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def _elsewhere() -> bool:
    """Whether tensors are made elsewhere than on the CPU, if not told where."""
    import torch

    try:
        return torch.empty(0).device.type != "cpu"
    except (AssertionError, RuntimeError):  # on a device that is not there
        return True


@contextmanager
def _switched() -> Iterator[None]:
    """Has all switches as they are to be, until the last of the blocks that overlap."""
    with _lock:
        _inside.append(threading.get_ident())
        _settle()
    try:
        yield
    finally:
        with _lock:
            _inside.remove(threading.get_ident())
            _put_back()


def _settle() -> None:
    older, *others = _switches()
    precision = older.get()
    rounds = precision not in older.good
    for number, switch in enumerate(others, 1):
        value = switch.get()
        if value not in switch.good:
            _before[number] = value
            switch.put(switch.good[0])
        elif rounds:  # whose switch turns others, too
            _before.setdefault(number, value)
    if rounds:
        _before[0] = precision
        older.put(older.good[0])


def _put_back() -> None:
    if not _inside:
        for number, value in sorted(_before.items()):
            _switches()[number].put(value)
        _before.clear()


@cache
def _switches() -> list[_Switch]:
    """That of precision, as it was before torch 2.9, and all others."""
    import torch

    def precision() -> str:
        try:
            return torch.get_float32_matmul_precision()
        except RuntimeError:  # it is said by the newer switches, and they say otherwise
            return "highest"

    found = [
        _Switch(precision, torch.set_float32_matmul_precision, ("highest",)),
        _Switch(torch.get_default_dtype, torch.set_default_dtype, (torch.float32,)),
    ]
    if hasattr(torch._C, "_get_fp32_precision_getter"):
        found += [
            _Switch(
                partial(torch._C._get_fp32_precision_getter, *each),
                partial(torch._C._set_fp32_precision_setter, *each),
                EXACT,
            )
            for each in _PRECISIONS
        ]
    return found


def _after_fork() -> None:
    """In the new process: of the threads there is this one, and of their calls its own."""
    global _lock, _forked
    _forked = _forked or "torch" in sys.modules
    _lock = threading.Lock()
    _inside[:] = [thread for thread in _inside if thread == threading.get_ident()]
    _put_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
