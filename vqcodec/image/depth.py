"""Pictures of more than 8 bits a channel as 8 bits: integers scaled, floats tone-mapped.

Pillow has no mode for 16 bits in several channels and takes the upper byte of each. A second
reading that takes the bytes in the other order gives the lower ones, so nothing is lost.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from vqcodec.errors import ImageError
from vqcodec.image.strips import pictures, strips

_UPPER = {
    f"{channels};16{order}" for channels in ("RGB", "RGBA", "RGBX") for order in ("B", "L", "N")
}
_NATIVE_OTHER = "B" if sys.byteorder == "little" else "L"
_OTHER_ORDER = {"B": "L", "L": "B", "N": _NATIVE_OTHER}
# Grey with alpha, two bytes each: Pillow has these four bytes as RGBA.
_GREY_ALPHA, _FOUR_BYTES = "LA;16B", "RGBA"
_TYPICAL_DEPTHS = (8, 10, 12, 14)
MAX_SAMPLE = 65535

_MIDDLE_GREY = 0.18  # what the mean of the logarithms becomes
_BRIGHTEST = float(np.finfo(np.float32).max)
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def raw_mode(picture: PIL.Image.Image) -> str:
    """How the samples of a picture lie in its file, as Pillow names it; before it is loaded."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else None
    found = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return found if isinstance(found, str) else ""


def has_lower_bytes(mode: str) -> bool:
    """Whether a raw mode is of 16 bits in several channels, and `lower` can read what is left."""
    return mode in _UPPER or mode == _GREY_ALPHA


def is_deep(mode: str) -> bool:
    """Whether a raw mode is of 16 bits."""
    return ";16" in mode


def read_both_bytes(picture: PIL.Image.Image, again: PIL.Image.Image) -> npt.NDArray[np.uint16]:
    """All 16 bits of every sample.

    Args:
        picture: Of a raw mode that `has_lower_bytes`, not loaded yet. It is loaded here.
        again: The same, opened a second time. It is closed.

    Returns:
        uint16 [H,W,2 to 4].
    """
    mode = raw_mode(picture)
    if mode == _GREY_ALPHA:
        _set_raw_mode(picture, _FOUR_BYTES)
        picture.load()
        joined = np.empty((picture.height, picture.width, 2), np.uint16)
        for rows, strip in pictures(picture):
            joined[rows] = np.asarray(strip).view(">u2")
        return joined
    _set_raw_mode(again, mode[:-1] + _OTHER_ORDER[mode[-1]])
    again.load()
    joined = np.empty((again.height, again.width, len(again.getbands())), np.uint16)
    for rows, strip in pictures(again):
        joined[rows] = np.asarray(strip)
    again.close()  # before the other one takes as much memory
    picture.load()
    for rows, strip in pictures(picture):
        joined[rows] |= np.asarray(strip).astype(np.uint16) << 8
    return joined


def _set_raw_mode(picture: PIL.Image.Image, mode: str) -> None:
    tiles: list[Any] = picture.tile  # type: ignore[attr-defined]
    picture.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode)
        for tile in tiles
    ]


def scaled(deep: npt.NDArray[Any], most: int = MAX_SAMPLE) -> npt.NDArray[np.uint8]:
    """Integers of any shape, 0..most, as the nearest of 0..255."""
    values = np.empty(deep.shape, np.uint8)
    for rows in strips(len(deep), math.prod(deep.shape[1:])):
        values[rows] = (deep[rows].astype(np.uint32) * 255 + most // 2) // most
    return values


def likely_most(deep: npt.NDArray[Any]) -> int:
    """What stands for white in 16-bit samples whose file does not tell how many bits are in use."""
    largest = int(deep.max())
    return next((2**bits - 1 for bits in _TYPICAL_DEPTHS if largest < 2**bits), MAX_SAMPLE)


def tone_mapped(light: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Linear light as sRGB: the photographic operator, global, with the brightest point white.

    Args:
        light: Float [H,W] or [H,W,3], of any range; below 0 and what is no number is black.

    Returns:
        uint8 of the same shape.

    Source: Reinhard et al., Photographic Tone Reproduction for Digital Images (2002), equations 1
        and 4.
    """
    light = np.nan_to_num(light.astype(np.float64), posinf=_BRIGHTEST).clip(min=0)
    luminance = light if light.ndim == 2 else light @ _LUMINANCE
    bright = luminance[luminance > 0]
    if not bright.size:
        return np.zeros(light.shape, np.uint8)
    key = _MIDDLE_GREY / np.exp(np.log(bright).mean())
    white = key * luminance.max()
    gain = key * (1 + key * luminance / white**2) / (1 + key * luminance)
    mapped = np.clip(light * (gain if light.ndim == 2 else gain[:, :, np.newaxis]), 0, 1)
    curve = np.where(mapped <= 0.0031308, 12.92 * mapped, 1.055 * mapped ** (1 / 2.4) - 0.055)
    shown: npt.NDArray[np.uint8] = np.rint(255 * curve).astype(np.uint8)
    return shown


def check_range(deep: npt.NDArray[Any]) -> None:
    """Refuses integers that are no 16-bit samples.

    Raises:
        ImageError: they are not.
    """
    if deep.min() < 0 or deep.max() > MAX_SAMPLE:
        raise ImageError("has grey values outside 0..65535; convert it to 8 or 16 bits")
