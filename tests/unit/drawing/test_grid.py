from __future__ import annotations

import numpy as np
import pytest

from vqcodec.drawing.grid import BORDER, grid, grid_size
from vqcodec.errors import ImageError
from vqcodec.image import Image


def plain(value: int) -> Image:
    return Image(np.full((5, 7, 3), value, np.uint8), grey=False)


def test_images_lie_row_by_row_between_borders() -> None:
    whole = grid([plain(value) for value in (10, 20, 30, 40, 50)], 2).pixels
    assert whole.shape == (*grid_size(5, 2, 5, 7), 3)
    down, right = 5 + BORDER, 7 + BORDER
    for n, value in enumerate((10, 20, 30, 40, 50, 255)):
        top, left = BORDER + n // 2 * down, BORDER + n % 2 * right
        assert (whole[top : top + 5, left : left + 7] == value).all()
        # What is around it is the border.
        assert (whole[top - BORDER : top, left : left + 7] == 255).all()
        assert (whole[top : top + 5, left - BORDER : left] == 255).all()
    assert (whole[-BORDER:] == 255).all()
    assert (whole[:, -BORDER:] == 255).all()


def test_columns_that_are_not_needed_take_no_room() -> None:
    assert grid([plain(1)], 10).pixels.shape == (5 + 2 * BORDER, 7 + 2 * BORDER, 3)


def test_grids_too_large_for_an_image() -> None:
    with pytest.raises(ImageError, match="in 100 columns is 40202 x 402002 pixels"):
        grid_size(100_000, 100, 400, 400)
    with pytest.raises(ImageError, match="ask for fewer"):
        grid_size(40_000, 1, 64, 64)
