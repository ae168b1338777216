"""A piece of an image: a region of it, at its size or smaller.

Plain integers, so that what an opened file will give is known before anything is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

from vqcodec.container import Header
from vqcodec.errors import CodecError
from vqcodec.tiling import Window

Region = tuple[int, int, int, int]
"""x, y, width and height in pixels, x and y from the top left corner."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge."""


@dataclass(frozen=True)
class Piece:
    """What is wanted of an image.

    Attributes:
        window: The region, in pixels.
        size: Width and height to give it at, at most those of the region.
    """

    window: Window
    size: tuple[int, int]

    @classmethod
    def of(cls, header: Header, region: Region | None = None, max_side: int | None = None) -> Piece:
        """A region of a file's image, and how large it may be.

        Args:
            header: Of the file.
            region: Which; None for all of the image.
            max_side: The most pixels a side, which keep their ratio; None for no limit.

        Raises:
            CodecError: there is no such region or size.
        """
        try:
            everything = (0, 0, header.width, header.height)
            x, y, width, height = map(index, everything if region is None else region)
            max_side = None if max_side is None else index(max_side)
        except (TypeError, ValueError) as error:
            reason = f"the region {region} or the side {max_side} is not of whole numbers"
            raise CodecError(f"{reason}; give x, y, width and height in pixels") from error
        inside = 0 <= x < x + width <= header.width and 0 <= y < y + height <= header.height
        if not inside:
            reason = f"there is no region {x},{y},{width},{height}"
            raise CodecError(f"{reason}; the image is {header.width} x {header.height}")
        if max_side is not None and max_side < 1:
            raise CodecError(f"sides cannot be {max_side} pixels; give 1 or more")
        return cls(Window(y, x, height, width), fitted((width, height), max_side))

    @property
    def exact(self) -> bool:
        """Whether it is wanted as large as it is."""
        return self.size == (self.window.width, self.window.height)

    def computed(self, header: Header, alpha: bool) -> tuple[int, int]:
        """Width and height of what is about to be decoded, as far as memory follows it.

        Args:
            header: Of the file.
            alpha: Whether it has alpha, which like lossless files is decoded whole.
        """
        if header.lossless or alpha:
            return header.width, header.height
        return -(-self.window.width // self.reduction), -(-self.window.height // self.reduction)

    @property
    def pixels(self) -> int:
        """How many pixels are about to be computed."""
        return max(1, self.window.height * self.window.width // self.reduction**2)

    @property
    def reduction(self) -> int:
        """The largest power of two by which the region may be reduced first.

        Sides divided by it, rounded up, are no smaller than those of `size`.
        """
        sides = self.window.width, self.window.height
        factor = 1
        while 2 * factor <= max(sides) and all(
            -(-side // (2 * factor)) >= wanted
            for side, wanted in zip(sides, self.size, strict=True)
        ):
            factor *= 2
        return factor

    def box(self, around: Window, factor: int) -> Box:
        """Where the region lies in the means of squares of a window around it.

        Args:
            around: The window, in pixels.
            factor: Side of the squares.
        """
        own = self.window.within(around)
        edges = (own.left, own.top, own.left + own.width, own.top + own.height)
        left, top, right, bottom = (edge / factor for edge in edges)
        return left, top, right, bottom

    def levels(self, strides: Sequence[int]) -> int:
        """How many of a model's levels are seen at this size, coarsest first.

        What a level adds lies within the squares of its stride, and little of it is left in means
        of squares as large.

        Args:
            strides: Pixels per position of every level.
        """
        return max(1, sum(stride > self.reduction for stride in strides))


def fitted(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """The largest width and height of nearly the same ratio with sides of at most so many pixels.

    Args:
        size: Width and height, which are never enlarged.
        max_side: The most pixels a side, 1 at least; None for no limit.
    """
    longest = max(size)
    if max_side is None or longest <= max_side:
        return size
    width, height = (max(1, round(side * max_side / longest)) for side in size)
    return width, height
