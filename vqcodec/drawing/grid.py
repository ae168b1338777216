"""Many images in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqcodec.container import MAX_PIXELS, MAX_SIDE
from vqcodec.errors import ImageError
from vqcodec.image import Image

BORDER = 2
BACKGROUND = 255


def grid_size(count: int, columns: int, height: int, width: int) -> tuple[int, int]:
    """Sides of a grid: rows and columns of pixels.

    Args:
        count: How many images.
        columns: Images a row.
        height: Pixels of an image.
        width: Pixels of an image.

    Raises:
        ImageError: the grid would be too large for an image.
    """
    rows = -(-count // columns)
    sides = rows * (height + BORDER) + BORDER, min(columns, count) * (width + BORDER) + BORDER
    if max(sides) > MAX_SIDE or sides[0] * sides[1] > MAX_PIXELS:
        reason = f"a grid of {count} images in {columns} columns is {sides[1]} x {sides[0]} pixels"
        raise ImageError(f"{reason}, more than an image may have; ask for fewer")
    return sides


def grid(images: Sequence[Image], columns: int) -> Image:
    """Lays images out row by row, with thin borders.

    Args:
        images: One at least, all of one size.
        columns: Images a row, 1 or more.

    Raises:
        ImageError: the grid would be too large for an image.
    """
    height, width = images[0].pixels.shape[:2]
    sides = grid_size(len(images), columns, height, width)
    whole = np.full((*sides, 3), BACKGROUND, np.uint8)
    for n, image in enumerate(images):
        top = BORDER + n // columns * (height + BORDER)
        left = BORDER + n % columns * (width + BORDER)
        whole[top : top + height, left : left + width] = image.pixels
    return Image(whole, grey=all(image.grey for image in images))
