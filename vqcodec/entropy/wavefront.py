"""The order of decoding, and where its positions lie in feature caches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from vqcodec.spec import cone


@lru_cache(maxsize=32)
def steps(height: int, width: int) -> tuple[Tensor, ...]:
    """Raster positions of each step, ascending: int64 [p] each; together a permutation."""
    return tuple(torch.tensor(step) for step in cone.steps(height, width))


class Grid:
    """Where the positions of a batch of equal maps lie in flat, zero-bordered feature caches.

    Args:
        count: Maps N.
        height: Rows H.
        width: Columns W.
        taps: The farthest-reaching (dy, dx) offsets that will be used.
    """

    def __init__(
        self, count: int, height: int, width: int, taps: Sequence[tuple[int, int]]
    ) -> None:
        self.count, self.height, self.width = count, height, width
        self.top = max(0, *(-dy for dy, _ in taps))
        bottom = max(0, *(dy for dy, _ in taps))
        self.side = max(abs(dx) for _, dx in taps)
        self.row_cells = width + 2 * self.side
        self.map_cells = (height + self.top + bottom) * self.row_cells
        self.cells = count * self.map_cells
        rows, columns = torch.arange(height), torch.arange(width)
        first = (rows + self.top)[:, None] * self.row_cells + (columns + self.side)[None, :]
        self.in_map = first.flatten()

    def places(self, positions: Tensor) -> Tensor:
        """Cells of raster positions [p] in every map: int64 [N * p], map by map."""
        starts = torch.arange(self.count, device=positions.device) * self.map_cells
        return (starts[:, None] + self.in_map.to(positions.device)[positions]).flatten()

    def offsets(self, taps: Sequence[tuple[int, int]]) -> Tensor:
        """Distance of each tap's cell from a position's: int64 [T]."""
        return torch.tensor([dy * self.row_cells + dx for dy, dx in taps])
