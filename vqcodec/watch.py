"""Looking on while an image goes through the corridor.

The corridor names what it is at, with `stage`; it does nothing more unless somebody watches:

    clock = Clock()
    with watching(clock.stage):
        vqcodec.compress(image)
    clock.milliseconds()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

ALL, REST = "all", "rest"

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


class Clock:
    """Seconds of stages, each without those inside it."""

    def __init__(self) -> None:
        self.seconds = {REST: 0.0}
        self.running = [REST]
        self._last = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The block's seconds are those of a stage; what is inside of a level's is that level's."""
        level, comma, _ = self.running[-1].partition(", ")
        name = f"{level}, {name}" if comma else name
        self.seconds.setdefault(name, 0.0)
        self._charge()
        self.running.append(name)
        try:
            yield
        finally:
            self._charge()
            self.running.pop()

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds by stage so far, in the order of their start, then "rest" and "all"."""
        self._charge()
        found = {name: 1000 * seconds for name, seconds in self.seconds.items()}
        rest = found.pop(REST)
        return {**found, REST: rest, ALL: rest + sum(found.values())}

    def _charge(self) -> None:
        now = time.perf_counter()
        self.seconds[self.running[-1]] += now - self._last
        self._last = now
