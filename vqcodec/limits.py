"""How many pixels a picture may have: a few bytes can claim more than there is memory for.

The limit is `DEFAULT`, or what the environment variable VQCODEC_MAX_PIXELS says. Formats have their
own ones besides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from vqcodec.arguments import whole
from vqcodec.errors import LimitError

VARIABLE = "VQCODEC_MAX_PIXELS"
DEFAULT = 128_000_000

_given: ContextVar[int | None] = ContextVar("max_pixels", default=None)


def max_pixels() -> int:
    """The most pixels that a picture may have.

    Raises:
        LimitError: the environment variable is no whole number above 0.
    """
    given = _given.get()
    if given is not None:
        return given
    said = os.environ.get(VARIABLE, "")
    if not said:
        return DEFAULT
    if not re.fullmatch("[0-9]{1,18}", said, re.ASCII) or int(said) == 0:
        raise LimitError(f"{VARIABLE}={said}: must be a whole number of pixels above 0, or not set")
    return int(said)


@contextmanager
def at_most(pixels: int | None) -> Iterator[None]:
    """Has the limit be so many pixels for the block and this thread; None leaves it as it is.

    Raises:
        CodecError: it is no whole number above 0.
    """
    if pixels is None:
        yield
        return
    if (pixels := whole(pixels, "max_pixels")) < 1:
        raise LimitError(f"max_pixels cannot be {pixels}; give a whole number above 0")
    token = _given.set(pixels)
    try:
        yield
    finally:
        _given.reset(token)


def check(width: int, height: int) -> None:
    """Refuses what has more pixels than the limit.

    Raises:
        LimitError: it has.
    """
    if width * height > (most := max_pixels()):
        raise too_large(f"is {width} x {height}, {width * height:,} pixels", most)


def too_large(what: str, most: int) -> LimitError:
    """The error of what has more pixels than a limit."""
    remedy = f"reduce it, or raise the limit with --max-pixels N or {VARIABLE}=N"
    return LimitError(f"{what}, and the limit is {most:,}; {remedy}")
