from __future__ import annotations

import pytest
import torch

from vqcodec.entropy.wavefront import Grid, steps
from vqcodec.spec import cone
from vqcodec.spec.cone import step_of

SHAPES = [(1, 1), (1, 7), (7, 1), (3, 5), (6, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_a_permutation_in_order(shape: tuple[int, int]) -> None:
    height, width = shape
    order = steps(height, width)
    assert torch.cat(order).sort().values.tolist() == list(range(height * width))
    numbers = [torch.tensor(step_of(height, width))[step].unique().tolist() for step in order]
    assert all(len(number) == 1 for number in numbers)
    assert numbers == sorted(numbers)
    for step in order:
        assert step.tolist() == sorted(step.tolist())


def test_steps_of_a_square_map() -> None:
    assert len(steps(64, 64)) == 190


@pytest.mark.parametrize("taps", [cone.CONE3, cone.CONE5])
def test_cone_taps_land_in_earlier_steps(taps: tuple[tuple[int, int], ...]) -> None:
    number = torch.tensor(step_of(9, 9)).view(9, 9)
    for dy, dx in taps:
        if (dy, dx) != (0, 0):
            assert number[4 + dy, 4 + dx] < number[4, 4]


def test_only_the_first_convolution_excludes_the_position_itself() -> None:
    assert (0, 0) not in cone.CONE5
    assert (0, 0) in cone.CONE3


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
