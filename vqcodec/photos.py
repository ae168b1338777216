"""Photographs in memory, and random crops of them.

A source is a folder or a tar archive of images, whose labels are the names of the folders they lie
in, or an `.npz` file with the arrays of MNIST: `x_train`, `y_train`, `x_test`, `y_test`.
"""

from __future__ import annotations

import lzma
import math
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from itertools import starmap
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar
from zipfile import BadZipFile

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


_Entry = TypeVar("_Entry")


class Photo(NamedTuple):
    """An image and what it shows.

    Attributes:
        pixels: uint8 [H, W, 3].
        label: Name of the folder it lies in, or the digit of an `.npz` file; "" where there is
            none. It never leads out of a folder.
    """

    pixels: npt.NDArray[np.uint8]
    label: str


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


def _folder_name(path: str) -> str:
    """The last part of a path, which an archive may have from anyone, unless it leads upwards."""
    name = Path(path).name
    return "" if name == ".." else name


def _label(name: str) -> str:
    return _folder_name(str(Path(name).parent))


def _chosen(entries: Iterable[tuple[str, _Entry]], split: str) -> list[tuple[str, _Entry]]:
    """Those of (name, entry) that are images and of the split, in the order of their names."""
    seen: Counter[str] = Counter()
    chosen = []
    for name, entry in sorted(entries, key=itemgetter(0)):
        if name.lower().endswith(SUFFIXES):
            label = _label(name)
            if in_split(seen[label], split):
                chosen.append((name, entry))
            seen[label] += 1
    return chosen


def _decode(name: str, data: bytes, short_side: int | None) -> npt.NDArray[np.uint8]:
    try:
        return _scaled(load(data).pixels, short_side)
    except CodecError as error:
        raise error.in_file(name) from error


def _read_folder(source: Path, short_side: int | None, split: str) -> Iterator[Photo]:
    files = [(str(path), path) for path in source.rglob("*") if path.is_file()]
    for name, path in _chosen(files, split):
        yield Photo(_decode(name, path.read_bytes(), short_side), _label(name))


def _read_archive(source: Path, short_side: int | None, split: str) -> Iterator[Photo]:
    with tarfile.open(source) as archive:
        chosen = _chosen([(each.name, each) for each in archive if not each.isdir()], split)

        def decoded(name: str, member: tarfile.TarInfo) -> Photo:
            stream = archive.extractfile(member)
            if stream is None:
                raise CodecError("is no file").in_file(f"{source}:{name}")
            photo = _decode(f"{source}:{name}", stream.read(), short_side)
            return Photo(photo, _label(name))

        if isinstance(archive.fileobj, BufferedReader):
            yield from starmap(decoded, chosen)
        else:  # going back in a compressed archive is slow
            in_place = sorted(chosen, key=lambda item: item[1].offset)
            found = [(name, decoded(name, member)) for name, member in in_place]
            yield from (photo for _, photo in sorted(found, key=itemgetter(0)))


def _read_images(source: Path, short_side: int | None, split: str) -> Iterator[Photo]:
    """Images of a folder or an archive, in the order of their names, each read when asked for."""
    try:
        if source.is_dir():
            yield from _read_folder(source, short_side, split)
        elif source.is_file() and tarfile.is_tarfile(source):
            yield from _read_archive(source, short_side, split)
        else:
            raise CodecError(f"{source}: neither a folder nor a tar archive of images")
    except (OSError, EOFError, KeyError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        reason = f"cannot be read to its end ({error}); it may be damaged"
        raise CodecError(reason).in_file(source) from error


def _read_arrays(source: Path, side: int, split: str) -> list[Photo]:
    """Images of an `.npz` file, centred in squares of at least `side` pixels."""
    parts = {"all": ("train", "test"), "train": ("train",), "validation": ("test",)}[split]
    photos = []
    try:
        # Opened here, since numpy leaves a file open that turns out to be damaged.
        with source.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            for part in parts:
                images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
                if images.ndim == 3:
                    images = images[..., None].repeat(3, -1)
                if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
                    shape = list(images.shape)
                    raise ValueError(
                        f"x_{part} is {images.dtype} {shape}, not [N, H, W] or [.., 3]"
                    )
                missing = [max(0, side - size) for size in images.shape[1:3]]
                around = [(size // 2, size - size // 2) for size in missing]
                images = np.pad(images, [(0, 0), *around, (0, 0)], "edge")
                photos += [
                    Photo(image, _folder_name(str(label)))
                    for image, label in zip(images, labels, strict=True)
                ]
    except (
        *(OSError, EOFError, BadZipFile, zlib.error),
        *(AttributeError, IndexError, KeyError, TypeError, ValueError),
    ) as error:
        reason = f"no arrays x_train, y_train, x_test, y_test of uint8 images ({error})"
        raise CodecError(reason).in_file(source) from error
    if not photos:
        raise CodecError("its arrays hold no images").in_file(source)
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
        min_side: Images with a shorter side than this, in pixels, are left out, after the split;
            those of an `.npz` file are extended to it.
        limit: At most this many images, the first by name; the rest is not decoded, unless it
            comes before them in a compressed archive.
        short_side: Larger images are scaled until their shorter side has so many pixels.
        split: Which of `SPLITS`: of every label's images, by name, every eleventh is kept for
            "validation"; an `.npz` file's validation images are its test images.

    Returns:
        In the order of their names.

    Raises:
        CodecError: no such source or split, a damaged archive, an undecodable image, or none of
            the split or large enough.
    """
    if split not in SPLITS:
        raise CodecError(f"unknown split {split!r}; there are: {', '.join(SPLITS)}")
    if source.suffix == ".npz":
        return _read_arrays(source, min_side, split)[:limit]
    photos = []
    any_size = False
    for photo in _read_images(source, short_side, split):
        any_size = True
        if min(photo.pixels.shape[:2]) >= min_side:
            photos.append(photo)
        if len(photos) == limit:
            break
    if not any_size:
        kept = f"every {VALIDATION_EVERY}th of a label is kept for validation"
        of_split = "" if split == "all" else f" of the split {split!r} ({kept}); use another split"
        raise CodecError(f"{source}: holds no image{of_split}")
    if not photos:
        raise CodecError(f"{source}: no image with both sides of at least {min_side} pixels")
    return photos


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
