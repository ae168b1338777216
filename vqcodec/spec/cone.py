"""The cone: which neighbours a causal filter sees, and the order of decoding that follows.

Every causal tap (dy, dx) has dy < 0 and dx <= -dy, or dy = 0 and dx < 0 (or dx = 0 over features
that leave the position itself out). The cone is closed under stacking, so everything a position
depends on has a smaller column + 2 * row, and all positions with the same one form a step that is
decoded at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

CONE3 = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0))
CONE5 = (
    *((-2, dx) for dx in range(-2, 3)),
    *((-1, dx) for dx in range(-2, 2)),
    *((0, dx) for dx in range(-2, 0)),
)
FULL3 = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
POINT = ((0, 0),)


def step_of(height: int, width: int) -> Tensor:
    """Step of every position in raster order: int64 [H * W]."""
    rows, columns = torch.arange(height), torch.arange(width)
    return (columns[None, :] + 2 * rows[:, None]).flatten()
