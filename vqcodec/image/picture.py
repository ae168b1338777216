"""An image in memory: 8-bit RGB, and what belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import PIL.Image

from vqcodec import container, limits
from vqcodec.errors import ImageError
from vqcodec.image.strips import strips

MAX_SIDE: Final = container.MAX_SIDE
MAX_PIXELS: Final = container.MAX_PIXELS


@dataclass(frozen=True)
class Image:
    """An upright image in memory.

    Attributes:
        pixels: uint8 [H,W,3], RGB; the three are equal when `grey`.
        grey: Whether the image has one channel only.
        alpha: uint8 [H,W], 0 transparent to 255 opaque, or None.
        icc: Colour profile of the pixels, or None for sRGB.
        exif: EXIF block, prefix included, that says upright or nothing of orientation; or None.
        xmp: XMP packet, or None.
        iptc: IPTC in Photoshop's image resources (`8BIM...`), or None.
        texts: Keywords and texts; a comment without keyword has "Comment".
        left_out: What the picture it was read from has and this has not, in a few words each.
    """

    pixels: npt.NDArray[np.uint8]
    grey: bool = False
    alpha: npt.NDArray[np.uint8] | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def channels(self) -> npt.NDArray[np.uint8]:
        """The image as one array: uint8 [H,W] if grey, else [H,W,3]; with alpha [H,W,2 or 4]."""
        colours = luma(self.pixels) if self.grey else self.pixels
        if self.alpha is None:
            return colours
        return np.dstack([colours, self.alpha])

    def to_pil(self) -> PIL.Image.Image:
        """The image as Pillow has it: mode L, LA, RGB or RGBA, with profile, EXIF and XMP."""
        picture = PIL.Image.fromarray(np.ascontiguousarray(self.channels))
        metadata = {"icc_profile": self.icc, "exif": self.exif, "xmp": self.xmp}
        picture.info.update({name: each for name, each in metadata.items() if each is not None})
        return picture

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """`channels`, for numpy."""
        found = self.channels
        return found.astype(dtype or found.dtype, copy=bool(copy))

    def check(self) -> None:
        """Checks the types of all that there is, and the arrays' shapes.

        Raises:
            ImageError: They are not as documented, empty, or too large.
        """
        pixels, alpha = self.pixels, self.alpha
        if not _is_array(pixels) or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ImageError(f"pixels are {_kind(pixels)}; give uint8 [height, width, 3]")
        check_size(*pixels.shape[1::-1])
        if alpha is not None and (not _is_array(alpha) or alpha.shape != pixels.shape[:2]):
            raise ImageError(f"alpha is {_kind(alpha)}; give uint8 [height, width] of the pixels")
        for name in ("icc", "exif", "xmp", "iptc"):
            content = getattr(self, name)
            if not isinstance(content, bytes | None):
                raise ImageError(f"{name} is a {type(content).__name__}; give bytes or None")


def check_size(width: int, height: int) -> None:
    """Refuses sizes that no `.vqz` file has, and those above the limit of pixels.

    Raises:
        ImageError: it is one.
    """
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        reason = f"is {width} x {height}; the most is {MAX_PIXELS} pixels, {MAX_SIDE} a side"
        raise ImageError(f"{reason}, the least is 1 x 1: reduce it or cut it up")
    limits.check(width, height)


def check_shape(shape: Sequence[int]) -> None:
    """Refuses arrays that are no picture: [H,W] or [H,W,1 to 4] of sizes that `.vqz` files have.

    Raises:
        ImageError: it is none.
    """
    if len(shape) not in (2, 3) or not 1 <= (*shape, 1)[2] <= 4:
        reason = f"has samples of the shape {list(shape)}"
        raise ImageError(f"{reason}, not a picture's; convert it to PNG")
    check_size(shape[1], shape[0])


def luma(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The rounded mean of the channels: uint8 [H,W]."""
    mean = np.empty(pixels.shape[:2], np.uint8)
    for rows in strips(*pixels.shape[:2]):
        mean[rows] = (pixels[rows].sum(axis=2, dtype=np.uint16) + 1) // 3
    return mean


def replicated(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Grey values, uint8 [H,W], as three equal channels."""
    return np.repeat(values[:, :, np.newaxis], 3, axis=2)


def turned(stored: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """An array [H,W] or [H,W,C] as it is to be seen.

    Args:
        stored: As it lies in the file.
        orientation: EXIF's, 1 to 8; 5 to 8 swap height and width.
    """
    if orientation >= 5:
        stored = np.swapaxes(stored, 0, 1)
    if orientation in {3, 4, 7, 8}:
        stored = stored[::-1]
    if orientation in {2, 3, 6, 7}:
        stored = stored[:, ::-1]
    return np.ascontiguousarray(stored)


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"a {type(value).__name__}"
