from __future__ import annotations

import numpy as np
import pytest

from vqcodec.spec import cone
from vqcodec.spec.cone import step_of, steps


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 5), (6, 4)])
def test_steps_are_a_permutation_in_order(shape: tuple[int, int]) -> None:
    order = steps(*shape)
    numbers = step_of(*shape)
    assert sorted(position for step in order for position in step) == list(range(len(numbers)))
    of_each = [{numbers[position] for position in step} for step in order]
    assert all(len(number) == 1 for number in of_each)
    assert [*map(min, of_each)] == sorted(map(min, of_each))
    assert all(list(step) == sorted(step) for step in order)


def test_steps_of_a_square_map() -> None:
    assert len(steps(64, 64)) == 190


@pytest.mark.parametrize("taps", [cone.CONE3, cone.CONE5])
def test_cone_taps_land_in_earlier_steps(taps: tuple[tuple[int, int], ...]) -> None:
    number = np.reshape(step_of(9, 9), (9, 9))
    for dy, dx in taps:
        if (dy, dx) != (0, 0):
            assert number[4 + dy, 4 + dx] < number[4, 4]


def test_only_the_first_convolution_excludes_the_position_itself() -> None:
    assert (0, 0) not in cone.CONE5
    assert (0, 0) in cone.CONE3
