"""What a model's autoencoder restores of images, for FID* and for scores after reconstruction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vqcodec.files import check_writable, class_folder, make_folder, write_atomically
from vqcodec.image import Image, dump
from vqcodec.metrics.photo_sets import Crops, batches
from vqcodec.photos import Photo
from vqcodec.progress import Progress
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.weights_file import Model, load


@torch.inference_mode()
def reconstruct(
    model: Model,
    photos: Sequence[Photo],
    *,
    side: int,
    quality: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """What the autoencoder restores of images, one after the other.

    Args:
        model: The model; only its autoencoder is used.
        photos: The images, none smaller than the side; their middles are taken.
        side: Pixels; see `Crops`.
        quality: 1 to the model's qualities, or None for the middle.
        progress: Called with (stage, done, total).

    Yields:
        uint8 [side, side, 3].

    Raises:
        CodecError: no such quality.
    """
    chosen = model.checked_quality(quality) - 1
    for which, pixels in batches(model, photos, side):
        qualities = torch.full((len(pixels),), chosen, device=model.device)
        indices, _ = model.autoencoder.quantize(pixels, qualities)
        yield from model.autoencoder.synthesize(indices, qualities).cpu()
        if progress is not None:
            progress("reconstruct", which.stop, len(photos))


def write_reconstructions(
    crops: Crops,
    target: Path,
    *,
    model: str | Path | None = None,
    quality: int | None = None,
    device: str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> int:
    """Writes what a model's autoencoder restores as PNG files, in one folder a class.

    Args:
        crops: Of which images.
        target: Folder that takes the reconstructions.
        model: A model id or a weights file; None for the default model.
        quality: See `reconstruct`.
        device: Where to run the networks.
        force: Whether to replace existing files.
        progress: Called with (stage, done, total).

    Returns:
        How many there are.

    Raises:
        CodecError: no such model or quality, unusable images, or files that cannot be written.
    """
    loaded = load(model or DEFAULT_MODEL, device)
    photos, side = crops.read(loaded)
    places = [class_folder(target, each.label) / f"{n:06d}.png" for n, each in enumerate(photos)]
    for place in places:
        make_folder(place.parent)
        check_writable(place, force=force)
    found = reconstruct(loaded, photos, side=side, quality=quality, progress=progress)
    for place, restored in zip(places, found, strict=True):
        write_atomically(place, dump(Image(restored.numpy(), grey=False), "PNG"), force=force)
    return len(photos)
