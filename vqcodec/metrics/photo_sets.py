"""Sets of images to measure on, and their pixels as tensors of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.photos import Photo, read_photos
from vqcodec.weights_file import Model

DEFAULT_SIDE = 256
BATCH_PIXELS = 8 * 256 * 256


@dataclass(frozen=True)
class Source:
    """Where images are, and which of them to take.

    Attributes:
        path: A folder or a tar archive of images, or an `.npz` file; see `vqcodec.photos`.
        split: "all", "train" or "validation".
        limit: At most so many, evenly spread; None for all.
    """

    path: Path
    split: str = "all"
    limit: int | None = None

    def read(self, least: int = 1, short_side: int | None = None) -> list[Photo]:
        """The images.

        Args:
            least: Pixels; images with a shorter side are left out, those of an `.npz` file extended
                to it.
            short_side: Larger images are scaled until their shorter side has so many pixels.

        Raises:
            CodecError: there are none, or they cannot be read.
        """
        photos = read_photos(self.path, least, short_side=short_side, split=self.split)
        return spread(photos, self.limit)


@dataclass(frozen=True)
class Crops:
    """The middles of images, as a model is measured on them.

    Attributes:
        source: The images; those smaller than a crop are left out.
        side: Pixels; None for what the model's priors were trained on, or 256.
        short_side: Larger images are scaled until their shorter side has so many pixels.
    """

    source: Source
    side: int | None = None
    short_side: int | None = None

    def read(self, model: Model) -> tuple[list[Photo], int]:
        """The images, none smaller than a crop, and the side of a crop.

        Raises:
            CodecError: the side does not fit the model's strides, or the images are unusable.
        """
        side, stride = self.side or model.side or DEFAULT_SIDE, model.strides[0]
        if side % stride:
            reason = f"is a multiple of {stride} pixels, not {side}"
            raise CodecError(f"a crop of {model.model_id} {reason}")
        return self.source.read(side, self.short_side), side


def spread(photos: Sequence[Photo], count: int | None) -> list[Photo]:
    """At most `count` of the photos, evenly over their order, so that all labels have a share."""
    if count is None or count >= len(photos):
        return list(photos)
    return [photos[n * len(photos) // count] for n in range(count)]


def centre(photo: Photo, side: int) -> Tensor:
    """The middle of a photo of at least this side, not scaled: uint8 [side, side, 3]."""
    height, width = photo.pixels.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    return torch.from_numpy(photo.pixels[top : top + side, left : left + side].copy())


def square(photo: Photo, side: int | None = None) -> Tensor:
    """The largest square in the middle of a photo.

    Args:
        photo: Whose pixels to take.
        side: Pixels; another size is scaled to it (bicubic, antialiased). None for the photo's
            own shorter side.

    Returns:
        uint8 [side, side, 3].
    """
    pixels = centre(photo, min(photo.pixels.shape[:2]))
    if side is None or side == len(pixels):
        return pixels
    picture = PillowImage.fromarray(pixels.numpy())
    scaled = picture.resize((side, side), PillowImage.Resampling.BICUBIC)
    return torch.from_numpy(np.array(scaled))


def squares(photos: Sequence[Photo], side: int) -> Tensor:
    """The middle squares of photos, in one size: uint8 [N, side, side, 3]."""
    stacked = torch.empty(len(photos), side, side, 3, dtype=torch.uint8)
    for row, photo in zip(stacked, photos, strict=True):
        row.copy_(square(photo, side))
    return stacked


def batches(model: Model, photos: Sequence[Photo], side: int) -> Iterator[tuple[slice, Tensor]]:
    """Which photos, and their pixels uint8 [B, side, side, 3] on the model's device."""
    size = max(1, BATCH_PIXELS // side**2)
    for first in range(0, len(photos), size):
        which = slice(first, min(first + size, len(photos)))
        yield which, torch.stack([centre(photo, side) for photo in photos[which]]).to(model.device)
