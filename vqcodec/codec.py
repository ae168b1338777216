"""The corridor: an image to the bytes of a .vqz file, and back.

    image  ->  tiles  ->  indices  ->  frequencies  ->  payloads  ->  file

`compress` and `decompress` mirror each other; `vqcodec.tiles` holds one verb each way. Indices
come from the payloads and the image from the indices; nothing in decompression depends on how the
indices were found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vqcodec import container
from vqcodec.choosing import rate_control as target
from vqcodec.choosing.effort import DEFAULT_EFFORT, checked_effort
from vqcodec.container import Container, Header
from vqcodec.errors import CodecError
from vqcodec.image import Image, dump_alpha
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.progress import Progress
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.tiles import Stages, image_of, stages_for
from vqcodec.weights_file import Model, load

DEFAULT_TILE = 1024
DEFAULT_BATCH = 4


@dataclass(frozen=True)
class Compressed:
    """Result of `compress`.

    Attributes:
        data: The bytes of the .vqz file.
        ideal_bits: Per level, the code length that the priors promise, in bits.
        header: The file's header.
        rate_weight: How much more a bit cost in the choice of indices than was trained for the
            quality.
        psnr: Of what the file decodes to, in dB; None if it was not asked for.
        passes: How often the image was compressed to meet a target.
    """

    data: bytes
    ideal_bits: list[float]
    header: Header
    rate_weight: float = 1.0
    psnr: float | None = None
    passes: int = 1


def compress(
    image: Image,
    *,
    quality: int | None = None,
    bpp: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    effort: int = DEFAULT_EFFORT,
    model: str | Path | None = None,
    tile: int = DEFAULT_TILE,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Compressed:
    """Compresses an image.

    Of quality, bpp, size and psnr one at most is given. Meeting a target takes up to
    `target.MAX_PASSES` times as long.

    Args:
        image: Any size from 1x1 up.
        quality: 1 to the model's number of qualities, higher is better; None for the middle.
        bpp: Bits of the file per pixel, met within 2 %.
        size: Bytes of the file, never exceeded, and at least 98 % used.
        psnr: PSNR of the decoded image in dB, met within 0.1 dB.
        effort: 1 to 9, higher is slower, and better for the bytes it takes: at the same quality the
            image is nearer to the original, and the file may be larger or smaller. Only models with
            a rate model search; others, such as VQ-VAE, take 1 whatever is asked.
        model: A model id or a weights file; None for the default model.
        tile: Side of a tile in pixels, a power of two from 32 to 4096.
        batch: Tiles at a time.
        device: Where to run the networks; the file does not depend on how frequencies are found.
        progress: Called with (stage, done, total).

    Raises:
        ImageError: the arrays are no image, or too large.
        CodecError: no such model, quality or effort, a tile size that cannot be, or a target that
            is out of reach.
    """
    image.check()
    loaded = load(model or DEFAULT_MODEL, device)
    height, width = image.pixels.shape[:2]
    header = Header(
        width=width,
        height=height,
        grey=image.grey,
        model_id=loaded.model_id,
        weights_hash=bytes.fromhex(loaded.sha256)[: container.WEIGHTS_HASH_LENGTH],
        tile=_checked_tile(tile, loaded),
        quality=loaded.checked_quality(quality),
        levels=len(loaded.strides),
    )
    extras = _extras(image)
    container.check(header, extras)  # before the work, not after
    goal = _goal(quality, bpp, size, psnr, width * height, fixed=sum(map(len, extras.values())))
    effort = checked_effort(effort)

    def attempt(quality: int, rate_weight: float, effort: int) -> Compressed:
        stages = Stages(loaded, replace(header, quality=quality), batch, progress)
        judged = goal is not None and goal.of_psnr
        return _compress(stages, image, extras, effort, rate_weight, judged)

    if goal is None:
        return attempt(header.quality, target.rate_weight(header.quality, loaded.qualities), effort)
    result, passes = target.meet(goal, _lmbdas(loaded), effort, attempt)
    return replace(result, passes=passes)


def _compress(
    stages: Stages,
    image: Image,
    extras: dict[int, bytes],
    effort: int,
    rate_weight: float,
    judged: bool,
) -> Compressed:
    """One pass through the corridor.

    Args:
        stages: Of the image and a quality.
        image: The image.
        extras: Of the container.
        effort: Of the choice of indices.
        rate_weight: Of the choice of indices.
        judged: Whether to measure the PSNR of what the file decodes to.
    """
    indices = stages.analyze(image.pixels, effort, rate_weight)
    coded = [stages.encode(indices[: level + 1]) for level in range(stages.header.levels)]
    contents = Container(
        header=stages.header,
        extras=extras,
        sections=tuple(payloads for payloads, _ in coded),
        indices_crc=stages.indices_crc(indices),
        complete=True,
    )
    psnr: float | None = None
    if judged:
        restored = image_of(contents, stages.synthesize(indices))
        psnr = target.psnr(image.pixels, restored.pixels)
    ideal_bits = [bits for _, bits in coded]
    return Compressed(container.pack(contents), ideal_bits, stages.header, rate_weight, psnr)


def decompress(
    data: bytes,
    *,
    model: str | Path | None = None,
    levels: int | None = None,
    partial: bool = False,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Image:
    """Restores an image.

    Args:
        data: The bytes of a .vqz file.
        model: The weights file, or None for the packaged model that the file names.
        levels: Restore from so many levels only, coarsest first; None for all there are.
        partial: Accept a file that is cut short, and restore the complete levels it holds.
        batch: Tiles at a time.
        device: Where to run the networks.
        progress: Called with (stage, done, total).

    Raises:
        FormatError: the data is no undamaged .vqz file.
        ModelError: its model is missing or is another one.
    """
    contents = container.unpack(data, partial=partial)
    header = contents.header
    stages = stages_for(header, model, device, batch, progress)
    indices = _decode(stages, contents, _checked_levels(levels, contents))
    return image_of(contents, stages.synthesize(indices))


def verify(
    data: bytes,
    *,
    model: str | Path | None = None,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Decodes all indices of a .vqz file and compares them with their checksum.

    The arguments are those of `decompress`.

    Raises:
        FormatError: the data is no undamaged .vqz file, or its indices are not those coded.
        ModelError: its model is missing or is another one.
    """
    contents = container.unpack(data)
    stages = stages_for(contents.header, model, device, batch, progress)
    _decode(stages, contents, contents.header.levels)


