from __future__ import annotations

import pytest
import torch

from vqcodec.entropy.wavefront import Grid, steps
from vqcodec.spec import cone

SHAPES = [(1, 1), (1, 7), (7, 1), (3, 5), (6, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_the_specs(shape: tuple[int, int]) -> None:
    assert [tuple(step.tolist()) for step in steps(*shape)] == list(cone.steps(*shape))


@pytest.mark.parametrize("taps", [cone.CONE3, cone.CONE5, cone.FULL3])
@pytest.mark.parametrize("shape", SHAPES)
def test_grid_finds_neighbours_and_zeros_beyond_the_edges(
    shape: tuple[int, int], taps: tuple[tuple[int, int], ...]
) -> None:
    height, width = shape
    count = 3
    grid = Grid(count, height, width, taps)
    places = grid.places(torch.arange(height * width))
    assert len(places.unique()) == len(places) == count * height * width
    values = torch.zeros(grid.cells, dtype=torch.int64)
    values[places] = torch.arange(1, len(places) + 1)
    cells = places[:, None] + grid.offsets(taps)
    assert cells.min() >= 0
    assert cells.max() < grid.cells
    found = values[cells].view(count, height, width, len(taps))
    maps = torch.arange(1, len(places) + 1).view(count, height, width)
    for n, (dy, dx) in enumerate(taps):
        expected = torch.zeros(count, height + 4, width + 4, dtype=torch.int64)
        expected[:, 2 - dy : 2 - dy + height, 2 - dx : 2 - dx + width] = maps
        assert torch.equal(found[..., n], expected[:, 2:-2, 2:-2])
