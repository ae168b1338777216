"""Random crops of images, which worker processes decode ahead.

Everything random of a draw comes from its seed, so it does not matter which process draws it, nor
what was drawn before. Workers are spawned, not forked: a copy of a process with threads, as torch
has, may wait for ever for a lock that one of them held.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vqcodec.errors import CodecError
from vqcodec.photos import Photo, Photos, open_photos
from vqcodec.progress import Progress
from vqcodec.training.settings import Images

MOST_WORKERS = 4


class Draw(NamedTuple):
    """What to draw.

    Attributes:
        crops: How many.
        seed: The same one gives the same crops.
    """

    crops: int
    seed: Sequence[int]


class RecentPhotos:
    """Photos of one source or several, the last ones that were asked for kept decoded.

    Args:
        sources: The photos.
        most: Bytes of pixels to keep.
    """

    def __init__(self, sources: Sequence[Photos], most: int) -> None:
        self.sources = sources
        self.most = most
        self.kept: OrderedDict[tuple[int, int], Photo] = OrderedDict()
        self.bytes = 0

    def get(self, source: int, number: int) -> Photo:
        """A photo of a source, by their numbers."""
        key = source, number
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        photo = self.sources[source][number]
        self.kept[key] = photo
        self.bytes += photo.pixels.nbytes
        while self.bytes > self.most:
            _, oldest = self.kept.popitem(last=False)
            self.bytes -= oldest.pixels.nbytes
        return photo

    def forget(self) -> None:
        """Keeps none any longer."""
        self.kept.clear()
        self.bytes = 0


class CropSampler(Dataset[tuple[Tensor, list[str]] | CodecError]):
    """Random crops from several sources, each source drawn in proportion to its weight.

    Args:
        images: The sources, and what is taken of them.
        progress: Is told how many of their images' headers have been read.

    Raises:
        CodecError: a source cannot be used.
    """

    def __init__(self, images: Images, progress: Progress | None = None) -> None:
        self.crop = images.crop
        self.mirror = images.mirror
        self.shift = images.shift
        self.zoom = images.zoom
        self.workers = default_workers() if images.workers is None else images.workers
        self.sources = [
            open_photos(
                path,
                images.crop,
                images.limit,
                short_side=images.short_side,
                split=images.split,
                progress=progress,
            )
            for path, _ in images.sources
        ]
        weights = np.array([weight for _, weight in images.sources])
        self.weights = weights / weights.sum()
        self.recent = RecentPhotos(self.sources, (images.cache << 20) // max(1, self.workers))

    def counts(self) -> Counter[str]:
        """Images of each label."""
        return Counter(label for photos in self.sources for label in photos.labels)

    def draw(self, count: int, seed: Sequence[int]) -> tuple[Tensor, list[str]]:
        """Draws crops with the labels of their photographs; the same seed gives the same ones.

        Returns:
            uint8 [count, crop, crop, 3], and the labels.

        Raises:
            CodecError: an image is damaged.
        """
        rng = np.random.default_rng(seed)
        crops = np.empty((count, self.crop, self.crop, 3), np.uint8)
        labels = []
        for crop in crops:
            source = int(rng.choice(len(self.sources), p=self.weights))
            number = int(rng.integers(len(self.sources[source])))
            pixels, label = self.recent.get(source, number)
            side = self.crop
            if self.zoom > 1:
                side = round(self.crop / rng.uniform(1, self.zoom))
            if self.shift:
                pixels = _bordered(pixels, self.shift, self.crop)
            top = rng.integers(pixels.shape[0] - side + 1)
            left = rng.integers(pixels.shape[1] - side + 1)
            part = pixels[top : top + side, left : left + side]
            crop[:] = part if side == self.crop else _enlarged(part, self.crop)
            if self.mirror and rng.random() < 0.5:
                crop[:] = crop[:, ::-1].copy()
            labels.append(label)
        return torch.from_numpy(crops), labels

    def __getitem__(self, draw: Draw) -> tuple[Tensor, list[str]] | CodecError:
        """What is drawn, or why it cannot be: an error raised here would lose its file's name."""
        try:
            return self.draw(*draw)
        except CodecError as error:
            return error

    def __getstate__(self) -> dict[str, Any]:
        """What a worker gets: the images that this process has decoded stay here."""
        recent = RecentPhotos(self.sources, self.recent.most)
        return {**self.__dict__, "recent": recent}

    def batches(self, draws: Iterable[Draw]) -> Generator[tuple[Tensor, list[str]], None, None]:
        """What `draw` gives of each, in their order, drawn ahead by the workers if there are any.

        Closing the generator, or dropping it, ends the workers.

        Raises:
            CodecError: an image is damaged.
        """
        if self.workers:
            self.recent.forget()
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=draws,
            num_workers=self.workers,
            multiprocessing_context="spawn" if self.workers else None,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else torch's own one would move on
        )
        for found in loader:
            if isinstance(found, CodecError):
                raise found
            yield found


def _bordered(pixels: npt.NDArray[np.uint8], border: int, crop: int) -> npt.NDArray[np.uint8]:
    """An image with mirrored borders, as far as crops cannot move by so much within it."""
    sides = [max(0, border - (side - crop) // 2) for side in pixels.shape[:2]]
    return np.pad(pixels, [*((side, side) for side in sides), (0, 0)], "reflect")


def _enlarged(pixels: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """A square image, scaled to a side."""
    scaled = PIL.Image.fromarray(np.ascontiguousarray(pixels)).resize(
        (side, side), PIL.Image.Resampling.BICUBIC
    )
    return np.asarray(scaled)


def default_workers() -> int:
    """Half of the cores this process may use, at most 4."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(MOST_WORKERS, cores // 2)


def _as_it_is(found: Any) -> Any:
    return found
