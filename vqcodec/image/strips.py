"""Large pictures a few rows at a time, as what is computed of them takes more room than they do."""

from __future__ import annotations

from collections.abc import Iterator

import PIL.Image

PIXELS = 1 << 20
"""Of a strip, about."""


def strips(height: int, width: int) -> Iterator[slice]:
    """The rows of strips from the top down.

    Args:
        height: Of all.
        width: Of a row, in pixels.
    """
    rows = max(1, PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def pictures(picture: PIL.Image.Image) -> Iterator[tuple[slice, PIL.Image.Image]]:
    """The same of a picture, each with its rows; the palette and what else it says are kept."""
    for rows in strips(picture.height, picture.width):
        yield rows, picture.crop((0, rows.start, picture.width, rows.stop))
