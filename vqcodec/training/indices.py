"""Indices of many crops, extracted once for the training of the priors.

Source: step 1 of algorithm 1 in Razavi et al. 2019, each prior trained on the indices that a
finished autoencoder gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.training import checkpoint
from vqcodec.training.export import load_autoencoder
from vqcodec.training.loop import fast_bfloat16
from vqcodec.training.photos import CropSampler


@dataclass(kw_only=True)
class Extraction:
    """Settings of an extraction.

    Attributes:
        autoencoder: Checkpoint of `train autoencoder`.
        sources: (folder or tar archive, weight) of the images.
        output: The file to write.
        count: Number of crops.
        crop: Side of a crop, in pixels; a multiple of the coarsest stride.
        levels: Extract so many levels only, coarsest first; None for all.
        batch: Crops at a time.
        seed: Of crops and qualities.
        limit: At most this many images of each source, or None.
        device: "cpu", "cuda", or None for whichever there is.
    """

    autoencoder: Path
    sources: list[tuple[Path, float]]
    output: Path
    count: int = 5000
    crop: int = 256
    levels: int | None = None
    batch: int = 4
    seed: int = 0
    limit: int | None = None
    device: str | None = None


def extract(config: Extraction) -> Path:
    """Writes the indices of random crops, each at a random quality; returns the file.

    It holds `levels.N` uint8 or int16 [count, G, h, w], `quality` int64 [count], and `rate_bits`
    float32 [count, levels], what the autoencoder's own rate model would spend.

    Raises:
        CodecError: unusable checkpoint or sources, or a crop that does not fit the strides.
    """
    autoencoder = load_autoencoder(config.autoencoder)
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    autoencoder.to(device)
    if config.crop % autoencoder.config.strides[0]:
        raise CodecError(f"the crop must be a multiple of {autoencoder.config.strides[0]} pixels")
    sampler = CropSampler(config.sources, config.crop, config.limit)
    qualities = len(autoencoder.config.lmbdas)
    dtypes = [
        torch.uint8 if max(k for k, _ in level.codebooks) <= 256 else torch.int16
        for level in autoencoder.config.levels[: config.levels]
    ]
    levels: list[list[Tensor]] = [[] for _ in dtypes]
    quality_parts, bit_parts = [], []
    firsts = range(0, config.count, config.batch)
    for first in track(firsts, "indices", console=Console(stderr=True)):
        size = min(config.batch, config.count - first)
        crops = sampler.draw(size, [config.seed, first]).to(device)
        rng = np.random.default_rng([config.seed, first, 1])
        quality = torch.from_numpy(rng.integers(qualities, size=size)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
            indices, bits = autoencoder.quantize(crops, quality, config.levels)
        for maps, found, dtype in zip(levels, indices, dtypes, strict=True):
            maps.append(found.to(dtype).cpu())
        quality_parts.append(quality.cpu())
        bit_parts.append(bits.cpu())
    tensors = {f"levels.{n}": torch.cat(maps) for n, maps in enumerate(levels)}
    tensors |= {"quality": torch.cat(quality_parts), "rate_bits": torch.cat(bit_parts)}
    checkpoint.save(config.output, tensors, {"autoencoder": str(config.autoencoder)})
    return config.output


class IndexSampler:
    """Random examples from extracted indices.

    Args:
        files: What `extract` wrote, all of one crop size.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        loaded = [checkpoint.load(path)[0] for path in files]
        if not loaded:
            raise CodecError("no extracted indices were given; run vqcodec train indices first")
        names = sorted(name for name in loaded[0] if name.startswith("levels."))
        try:
            self.levels = [torch.cat([tensors[name] for tensors in loaded]) for name in names]
        except (KeyError, RuntimeError) as error:
            raise CodecError(f"the files of indices do not fit together ({error})") from error
        self.quality = torch.cat([tensors["quality"] for tensors in loaded])

    def draw(self, count: int, seed: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Draws examples; the same seed gives the same ones.

        Returns:
            quality int64 [count], and per level int64 [count, G, h, w].
        """
        rng = np.random.default_rng(seed)
        chosen = torch.from_numpy(rng.integers(len(self.quality), size=count))
        return self.quality[chosen], [maps[chosen].long() for maps in self.levels]
