"""The choice of an image's indices: the analysis, then as much search as the effort says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.choosing.distortion import Distortion
from vqcodec.choosing.effort import SWEEPS
from vqcodec.choosing.search import search
from vqcodec.choosing.tunes import Tune
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.models.natural import Natural
from vqcodec.syntheses import Synthesis
from vqcodec.tiles import BATCH_TILE, Tiles, cut
from vqcodec.tiling import cut_out, padded, split
from vqcodec.watch import stage

SEARCH_TILE = 256
COARSER_WEIGHT = 0.5
"""Of bits of the levels before the finest: what they cost is saved there, which the choice cannot
see."""


def choose(
    tiles: Tiles,
    pixels: npt.NDArray[np.uint8],
    effort: int,
    rate_weight: float,
    tune: Tune | None = None,
    synthesis: Synthesis | None = None,
) -> list[Tensor]:
    """Pixels to indices.

    Args:
        tiles: Of the image.
        pixels: uint8 [H, W, 3].
        effort: 1 to `effort.MAX_EFFORT`; above 1, the indices of the finest level are searched for.
            Models without a rate model have 1 only.
        rate_weight: How much more a bit costs than the quality says; without effect on models
            without a rate model.
        tune: What to search for; None for the least squared error.
        synthesis: What the image will be restored by; None for the faithful one.

    Returns:
        Per level integers [G, H'/s, W'/s] of the padded image.
    """
    indices = tiles.analyze(pixels, rate_weight, COARSER_WEIGHT)
    sweeps = SWEEPS[effort - 1]
    if sweeps and tiles.model.autoencoder.lmbdas() is not None:
        with stage("search"):
            natural = synthesis if isinstance(synthesis, Natural) else None
            _search(tiles, pixels, indices, sweeps, rate_weight, tune or Tune(), natural)
    return indices


def _search(
    tiles: Tiles,
    pixels: npt.NDArray[np.uint8],
    maps: Sequence[Tensor],
    sweeps: int,
    rate_weight: float,
    tune: Tune,
    natural: Natural | None,
) -> None:
    """Replaces the indices of the finest level by better ones.

    Windows as large as the tiles, from 256 to 1024 pixels a side unless the image is narrow, bound
    the memory. One follows the other, so that each sees around it what the ones before have found.

    Args:
        tiles: Of the image.
        pixels: uint8 [H, W, 3].
        maps: Indices of all levels, integers [G, H'/s, W'/s] each.
        sweeps: Of `search`.
        rate_weight: Of `search`.
        tune: Of `Distortion`.
        natural: Of `search`.
    """
    model, header = tiles.model, tiles.header
    stride = model.strides[-1]
    side = max(header.tile, SEARCH_TILE)
    if not tiles.narrow:
        side = min(side, BATCH_TILE)
    windows = split(*tiles.area, padded(side, model.strides[0]))
    for n, window in enumerate(windows):
        around = tiles.grown(window)
        real = (header.height - around.top, header.width - around.left)
        real = (min(real[0], around.height), min(real[1], around.width))
        original = torch.from_numpy(cut_out(pixels, around).copy())[None].to(model.device)
        free = torch.zeros_like(maps[-1][0], dtype=torch.bool)
        free[(window // stride).slices] = True
        found = search(
            cast("Autoencoder", model.autoencoder),  # the family that weighs bits
            [tiles.stacked(maps, level, [around]) for level in range(len(maps))],
            tiles.quality(1),
            tiles.start(maps[:-1], [around]).code_lengths,
            Distortion(original, real, tune),
            free=free[(around // stride).slices],
            sweeps=sweeps,
            rate_weight=rate_weight,
            natural=natural,
        )
        cut(maps[-1], around // stride).copy_(found[0])
        tiles.report("search", n + 1, len(windows))
