"""The cone: which neighbours a causal filter sees, and the order of decoding that follows.

Every causal tap (dy, dx) has dy < 0 and dx <= -dy, or dy = 0 and dx < 0 (or dx = 0 over features
that leave the position itself out). The cone is closed under stacking, so everything a position
depends on has a smaller column + 2 * row, and all positions with the same one form a step that is
decoded at once.
"""

from __future__ import annotations

from functools import lru_cache

Taps = tuple[tuple[int, int], ...]
"""(dy, dx) offsets that a filter sees."""

CONE3: Taps = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0))
CONE5: Taps = (
    *((-2, dx) for dx in range(-2, 3)),
    *((-1, dx) for dx in range(-2, 2)),
    *((0, dx) for dx in range(-2, 0)),
)
FULL3: Taps = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
POINT: Taps = ((0, 0),)


def step_of(height: int, width: int) -> list[int]:
    """The step of every position, in raster order: column + 2 * row."""
    return [column + 2 * row for row in range(height) for column in range(width)]


@lru_cache(maxsize=32)
def steps(height: int, width: int) -> tuple[tuple[int, ...], ...]:
    """Raster positions of each step, ascending; together a permutation of all positions."""
    found: dict[int, list[int]] = {}
    for position, step in enumerate(step_of(height, width)):
        found.setdefault(step, []).append(position)
    return tuple(tuple(found[step]) for step in sorted(found))
