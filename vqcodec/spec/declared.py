"""Whether a config, which may come from anyone's file, is what it declares itself to be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

MOST = 1 << 20  # of a count or size
MOST_PARTS = 1 << 8  # of what is listed, or made one by one


def check(config: object, positive: Iterable[str] = (), parts: Iterable[str] = ()) -> None:
    """Refuses values of a dataclass that are not of its types; it checks what lies in it, too.

    Integers are counts or sizes, 0..MOST; floats are finite; tuples have MOST_PARTS at most.

    Args:
        config: The dataclass.
        positive: Names of integers that cannot be 0.
        parts: Names of integers that are MOST_PARTS at most.

    Raises:
        ValueError: a value is none of these.
    """
    limits = dict.fromkeys(positive, (1, MOST)) | dict.fromkeys(parts, (0, MOST_PARTS))
    for name, kind in _kinds(type(config)).items():
        value = getattr(config, name)
        least, most = limits.get(name, (0, MOST))
        if not _is(value, kind) or (type(value) is int and not least <= value <= most):
            raise ValueError(f"{name} cannot be {str(value)[:100]}")


def _kinds(config: Any) -> dict[str, Any]:
    return get_type_hints(config)


def _is(value: Any, kind: Any) -> bool:
    if get_origin(kind) in (Union, UnionType):
        return any(_is(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return _is_tuple(value, get_args(kind))
    if kind is int:
        return type(value) is int and 0 <= value <= MOST
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if type(value) is not kind:
        return False
    # A dataclass checks itself; a named tuple cannot.
    names = getattr(kind, "_fields", ())
    return all(_is(getattr(value, name), _kinds(kind)[name]) for name in names)


def _is_tuple(value: Any, kinds: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple) or len(value) > MOST_PARTS:
        return False
    if kinds[1:] == (...,):
        return all(_is(each, kinds[0]) for each in value)
    return len(value) == len(kinds) and all(map(_is, value, kinds))
