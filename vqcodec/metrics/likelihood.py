"""How likely a model's priors hold images to be, level by level, in bits and nats.

Source: Table 1 of Razavi et al. 2019, where train and validation values side by side show that
there is no overfitting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec.entropy.frequencies import code_lengths
from vqcodec.errors import CodecError
from vqcodec.metrics.photo_sets import Crops, batches
from vqcodec.photos import Photo
from vqcodec.progress import Progress
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.weights_file import Model, load


@dataclass(frozen=True)
class LevelLikelihood:
    """A level's part.

    Attributes:
        nll: Nats a symbol, the mean over positions and codebooks.
        bpp: Bits per pixel that the level's symbols take, coded ideally.
        mse: Mean squared error of the image restored from this and all coarser levels, over pixels
            and channels, in 8-bit units.
    """

    nll: float
    bpp: float
    mse: float


@dataclass(frozen=True)
class Likelihood:
    """What a model makes of a set of images.

    Attributes:
        images: How many.
        labelled: How many of them were of a class that the model knows.
        levels: Coarse to fine.
    """

    images: int
    labelled: int
    levels: tuple[LevelLikelihood, ...]

    @property
    def bpp(self) -> float:
        """Bits per pixel of all levels together."""
        return sum(level.bpp for level in self.levels)


@dataclass(frozen=True)
class Measured:
    """What `measure` finds.

    Attributes:
        model: The model.
        quality: Whose indices were measured.
        side: Of the crops, in pixels.
        splits: The likelihood of each split.
    """

    model: Model
    quality: int
    side: int
    splits: dict[str, Likelihood]


def labels_of(model: Model, photos: Sequence[Photo]) -> Tensor:
    """The priors' labels: the class named as the photo's folder, plus 1; 0 if there is none.

    Returns:
        int64 [N].
    """
    known = {name.key: n + 1 for n, name in enumerate(model.classes)}
    return torch.tensor([known.get(photo.label, 0) for photo in photos])


@torch.inference_mode()
def likelihood(
    model: Model,
    photos: Sequence[Photo],
    *,
    side: int,
    quality: int | None = None,
    progress: Progress | None = None,
) -> Likelihood:
    """Measures a model on images.

    Args:
        model: The model, with its integer priors as they are packaged.
        photos: The images, none smaller than the side; their middles are taken.
        side: Pixels; see `Crops`.
        quality: 1 to the model's qualities, or None for the middle.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: no images, or no such quality.
    """
    if not photos:
        raise CodecError("there are no images to measure")
    labels = labels_of(model, photos)
    bits, symbols, errors = np.zeros((3, len(model.strides)))
    pixel_count = 0
    chosen = model.checked_quality(quality) - 1
    for which, pixels in batches(model, photos, side):
        qualities = torch.full((len(pixels),), chosen, device=model.device)
        label = labels[which].to(model.device)
        indices, _ = model.autoencoder.quantize(pixels, qualities)
        for level, (prior, maps) in enumerate(zip(model.priors, indices, strict=True)):
            state = prior.start(indices[:level], qualities, label, *maps.shape[2:])
            frequencies = state.parallel(maps)
            bits[level] += float(code_lengths(frequencies, maps.flatten(2)).sum())
            symbols[level] += maps[:, : state.books].numel()
            restored = model.autoencoder.synthesize(indices[: level + 1], qualities)
            errors[level] += float((restored.double() - pixels).square().sum())
        pixel_count += pixels[..., 0].numel()
        if progress is not None:
            progress("likelihood", which.stop, len(photos))
    columns = (bits * math.log(2) / symbols, bits / pixel_count, errors / (3 * pixel_count))
    levels = tuple(LevelLikelihood(*row) for row in np.stack(columns, 1).tolist())
    return Likelihood(len(photos), int((labels > 0).sum()), levels)


def measure(
    crops: Crops,
    splits: Sequence[str],
    model: str | Path | None = None,
    *,
    quality: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Measured:
    """Measures a model on splits of a source.

    Args:
        crops: What to measure on; the split of its source does not count.
        splits: See `Source`.
        model: A model id or a weights file; None for the default model.
        quality: See `likelihood`.
        device: Where to run the networks.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: no such model or quality, or unusable images.
    """
    loaded = load(model or DEFAULT_MODEL, device)
    found = {}
    for split in splits:
        photos, side = replace(crops, source=replace(crops.source, split=split)).read(loaded)
        found[split] = likelihood(loaded, photos, side=side, quality=quality, progress=progress)
    return Measured(loaded, loaded.checked_quality(quality), side, found)
