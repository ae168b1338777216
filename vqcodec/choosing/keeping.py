"""Whether the lossless file of an image is kept: of plain images it is the smaller one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from vqcodec.errors import CodecError, TooGoodError

AUTO, ALWAYS, NEVER = "auto", "always", "never"
LOSSLESS = (AUTO, ALWAYS, NEVER)

FLOOR_BYTES = 72
FLOOR_BPP = 0.01
"""Bytes, and bits a pixel beside them, that hardly any file with indices stays below: that of one
colour may, and then by little."""
NEAR = 1.1
"""How much larger the quick lossless file may be for the thorough one to be tried: it saves a few
percent."""
PLAIN_BPP = 6.0
"""Fewer bits a pixel than a lossless file of a photograph has, but for the smoothest."""


class File(Protocol):
    """What a way gives."""

    @property
    def data(self) -> bytes: ...  # noqa: D102


F = TypeVar("F", bound=File)


def checked_lossless(lossless: str) -> str:
    """The word.

    Raises:
        CodecError: it is none of `LOSSLESS`.
    """
    if lossless not in LOSSLESS:
        known = ", ".join(LOSSLESS[:-1])
        raise CodecError(f"there is no lossless {lossless!r}; give {known} or {LOSSLESS[-1]}")
    return lossless


def check_no_target(**given: object) -> None:
    """Refuses what a lossless file cannot be asked for.

    Args:
        given: Quality, sizes and scores; None if not given.

    Raises:
        CodecError: one is given.
    """
    for name, value in given.items():
        if value is not None:
            reason = f"{name} has no meaning for a file that is always lossless"
            raise CodecError(f"{reason}; leave one of them out")


def kept(
    lossless: Callable[[bool], F],
    lossy: Callable[[bool], F],
    pixels: int,
    limit: float | None,
) -> F:
    """The lossless file, if it is not larger than the lossy one or fits a size; else the lossy.

    It is the lossless one, too, where no lossy one has the score that is asked for.

    The lossy one, which takes much longer, is not made where the lossless one fits, or is so small
    that hardly any file is smaller (`FLOOR_BPP`).

    Args:
        lossless: Makes it; quickly, or as small as it can be.
        lossy: Makes it; of an image that is so plain that it may look poor (`PLAIN_BPP`), or not.
        pixels: Of the image.
        limit: Bytes that the file may have whatever its quality; None if no size is asked for.
    """
    quick = lossless(True)

    def best() -> F:
        return min(lossless(False), quick, key=lambda file: len(file.data))

    def fitting(most: float) -> F | None:
        if len(quick.data) > NEAR * most:
            return None
        return file if len((file := best()).data) <= most else None

    small = fitting(FLOOR_BYTES + FLOOR_BPP * pixels / 8 if limit is None else limit)
    if small is not None:
        return small
    try:
        found = lossy(8 * len(quick.data) < PLAIN_BPP * pixels)
    except TooGoodError:
        return best()
    no_larger = fitting(len(found.data)) if limit is None else None
    return no_larger or found
