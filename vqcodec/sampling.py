"""New images from the priors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec.entropy.frequencies import TEMPERATURE_ONE, TOTAL_BITS
from vqcodec.entropy.prior import Choose
from vqcodec.errors import CodecError
from vqcodec.image import Image
from vqcodec.model import load
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.stages import Progress
from vqcodec.tiling import crop, padded

MAX_SIDE = 4096
MAX_TEMPERATURE = 100.0
DEFAULT_BATCH = 4


def sample(
    height: int,
    width: int,
    *,
    model: str | Path | None = None,
    quality: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    count: int = 1,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Image]:
    """Draws new images from the priors.

    The indices of image n of a seed are the same whatever the count, the batch or the machine.

    Args:
        height: Pixels, at most `MAX_SIDE`.
        width: Pixels, at most `MAX_SIDE`.
        model: A model id or a weights file; None for the default model.
        quality: The quality whose indices are imitated; None for the middle.
        seed: Of the random numbers.
        temperature: Below 1 nearer to the likeliest indices, above 1 more varied.
        count: How many images.
        batch: Images at a time.
        device: Where to run the networks.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: no such model or quality, or sizes and temperatures that cannot be.
    """
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise CodecError(
            f"cannot sample {width}x{height} pixels; both sides must be 1 to {MAX_SIDE}"
        )
    if not 0 < temperature <= MAX_TEMPERATURE:
        limits = f"above 0, up to {MAX_TEMPERATURE:g}"
        raise CodecError(f"cannot sample at temperature {temperature}; give one {limits}")
    loaded = load(model or DEFAULT_MODEL, device)
    chosen = torch.tensor([loaded.checked_quality(quality) - 1], device=loaded.device)
    fixed_point = max(1, round(temperature * TEMPERATURE_ONE))
    coarsest = loaded.strides[0]
    rows, columns = padded(height, coarsest), padded(width, coarsest)
    images: list[Image] = []
    for first in range(0, count, batch):
        numbers = range(first, min(first + batch, count))
        generators = [np.random.default_rng([seed, n]) for n in numbers]
        qualities = chosen.expand(len(numbers))
        draw = _draw_with(generators)
        indices: list[Tensor] = []
        for level, prior in enumerate(loaded.priors):
            shape = (rows // loaded.strides[level], columns // loaded.strides[level])
            state = prior.start(indices, qualities, torch.zeros_like(qualities), *shape)

            def report(step: int, of: int, stage: str = f"sample level {level}") -> None:
                if progress is not None:
                    progress(stage, first * of + step * len(numbers), count * of)  # noqa: B023

            indices.append(prior.wavefront(state, draw, fixed_point, report))
        pixels = loaded.autoencoder.synthesize(indices, qualities).cpu().numpy()
        images += [Image(crop(each, height, width).copy(), grey=False) for each in pixels]
    return images


def _draw_with(generators: Sequence[np.random.Generator]) -> Choose:
    """Symbols at random, one generator a map."""

    def draw(codebook: int, frequencies: Tensor) -> Tensor:
        cumulative = frequencies.cumsum(-1)
        points = [rng.integers(1 << TOTAL_BITS, size=cumulative.shape[1]) for rng in generators]
        levels = torch.from_numpy(np.stack(points)).to(cumulative.device)
        return torch.searchsorted(cumulative, levels[..., None], right=True).squeeze(-1)

    return draw
