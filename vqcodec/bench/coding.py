"""Encoding and decoding as it is measured: what runs in a codec's own processes.

Importing this loads no torch, so that the memory of a peer's process is the peer's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from vqcodec import image
from vqcodec.bench.codecs import Codec, Pixels

_Result = TypeVar("_Result")

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@lru_cache(maxsize=1)
def picture(source: Path) -> Pixels:
    """The pixels of an image file as every codec gets them, alpha left out: uint8 [H, W, 3]."""
    return image.load(source).pixels


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
    return result, Cost(statistics.median(seconds), _peak())


def _forget_peak() -> None:
    if _CLEAR.exists():
        _CLEAR.write_text("5")  # sets VmHWM back to what is resident now


def _peak() -> int | None:
    if not _STATUS.exists():
        return None
    # Unlike `ru_maxrss`, VmHWM does not include the process that started this one.
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def encode(
    codec: Codec, source: Path, quality: int, target: Path, runs: int
) -> tuple[int, list[float] | None, Cost]:
    """Encodes an image to a file.

    Returns:
        Bytes of the file as it is on the disk; of vqcodec, the ideal bits of each level; the cost.

    Raises:
        CodecError: the codec fails.
    """
    pixels = picture(source)
    encoded, cost = measured(lambda: codec.encode(pixels, quality), runs)
    target.write_bytes(encoded.data)
    return target.stat().st_size, encoded.level_bits, cost


def decode(codec: Codec, file: Path, pixels: Path, runs: int) -> Cost:
    """Decodes a file, and leaves the pixels in a file of numpy's.

    Raises:
        CodecError: the codec fails.
    """
    encoded = file.read_bytes()
    restored, cost = measured(lambda: codec.decode(encoded), runs)
    np.save(pixels, restored)
    return cost
