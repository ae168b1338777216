from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest

from vqcodec.spec import declared


class Pair(NamedTuple):
    first: int
    second: float | None = None


@dataclass(frozen=True)
class Inner:
    count: int


@dataclass(frozen=True)
class Config:
    sizes: tuple[int, ...] = (1, 2)
    pairs: tuple[Pair, ...] = (Pair(1),)
    both: tuple[int, float] = (1, 2)
    inner: Inner = Inner(3)
    width: int = 8
    blocks: int = 2
    share: float = 0.5
    limit: int | None = None
    on: bool = False

    def __post_init__(self) -> None:
        declared.check(self, positive=("width",), parts=("blocks",))


@pytest.mark.parametrize(
    "right",
    [
        {"sizes": ()},
        {"pairs": (Pair(0, 0.5), Pair(declared.MOST))},
        {"share": 1},
        {"share": -0.5},
        {"limit": 0},
        {"blocks": declared.MOST_PARTS},
    ],
)
def test_values_of_the_types(right: dict[str, Any]) -> None:
    replace(Config(), **right)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": [1, 2]},
        {"sizes": (1, "2")},
        {"sizes": (1,) * (declared.MOST_PARTS + 1)},
        {"pairs": ((1, None),)},
        {"pairs": (Pair(1.0),)},  # type: ignore[arg-type]
        {"both": (1,)},
        {"both": (1, None)},
        {"inner": {"count": 3}},
        {"width": 0},
        {"width": -1},
        {"width": True},
        {"width": 8.0},
        {"width": declared.MOST + 1},
        {"blocks": declared.MOST_PARTS + 1},
        {"share": float("nan")},
        {"share": float("inf")},
        {"share": True},
        {"limit": "1"},
        {"on": 1},
    ],
)
def test_other_values(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name} cannot be "):
        replace(Config(), **wrong)
