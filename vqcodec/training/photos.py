"""Photographs in memory, and random crops of them."""

from __future__ import annotations

import math
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.image import load

SUFFIXES = (".avif", ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def _members(source: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the image files of a folder or a tar archive, sorted by name."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield str(path), path.read_bytes()
    elif source.is_file() and tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in sorted(archive.getmembers(), key=lambda item: item.name):
                stream = archive.extractfile(member)
                if stream is not None and member.name.lower().endswith(SUFFIXES):
                    yield f"{source}:{member.name}", stream.read()
    else:
        raise CodecError(f"{source}: neither a folder nor a tar archive of images")


def read_photos(source: Path, min_side: int, limit: int | None = None) -> list[np.ndarray]:
    """Decodes the images of one source.

    Args:
        source: A folder (searched deeply) or a tar archive.
        min_side: Images with a shorter side than this, in pixels, are left out.
        limit: At most this many images.

    Returns:
        uint8 [H, W, 3] each, in the order of their names.

    Raises:
        CodecError: no such source, an undecodable image, or none large enough.
    """
    photos: list[np.ndarray] = []
    for name, data in _members(source):
        try:
            photo = load(data).pixels
        except CodecError as error:
            raise error.in_file(name) from error
        if min(photo.shape[:2]) >= min_side:
            photos.append(photo)
        if len(photos) == limit:
            break
    if not photos:
        raise CodecError(f"{source}: no image with both sides of at least {min_side} pixels")
    return photos


class CropSampler:
    """Random crops from several sources, each source drawn in proportion to its weight.

    Args:
        sources: Folders or archives, each with its weight.
        crop: Side of a crop, in pixels.
        limit: At most this many images of each source.
    """

    def __init__(
        self, sources: Sequence[tuple[Path, float]], crop: int, limit: int | None = None
    ) -> None:
        self.crop = crop
        self.sources = [read_photos(path, crop, limit) for path, _ in sources]
        weights = np.array([weight for _, weight in sources])
        self.weights = weights / weights.sum()

    def draw(self, count: int, seed: Sequence[int]) -> Tensor:
        """Draws crops, mirrored at random; the same seed gives the same crops.

        Returns:
            uint8 [count, crop, crop, 3].
        """
        rng = np.random.default_rng(seed)
        crops = np.empty((count, self.crop, self.crop, 3), np.uint8)
        for crop in crops:
            photos = self.sources[rng.choice(len(self.sources), p=self.weights)]
            photo = photos[rng.integers(len(photos))]
            top = rng.integers(photo.shape[0] - self.crop + 1)
            left = rng.integers(photo.shape[1] - self.crop + 1)
            crop[:] = photo[top : top + self.crop, left : left + self.crop]
            if rng.random() < 0.5:
                crop[:] = crop[:, ::-1].copy()
        return torch.from_numpy(crops)


def parse_source(text: str) -> tuple[Path, float]:
    """`PATH` or `PATH=WEIGHT` to (path, weight)."""
    path, equals, weight = text.rpartition("=")
    if not equals:
        return Path(text), 1.0
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise CodecError(f"{text}: the weight after = is not a number above 0")
    return Path(path), value
