"""What a model's priors and its autoencoder make of images: likelihoods and reconstructions.

Source: Table 1 of Razavi et al. 2019, where train and validation values side by side show that
there is no overfitting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqcodec.entropy.frequencies import code_lengths
from vqcodec.errors import CodecError
from vqcodec.metrics.pictures import centre
from vqcodec.photos import Photo
from vqcodec.progress import Progress
from vqcodec.weights_file import Model

DEFAULT_SIDE = 256
BATCH_PIXELS = 8 * 256 * 256


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


def labels_of(model: Model, photos: Sequence[Photo]) -> Tensor:
    """The priors' labels: the class named as the photo's folder, plus 1; 0 if there is none.

    Returns:
        int64 [N].
    """
    known = {name.key: n + 1 for n, name in enumerate(model.classes)}
    return torch.tensor([known.get(photo.label, 0) for photo in photos])


def crop_side(model: Model, side: int | None) -> int:
    """Pixels a side of the crops to measure a model on.

    Args:
        model: The model.
        side: What was asked for; None for what the priors were trained on, or 256.

    Raises:
        CodecError: the side does not fit the model's strides.
    """
    side = side or model.side or DEFAULT_SIDE
    stride = model.strides[0]
    if side % stride:
        raise CodecError(f"a crop of {model.model_id} is a multiple of {stride} pixels, not {side}")
    return side


def _batches(model: Model, photos: Sequence[Photo], side: int) -> Iterator[tuple[slice, Tensor]]:
    """Which photos, and their pixels uint8 [B, side, side, 3] on the model's device."""
    size = max(1, BATCH_PIXELS // side**2)
    for first in range(0, len(photos), size):
        which = slice(first, min(first + size, len(photos)))
        yield which, torch.stack([centre(photo, side) for photo in photos[which]]).to(model.device)


@torch.inference_mode()
def likelihood(
    model: Model,
    photos: Sequence[Photo],
    *,
    side: int,
    quality: int | None = None,
    classes: bool = True,
    progress: Progress | None = None,
) -> Likelihood:
    """Measures a model on images.

    Args:
        model: The model, with its integer priors as they are packaged.
        photos: The images, none smaller than the side; their middles are taken.
        side: Pixels; see `crop_side`.
        quality: 1 to the model's qualities, or None for the middle.
        classes: Tell the priors the photos' classes, if they know any.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: no images, or no such quality.
    """
    if not photos:
        raise CodecError("there are no images to measure")
    labels = labels_of(model, photos) if classes else torch.zeros(len(photos), dtype=torch.int64)
    level_count = len(model.strides)
    bits, symbols, errors = [0.0] * level_count, [0] * level_count, [0.0] * level_count
    pixel_count = 0
    chosen = model.checked_quality(quality) - 1
    for which, pixels in _batches(model, photos, side):
        qualities = torch.full((len(pixels),), chosen, device=model.device)
        label = labels[which].to(model.device)
        indices, _ = model.autoencoder.quantize(pixels, qualities)
        for level, (prior, maps) in enumerate(zip(model.priors, indices, strict=True)):
            state = prior.start(indices[:level], qualities, label, *maps.shape[2:])
            frequencies = prior.parallel(state, maps)
            bits[level] += float(code_lengths(frequencies, maps.flatten(2)).sum())
            symbols[level] += maps[:, : state.books].numel()
            restored = model.autoencoder.synthesize(indices[: level + 1], qualities)
            errors[level] += float((restored.double() - pixels).square().sum())
        pixel_count += pixels[..., 0].numel()
        if progress is not None:
            progress("likelihood", which.stop, len(photos))
    levels = tuple(
        LevelLikelihood(
            nll=bits[n] * math.log(2) / symbols[n],
            bpp=bits[n] / pixel_count,
            mse=errors[n] / (3 * pixel_count),
        )
        for n in range(level_count)
    )
    return Likelihood(len(photos), int((labels > 0).sum()), levels)


@torch.inference_mode()
def reconstruct(
    model: Model,
    photos: Sequence[Photo],
    *,
    side: int,
    quality: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Images and what the autoencoder restores of them, one after the other.

    Args:
        model: The model; only its autoencoder is used.
        photos: See `likelihood`.
        side: See `likelihood`.
        quality: See `likelihood`.
        progress: See `likelihood`.

    Yields:
        Number of the photo, its pixels and the restored ones, uint8 [side, side, 3] each.

    Raises:
        CodecError: no such quality.
    """
    chosen = model.checked_quality(quality) - 1
    for which, pixels in _batches(model, photos, side):
        qualities = torch.full((len(pixels),), chosen, device=model.device)
        indices, _ = model.autoencoder.quantize(pixels, qualities)
        restored = model.autoencoder.synthesize(indices, qualities)
        for n, (before, after) in enumerate(zip(pixels.cpu(), restored.cpu(), strict=True)):
            yield which.start + n, before, after
        if progress is not None:
            progress("reconstruct", which.stop, len(photos))
