"""How long to search for indices; standard library only, so that the command line knows it too."""

from __future__ import annotations

from vqcodec.arguments import whole
from vqcodec.errors import CodecError

SWEEPS = (0, 1, 2, 3, 5, 7, 10, 14, 24)
"""Sweeps of `vqcodec.choosing.search` of every effort, from effort 1 on."""

MAX_EFFORT = len(SWEEPS)
DEFAULT_EFFORT = 5


def checked_effort(effort: int | None) -> int:
    """The effort, or the default for None.

    Raises:
        CodecError: it is none.
    """
    if effort is None:
        return DEFAULT_EFFORT
    if not 1 <= (effort := whole(effort, "effort")) <= MAX_EFFORT:
        raise CodecError(f"there is no effort {effort}; give one from 1 to {MAX_EFFORT}")
    return effort
