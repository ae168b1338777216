"""Photographs of a source, each read and decoded when it is asked for.

A source is a folder or a tar archive of images, whose labels are the names of the folders they lie
in, or an `.npz` file with the arrays of MNIST: `x_train`, `y_train`, `x_test`, `y_test`.

Files of a folder and of a tar archive are read in place. A compressed archive cannot be entered at
any offset, so it is unpacked to a temporary file, which takes the room of the encoded images and
goes with the object that reads it. Of arrays the file's own bytes are in memory.
"""

from __future__ import annotations

import lzma
import math
import os
import shutil
import sys
import tarfile
import tempfile
import weakref
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, NamedTuple, cast
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from vqcodec.errors import CodecError, ImageError
from vqcodec.image import load, size_of
from vqcodec.progress import Progress

SUFFIXES = (".avif", ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLITS = ("all", "train", "validation")
VALIDATION_EVERY = 11  # the last of every eleven images of a label is kept for validation
HEADER_BYTES = 1 << 16  # they hold the size of nearly every image


class Photo(NamedTuple):
    """An image and what it shows.

    Attributes:
        pixels: uint8 [H, W, 3].
        label: Name of the folder it lies in, or the digit of an `.npz` file; "" where there is
            none. It never leads out of a folder.
    """

    pixels: npt.NDArray[np.uint8]
    label: str


class ImageFile(NamedTuple):
    """An image file where it lies.

    Attributes:
        name: As errors name it.
        label: See `Photo`.
        path: The file that holds its bytes, its own or an archive.
        offset: Where they begin there.
        size: How many they are.
    """

    name: str
    label: str
    path: Path
    offset: int
    size: int

    def read(self, most: int = sys.maxsize) -> bytes:
        """Its bytes, at most so many from the first.

        Raises:
            CodecError: they cannot be read.
        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.offset)
                return stream.read(min(self.size, most))
        except OSError as error:
            raise CodecError(f"cannot be read ({error.strerror})").in_file(self.name) from error

    def shorter_side(self) -> int:
        """In pixels, by its header.

        Raises:
            CodecError: it cannot be read, or is no image.
        """
        try:
            return min(size_of(self.read(HEADER_BYTES)))
        except ImageError:  # some kinds are recognized whole only, some have long metadata first
            pass
        try:
            return min(size_of(self.read()))
        except ImageError as error:
            raise error.in_file(self.name) from error

    def decode(self, short_side: int | None) -> Photo:
        """Its pixels, scaled down until the shorter side has so many.

        Raises:
            CodecError: it cannot be read or decoded.
        """
        try:
            return Photo(_scaled(load(self.read()).pixels, short_side), self.label)
        except CodecError as error:
            raise error.in_file(self.name) from error


class ImageFiles:
    """Photos in files, in the order of their names.

    Args:
        files: The image files.
        short_side: See `open_photos`.
        unpacked: What has to stay while they are read, if anything.
    """

    def __init__(
        self, files: list[ImageFile], short_side: int | None, unpacked: Unpacked | None = None
    ) -> None:
        self.files = files
        self.short_side = short_side
        self.unpacked = unpacked
        self.labels = [file.label for file in files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Photo:
        return self.files[number].decode(self.short_side)


class Arrays:
    """Photos of an `.npz` file.

    Args:
        images: uint8 [H, W] or [H, W, 3] each.
        labels: Of each.
        side: Smaller images are centred in squares of so many pixels.
    """

    def __init__(self, images: list[npt.NDArray[np.uint8]], labels: list[str], side: int) -> None:
        self.images = images
        self.labels = labels
        self.side = side

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Photo:
        image = self.images[number]
        if image.ndim == 2:
            image = image[..., None].repeat(3, -1)
        missing = [max(0, self.side - size) for size in image.shape[:2]]
        around = [(size // 2, size - size // 2) for size in missing]
        return Photo(np.pad(image, [*around, (0, 0)], "edge"), self.labels[number])


Photos = ImageFiles | Arrays
"""Photos by number, and their `labels`, which are there without reading any."""


class Unpacked:
    """A decompressed archive in a temporary file, which is deleted with this object."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        descriptor, name = tempfile.mkstemp(".tar", "vqcodec-")
        weakref.finalize(self, os.unlink, name)
        self.path = Path(name)
        decompressed = cast("IO[bytes]", archive.fileobj)
        decompressed.seek(0)
        with open(descriptor, "wb") as stream:
            shutil.copyfileobj(decompressed, stream)


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


def _of_split(files: Iterable[ImageFile], split: str) -> list[ImageFile]:
    """Those of the split, of files in the order of their names."""
    seen: Counter[str] = Counter()
    chosen = []
    for file in files:
        if in_split(seen[file.label], split):
            chosen.append(file)
        seen[file.label] += 1
    return chosen


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _in_folder(source: Path) -> list[ImageFile]:
    paths = {str(path): path for path in source.rglob("*") if _is_image(path.name)}
    return [
        ImageFile(name, _label(name), path, 0, path.stat().st_size)
        for name, path in sorted(paths.items())
        if path.is_file()
    ]


def _in_archive(archive: tarfile.TarFile, source: Path, path: Path) -> Iterator[ImageFile]:
    """Images of an uncompressed archive, which errors know as `source`."""
    members = [each for each in archive if _is_image(each.name) and not each.isdir()]
    for member in sorted(members, key=lambda each: each.name):
        name = f"{source}:{member.name}"
        content = archive.getmember(member.linkname) if member.islnk() else member
        if not content.isreg() or content.issparse():
            reason = "is a link, a device or sparse; unpack the archive and name its folder"
            raise CodecError(reason).in_file(name)
        yield ImageFile(name, _label(member.name), path, content.offset_data, content.size)


def _listed(source: Path) -> tuple[list[ImageFile], Unpacked | None]:
    """Images of a folder or an archive in the order of their names, and what they are read from."""
    try:
        if source.is_dir():
            return _in_folder(source), None
        if not (source.is_file() and tarfile.is_tarfile(source)):
            raise CodecError(f"{source}: neither a folder nor a tar archive of images")
        with tarfile.open(source) as archive:
            if isinstance(archive.fileobj, BufferedReader):
                return list(_in_archive(archive, source, source)), None
            unpacked = Unpacked(archive)
        with tarfile.open(unpacked.path) as archive:
            return list(_in_archive(archive, source, unpacked.path)), unpacked
    except (OSError, EOFError, KeyError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        reason = f"cannot be read to its end ({error}); it may be damaged"
        raise CodecError(reason).in_file(source) from error


def _open_arrays(source: Path, side: int, split: str, limit: int | None) -> Arrays:
    parts = {"all": ("train", "test"), "train": ("train",), "validation": ("test",)}[split]
    pairs: list[tuple[npt.NDArray[np.uint8], str]] = []
    try:
        # Opened here, since numpy leaves a file open that turns out to be damaged.
        with source.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            for part in parts:
                images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
                if images.dtype != np.uint8 or (images.ndim, *images.shape[3:]) not in {
                    (3,),
                    (4, 3),
                }:
                    shape = list(images.shape)
                    raise ValueError(
                        f"x_{part} is {images.dtype} {shape}, not [N, H, W] or [.., 3]"
                    )
                names = [_folder_name(str(label)) for label in labels]
                pairs += zip(images, names, strict=True)
    except (
        *(OSError, EOFError, BadZipFile, zlib.error),
        *(AttributeError, IndexError, KeyError, TypeError, ValueError),
    ) as error:
        reason = f"no arrays x_train, y_train, x_test, y_test of uint8 images ({error})"
        raise CodecError(reason).in_file(source) from error
    if not pairs:
        raise CodecError("its arrays hold no images").in_file(source)
    found, shown = zip(*pairs[:limit], strict=True)
    return Arrays(list(found), list(shown), side)


def open_photos(
    source: Path,
    min_side: int,
    limit: int | None = None,
    *,
    short_side: int | None = None,
    split: str = "all",
    progress: Progress | None = None,
) -> Photos:
    """Finds the images of one source, and decodes none.

    Args:
        source: A folder (searched deeply), a tar archive, or an `.npz` file.
        min_side: Images with a shorter side than this, in pixels, by their headers, are left out,
            after the split; those of an `.npz` file are extended to it.
        limit: At most this many images, the first by name; the headers of the rest are not read.
        short_side: Larger images are scaled until their shorter side has so many pixels.
        split: Which of `SPLITS`: of every label's images, by name, every eleventh is kept for
            "validation"; an `.npz` file's validation images are its test images.
        progress: Is told how many headers have been read.

    Returns:
        In the order of their names. Reading one raises a CodecError that names its file if it is
        damaged.

    Raises:
        CodecError: no such source or split, a damaged archive or header, or no image of the split
            or large enough.
    """
    if split not in SPLITS:
        raise CodecError(f"unknown split {split!r}; there are: {', '.join(SPLITS)}")
    if source.suffix == ".npz":
        return _open_arrays(source, min_side, split, limit)
    listed, unpacked = _listed(source)
    files = _of_split(listed, split)
    if not files:
        kept = f"every {VALIDATION_EVERY}th of a label is kept for validation"
        of_split = "" if split == "all" else f" of the split {split!r} ({kept}); use another split"
        raise CodecError(f"{source}: holds no image{of_split}")
    if short_side is not None and short_side < min_side:
        files = []
    elif min_side > 1:
        files = _of_side(files, min_side, limit, progress)
    if not files:
        raise CodecError(f"{source}: no image with both sides of at least {min_side} pixels")
    return ImageFiles(files[:limit], short_side, unpacked)


def _of_side(
    files: list[ImageFile], min_side: int, limit: int | None, progress: Progress | None
) -> list[ImageFile]:
    kept: list[ImageFile] = []
    for done, file in enumerate(files, 1):
        if file.shorter_side() >= min_side:
            kept.append(file)
        if progress is not None:
            progress("reading sizes", done, len(files))
        if len(kept) == limit:
            break
    return kept


def read_photos(
    source: Path,
    min_side: int,
    limit: int | None = None,
    *,
    short_side: int | None = None,
    split: str = "all",
) -> list[Photo]:
    """Decodes all images of one source; see `open_photos`.

    Raises:
        CodecError: as of `open_photos`, or an undecodable image.
    """
    photos = open_photos(source, min_side, limit, short_side=short_side, split=split)
    return [photos[number] for number in range(len(photos))]


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
