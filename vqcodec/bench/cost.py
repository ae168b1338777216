"""Seconds and memory of an action in this process.

Importing this loads no torch, so that the memory of a peer's process is the peer's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")

_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """What an action took.

    Attributes:
        seconds: Median of its runs.
        peak: Largest resident memory of the process during them, in bytes; None where the system
            does not tell.
    """

    seconds: float
    peak: int | None


def measured(action: Callable[[], _Result], runs: int) -> tuple[_Result, Cost]:
    """The result of an action that is run some times, and what it took."""
    _forget_peak()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - start)
    return result, Cost(statistics.median(seconds), peak())


def timed(action: Callable[[], object], runs: int) -> float:
    """Median seconds of an action, after one run to warm up."""
    action()
    return measured(action, runs)[1].seconds


def _forget_peak() -> None:
    if _CLEAR.exists():
        _CLEAR.write_text("5")  # sets VmHWM back to what is resident


def peak(process: int | str = "self") -> int | None:
    """Bytes of memory that a process held at most; None where the system does not tell."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    # Unlike `ru_maxrss`, VmHWM does not include the process that started this one.
    found = (line.split() for line in status.splitlines())
    return next((int(words[1]) * 1024 for words in found if words[:1] == ["VmHWM:"]), None)
