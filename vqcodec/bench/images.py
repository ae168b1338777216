"""The images that are measured. Importing this loads no torch, as `cost`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqcodec import image
from vqcodec.errors import CodecError
from vqcodec.tiling import crop

Pixels = npt.NDArray[np.uint8]


def found_images(paths: Sequence[Path]) -> list[Path]:
    """Image files, and those in folders, in the order of their names.

    Raises:
        CodecError: no such file or folder, a folder without images, or two images of one name.
    """
    from vqcodec.photos import SUFFIXES  # loads torch

    found: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
        if not inside or not all(each.is_file() for each in inside):
            raise CodecError("holds no images; name image files or folders of them").in_file(path)
        found += inside
    stems = [path.stem for path in found]
    for path in found:
        if stems.count(path.stem) > 1:
            raise CodecError("has the name of another image; rename one of them").in_file(path)
    return found


@lru_cache(maxsize=1)
def picture(source: Path) -> Pixels:
    """The pixels of an image file as every codec gets them, alpha left out: uint8 [H, W, 3]."""
    return image.load(source).pixels


def middle(pixels: Pixels, side: int) -> Pixels:
    """The middle of uint8 [H, W, 3], `side` pixels at most each way."""
    top, left = (max(0, (size - side) // 2) for size in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def fill(pixels: Pixels, height: int, width: int) -> Pixels:
    """A picture and its mirror images beside and below it, as far as they are needed.

    Args:
        pixels: uint8 [h, w, 3].
        height: H.
        width: W.

    Returns:
        uint8 [H, W, 3].
    """
    below, right = max(0, height - pixels.shape[0]), max(0, width - pixels.shape[1])
    wide = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="symmetric")
    return crop(wide, height, width)
