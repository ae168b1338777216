"""Images to judge, as tensors of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.photos import Photo, read_photos


def read(source: Path, *, side: int | None = None, split: str = "all") -> list[Photo]:
    """The images of a source.

    Args:
        source: A folder, a tar archive, or an `.npz` file; see `read_photos`.
        side: Larger images are scaled until their shorter side has so many pixels; those of an
            `.npz` file are extended to it, as the priors see them.
        split: See `read_photos`.

    Raises:
        CodecError: See `read_photos`.
    """
    extended = side if side is not None and source.suffix == ".npz" else 1
    return read_photos(source, extended, short_side=side, split=split)


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


@dataclass(frozen=True)
class Labelled:
    """Images of known classes.

    Attributes:
        images: uint8 [N, side, side, 3].
        classes: int64 [N], numbers of labels.
        labels: Names of the classes.
        left_out: How many images were of other classes.
    """

    images: Tensor
    classes: Tensor
    labels: tuple[str, ...]
    left_out: int

    @classmethod
    def of(
        cls, photos: Sequence[Photo], side: int, labels: tuple[str, ...] | None = None
    ) -> Labelled:
        """Photos whose labels are among the given ones; None for all, sorted."""
        if labels is None:
            labels = tuple(sorted({photo.label for photo in photos}))
        number = {label: n for n, label in enumerate(labels)}
        known = [photo for photo in photos if photo.label in number]
        classes = torch.tensor([number[photo.label] for photo in known], dtype=torch.int64)
        return cls(squares(known, side), classes, labels, len(photos) - len(known))


def check_apart(one: Path, one_split: str, other: Path, other_split: str) -> None:
    """Checks that two sets of images do not overlap by a choice of splits.

    Raises:
        CodecError: they are of one source, and not its train and its validation images.
    """
    splits = {one_split, other_split}
    if one.resolve() == other.resolve() and splits != {"train", "validation"}:
        reason = "is trained on and tested on; give the splits train and validation"
        raise CodecError(reason).in_file(other)