def inspect(data: bytes) -> Container:
    """Reads and checks a .vqz file without decoding it; a cut file gives its complete levels.

    Raises:
        FormatError: the data is no undamaged .vqz file.
    """
    return container.unpack(data, partial=True)


def _extras(image: Image) -> dict[int, bytes]:
    extras = {
        container.EXTRA_ALPHA: None if image.alpha is None else dump_alpha(image.alpha),
        container.EXTRA_ICC: image.icc,
        container.EXTRA_EXIF: image.exif,
    }
    return {kind: content for kind, content in extras.items() if content is not None}


def _decode(stages: Stages, contents: Container, levels: int) -> list[Tensor]:
    """Indices of the first levels, checked against their checksum if they are all there."""
    indices: list[Tensor] = []
    for payloads in contents.sections[:levels]:
        indices.append(stages.decode(payloads, indices))
    if levels == contents.header.levels and contents.complete:
        stages.check_indices(indices, contents.indices_crc)
    return indices


def _goal(
    quality: int | None,
    bpp: float | None,
    size: int | None,
    psnr: float | None,
    pixels: int,
    fixed: int,
) -> target.Target | None:
    """What to meet, or None if a quality is to be used."""
    if sum(each is not None for each in (quality, bpp, size, psnr)) > 1:
        raise CodecError("quality, bpp, size and psnr exclude each other; give one of them")
    if bpp is not None:
        return target.of_size(bpp * pixels / 8, pixels, fixed=fixed, above=True)
    if size is not None:
        return target.of_size(size, pixels, fixed=fixed)
    return None if psnr is None else target.of_psnr(psnr, pixels)


def _lmbdas(model: Model) -> list[float] | None:
    """Of every quality, lowest quality first; None for a model without a rate model."""
    autoencoder = model.autoencoder
    if not isinstance(autoencoder, Autoencoder):
        return None
    position = autoencoder.position(torch.arange(model.qualities, device=model.device))
    lmbdas: list[float] = autoencoder.lmbda(position).tolist()
    return lmbdas


def _checked_tile(tile: int, model: Model) -> int:
    smallest = max(model.strides[0], 1 << container.MIN_TILE_LOG2)
    largest = 1 << container.MAX_TILE_LOG2
    if tile & (tile - 1) or not smallest <= tile <= largest or tile % model.strides[0]:
        raise CodecError(
            f"a tile side of {tile} cannot be; give a power of two from {smallest} to {largest}"
        )
    return tile


def _checked_levels(levels: int | None, contents: Container) -> int:
    there = len(contents.sections)
    if levels is not None and not 1 <= levels <= there:
        raise CodecError(f"cannot restore from {levels} levels; the file holds {there}, give 1 up")
    return levels or there
