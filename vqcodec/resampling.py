"""A part of an array of pixels, at its size or smaller."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import PIL.Image

from vqcodec.piece import Box


def resampled(
    pixels: npt.NDArray[np.uint8], box: Box, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Cuts a part out and reduces it.

    Args:
        pixels: uint8 [H, W, 3] or [H, W].
        box: The part; its edges may run through pixels.
        size: Width and height of the result.

    Returns:
        uint8 [height, width, 3] or [height, width].
    """
    left, top, right, bottom = box
    at_size = (right - left, bottom - top) == size
    if at_size and left.is_integer() and top.is_integer():
        return np.ascontiguousarray(pixels[int(top) : int(bottom), int(left) : int(right)])
    picture = PIL.Image.fromarray(pixels)
    return np.array(picture.resize(size, PIL.Image.Resampling.LANCZOS, box, reducing_gap=3.0))
