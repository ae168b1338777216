"""Photographs in memory, and random crops of them.

A source is a folder or a tar archive of images, whose labels are the names of the folders they lie
in, or an `.npz` file with the arrays of MNIST: `x_train`, `y_train`, `x_test`, `y_test`.
"""

from __future__ import annotations

import math
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PillowImage
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.image import load

SUFFIXES = (".avif", ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLITS = ("all", "train", "validation")
VALIDATION_EVERY = 11  # the last of every eleven images of a label is kept for validation


class Photo(NamedTuple):
    """An image and what it shows.

    Attributes:
        pixels: uint8 [H, W, 3].
        label: Name of the folder it lies in, or the digit of an `.npz` file.
    """

    pixels: npt.NDArray[np.uint8]
    label: str


def _members(source: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name, label and bytes of the images of a folder or an archive, as they lie there."""
    if source.is_dir():
        for path in source.rglob("*"):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield str(path), path.parent.name, path.read_bytes()
    elif source.is_file() and tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in archive:  # in their order: going back in a compressed archive is slow
                stream = archive.extractfile(member)
                if stream is not None and member.name.lower().endswith(SUFFIXES):
                    label = Path(member.name).parent.name
                    yield f"{source}:{member.name}", label, stream.read()
    else:
        raise CodecError(f"{source}: neither a folder nor a tar archive of images")


def in_split(number: int, split: str) -> bool:
    """Whether image `number` of a label, by the order of names, belongs to a split."""
    if split == "all":
        return True
    return (number % VALIDATION_EVERY == VALIDATION_EVERY - 1) == (split == "validation")


def _scaled(pixels: npt.NDArray[np.uint8], short_side: int | None) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if short_side is None or min(height, width) <= short_side:
        return pixels
    scale = short_side / min(height, width)
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    return np.asarray(PillowImage.fromarray(pixels).resize(size, PillowImage.Resampling.LANCZOS))


def _read_arrays(source: Path, side: int, split: str) -> list[Photo]:
    """Images of an `.npz` file, centred in squares of at least `side` pixels."""
    parts = {"all": ("train", "test"), "train": ("train",), "validation": ("test",)}[split]
    photos = []
    try:
        with np.load(source, allow_pickle=False) as arrays:
            for part in parts:
                images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
                before = [max(0, side - size) // 2 for size in images.shape[1:3]]
                after = [
                    max(0, side - size) - n
                    for size, n in zip(images.shape[1:3], before, strict=True)
                ]
                around = [(0, 0), *zip(before, after, strict=True), *[(0, 0)] * (images.ndim - 3)]
                images = np.pad(images.astype(np.uint8, casting="safe"), around, "edge")
                if images.ndim == 3:
                    images = images[..., None].repeat(3, -1)
                photos += [
                    Photo(image, str(label)) for image, label in zip(images, labels, strict=True)
                ]
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        reason = f"no arrays x_train, y_train, x_test, y_test of uint8 images ({error})"
        raise CodecError(reason).in_file(source) from error
    return photos


def read_photos(
    source: Path,
    min_side: int,
    limit: int | None = None,
    *,
    short_side: int | None = None,
    split: str = "all",
) -> list[Photo]:
    """Decodes the images of one source.

    Args:
        source: A folder (searched deeply), a tar archive, or an `.npz` file.
        min_side: Images with a shorter side than this, in pixels, are left out; those of an `.npz`
            file are extended to it.
        limit: At most this many images.
        short_side: Larger images are scaled until their shorter side has so many pixels.
        split: Which of `SPLITS`: of every label's images, by name, every eleventh is kept for
            "validation"; an `.npz` file's validation images are its test images.

    Returns:
        In the order of their names.

    Raises:
        CodecError: no such source or split, an undecodable image, or none large enough.
    """
    if split not in SPLITS:
        raise CodecError(f"unknown split {split!r}; there are: {', '.join(SPLITS)}")
    if source.suffix == ".npz":
        return _read_arrays(source, min_side, split)[:limit]
    found: list[tuple[str, Photo]] = []
    for name, label, data in _members(source):
        try:
            pixels = _scaled(load(data).pixels, short_side)
        except CodecError as error:
            raise error.in_file(name) from error
        if min(pixels.shape[:2]) >= min_side:
            found.append((name, Photo(pixels, label)))
    seen: Counter[str] = Counter()
    photos = []
    for _, photo in sorted(found, key=lambda item: item[0]):
        if in_split(seen[photo.label], split):
            photos.append(photo)
        seen[photo.label] += 1
    if not photos:
        raise CodecError(f"{source}: no image with both sides of at least {min_side} pixels")
    return photos[:limit]


class CropSampler:
    """Random crops from several sources, each source drawn in proportion to its weight.

    Args:
        sources: Folders, archives or `.npz` files, each with its weight.
        crop: Side of a crop, in pixels.
        limit: At most this many images of each source.
        short_side: See `read_photos`.
        split: See `read_photos`.
        mirror: Mirror half of the crops.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Path, float]],
        crop: int,
        limit: int | None = None,
        *,
        short_side: int | None = None,
        split: str = "all",
        mirror: bool = True,
    ) -> None:
        self.crop = crop
        self.mirror = mirror
        self.sources = [
            read_photos(path, crop, limit, short_side=short_side, split=split)
            for path, _ in sources
        ]
        weights = np.array([weight for _, weight in sources])
        self.weights = weights / weights.sum()

    def counts(self) -> Counter[str]:
        """Images of each label."""
        return Counter(photo.label for photos in self.sources for photo in photos)

    def draw(self, count: int, seed: Sequence[int]) -> Tensor:
        """Draws crops; the same seed gives the same crops.

        Returns:
            uint8 [count, crop, crop, 3].
        """
        return self.draw_labelled(count, seed)[0]

    def draw_labelled(self, count: int, seed: Sequence[int]) -> tuple[Tensor, list[str]]:
        """Draws crops with the labels of their photographs; the same seed gives the same ones.

        Returns:
            uint8 [count, crop, crop, 3], and the labels.
        """
        rng = np.random.default_rng(seed)
        crops = np.empty((count, self.crop, self.crop, 3), np.uint8)
        labels = []
        for crop in crops:
            photos = self.sources[rng.choice(len(self.sources), p=self.weights)]
            pixels, label = photos[rng.integers(len(photos))]
            top = rng.integers(pixels.shape[0] - self.crop + 1)
            left = rng.integers(pixels.shape[1] - self.crop + 1)
            crop[:] = pixels[top : top + self.crop, left : left + self.crop]
            if self.mirror and rng.random() < 0.5:
                crop[:] = crop[:, ::-1].copy()
            labels.append(label)
        return torch.from_numpy(crops), labels


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
