"""Numbers that callers give: of the right type, or a `CodecError` that says what to give."""

from __future__ import annotations

import operator
from typing import SupportsFloat, cast

from vqcodec.errors import CodecError


def whole(value: object, name: str) -> int:
    """An integer of any kind, numpy's too; no bool, and no float.

    Raises:
        CodecError: it is none.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        reason = f"{name} {value!r} is no whole number"
        raise CodecError(f"{reason}; give one such as 5") from error


def real(value: object, name: str) -> float:
    """A number of any kind; no bool, and no text.

    Raises:
        CodecError: it is none.
    """
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(cast("SupportsFloat", value))
    except (TypeError, ValueError, OverflowError) as error:
        reason = f"{name} {value!r} is no number"
        raise CodecError(f"{reason}; give one such as 0.5 or 40000") from error
