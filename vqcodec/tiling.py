"""Integer geometry of tiles: padding, windows, halos, batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Window:
    """A rectangle of a plane, in pixels or in positions of a level.

    Attributes:
        top: First row.
        left: First column.
        height: Number of rows.
        width: Number of columns.
    """

    top: int
    left: int
    height: int
    width: int

    def __floordiv__(self, stride: int) -> Window:
        """The same rectangle in units `stride` times as large, which must divide it exactly."""
        sides = (self.top, self.left, self.height, self.width)
        assert all(side % stride == 0 for side in sides), f"{self} is not divisible by {stride}"
        return Window(*(side // stride for side in sides))

    def within(self, around: Window) -> Window:
        """The same rectangle in the coordinates of one around it."""
        return Window(self.top - around.top, self.left - around.left, self.height, self.width)

    def __and__(self, other: Window) -> Window | None:
        """What lies in both, if anything does."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.height, other.top + other.height)
        right = min(self.left + self.width, other.left + other.width)
        if top >= bottom or left >= right:
            return None
        return Window(top, left, bottom - top, right - left)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in an array [H,W,...]."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


def padded(size: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `size`."""
    return -(-size // multiple) * multiple


def pad(pixels: npt.NDArray[np.uint8], multiple: int) -> npt.NDArray[np.uint8]:
    """Repeats the last row and column until both sides are multiples of `multiple`.

    Args:
        pixels: uint8 [H,W,3], H and W at least 1.
        multiple: Divisor of both sides of the result.

    Returns:
        uint8 [H',W',3], `pixels` itself when there is nothing to add.
    """
    height, width = pixels.shape[:2]
    below, right = padded(height, multiple) - height, padded(width, multiple) - width
    if not below and not right:
        return pixels
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")


def cut_out(pixels: npt.NDArray[np.uint8], window: Window) -> npt.NDArray[np.uint8]:
    """A window of what `pad` gives, without padding all of it.

    Args:
        pixels: uint8 [H,W,3].
        window: It begins within them.

    Returns:
        uint8 [height,width,3] of the window, a view where there is nothing to add.
    """
    there = pixels[window.slices]
    below, right = window.height - there.shape[0], window.width - there.shape[1]
    if not below and not right:
        return there
    return np.pad(there, ((0, below), (0, right), (0, 0)), mode="edge")


def crop(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Undoes `pad`.

    Args:
        pixels: uint8 [H',W',3].
        height: H, in 1..H'.
        width: W, in 1..W'.

    Returns:
        uint8 [H,W,3], a view.
    """
    return pixels[:height, :width]


def split(height: int, width: int, tile: int) -> list[Window]:
    """Cuts a plane into tiles.

    Args:
        height: Rows of the plane, a multiple of the coarsest stride.
        width: Columns of the plane, a multiple of the coarsest stride.
        tile: Side of a tile, a multiple of the coarsest stride.

    Returns:
        The tiles in raster order, smaller at the bottom and right edges, each position in one.
    """
    return [
        Window(top, left, min(tile, height - top), min(tile, width - left))
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]


def grow(window: Window, halo: int, height: int, width: int) -> Window:
    """Widens a window by `halo` on every side, as far as the plane [height,width] reaches."""
    top, left = max(window.top - halo, 0), max(window.left - halo, 0)
    bottom = min(window.top + window.height + halo, height)
    right = min(window.left + window.width + halo, width)
    return Window(top, left, bottom - top, right - left)


def widened(window: Window, multiple: int) -> Window:
    """The least window around one whose sides and place are multiples of `multiple`."""
    top, left = window.top // multiple * multiple, window.left // multiple * multiple
    bottom = padded(window.top + window.height, multiple)
    right = padded(window.left + window.width, multiple)
    return Window(top, left, bottom - top, right - left)


def batches(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    """Groups windows of equal shape.

    Args:
        windows: Windows of any shapes.
        size: Most windows a batch may hold, at least 1.

    Yields:
        Lists of 1 to `size` windows of one shape, in the order given; shapes in the order in which
        they first occur.
    """
    by_shape: dict[tuple[int, int], list[Window]] = {}
    for window in windows:
        by_shape.setdefault((window.height, window.width), []).append(window)
    for same_shape in by_shape.values():
        for first in range(0, len(same_shape), size):
            yield same_shape[first : first + size]
