"""Looking on while an image goes through the corridor.

The corridor names what it is at, with `stage`; it does nothing more unless somebody watches:

    with watching(lambda name: timer(name)):
        vqcodec.compress(image)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

Watch = Callable[[str], AbstractContextManager[object]]
"""The name of a stage to what is entered around it. Stages may lie in each other."""

_NOBODY: AbstractContextManager[None] = nullcontext()
_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


def stage(name: str) -> AbstractContextManager[object]:
    """To be entered around a stage of the corridor."""
    watch = _watch.get()
    return _NOBODY if watch is None else watch(name)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Has every stage entered through `watch`, for the block and this thread."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)
