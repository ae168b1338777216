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

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
    forget_peak()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - start)
    return result, Cost(statistics.median(seconds), memory("VmHWM"))


def timed(action: Callable[[], object], runs: int) -> float:
    """Median seconds of an action, after one run to warm up."""
    action()
    return measured(action, runs)[1].seconds


def memory(field: str) -> int | None:
    """A field of this process's memory in bytes; None where the system does not tell.

    Args:
        field: VmRSS, what is resident; VmHWM, the peak of it, which unlike `ru_maxrss` is without
            that of the process that started this one; or VmSize.
    """
    if not _STATUS.exists():
        return None
    lines = _STATUS.read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def forget_peak() -> None:
    """Sets the peak back to what is resident."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")
