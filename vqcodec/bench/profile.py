"""Where the bits and the time of the corridor go.

The codec runs as it is. Stages are those that it names to `vqcodec.watch`; raster order is the
wavefront with other steps.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqcodec import codec, container
from vqcodec.bench.codecs import spread
from vqcodec.bench.cost import measured, timed
from vqcodec.bench.images import Pixels, picture
from vqcodec.bench.scaling import MEGAPIXELS, scaling
from vqcodec.choosing.choice import COARSER_WEIGHT
from vqcodec.container import Container
from vqcodec.entropy import payload
from vqcodec.entropy.frequencies import code_lengths
from vqcodec.entropy.prior import Prior
from vqcodec.entropy.state import State
from vqcodec.entropy.wavefront import steps
from vqcodec.image import Image
from vqcodec.models.quantizer import ProductQuantizer
from vqcodec.progress import Progress
from vqcodec.spec.cone import step_of
from vqcodec.tiles import DEFAULT_TILE, Tiles
from vqcodec.tiling import crop, pad, split
from vqcodec.watch import ALL, Clock, watching
from vqcodec.weights_file import Model, load

CODES = ("uniform", "marginal", "hierarchical", "full")

Row = dict[str, Any]


def profile(
    model: str,
    pictures: Sequence[Path],
    progress: Progress,
    *,
    qualities: Sequence[int] = (),
    quality: int | None = None,
    runs: int = 5,
    megapixels: Sequence[float] = MEGAPIXELS,
) -> dict[str, Any]:
    """Where the bits and the time go, with as many threads as PyTorch has.

    Args:
        model: A model id, or the path of a weights file.
        pictures: Image files, one at least; raster order and scaling use the first one.
        progress: Called with (stage, done, total).
        qualities: To count bits at; see `codecs.vqcodec` for none.
        quality: To take times at; None for the middle.
        runs: Of which the median time is taken, at least.
        megapixels: Sizes of the scaling run, 10**6 pixels.

    Returns:
        "bits", "stages", "raster" and "scaling": what the functions of these names give.

    Raises:
        CodecError: no such model or quality, or a picture that cannot be read.
    """
    loaded = load(model)
    wanted = [loaded.checked_quality(each) for each in qualities or spread(loaded.qualities)]
    pixels = [picture(path) for path in pictures]
    return {
        "bits": bits(model, pixels, wanted, progress),
        "stages": stages(model, pixels, quality, -(-runs // len(pixels)), progress),
        "raster": raster(model, pixels[0], quality, runs, progress),
        "scaling": scaling(model, pictures[0], progress, quality=quality, megapixels=megapixels),
    }


# Bits


@dataclass
class _Tally:
    """What the indices of one codebook cost so far.

    Attributes:
        counts: How often each index occurred, int64 [K].
        hierarchical: Bits under the autoencoder's rate model; None if it has none.
        full: Bits under the spatial prior.
    """

    counts: Tensor
    hierarchical: float | None = None
    full: float = 0.0

    def row(self) -> Row:
        """Symbols, and the bits of each of `CODES`."""
        symbols = int(self.counts.sum())
        nats = float(torch.special.entr(self.counts.double() / symbols).sum())
        return {
            "symbols": symbols,
            "uniform": symbols * math.log2(len(self.counts)),
            "marginal": symbols * nats / math.log(2),
            "hierarchical": self.hierarchical,
            "full": self.full,
        }


def bits(
    model: str, pictures: Sequence[Pixels], qualities: Sequence[int], progress: Progress
) -> list[Row]:
    """Bits of the same indices under four codes, by quality, level and codebook.

    - uniform: log2 K an index;
    - marginal: an ideal static code for each codebook, made for these very indices; its table is
      not counted, which flatters it where pictures are few;
    - hierarchical: the autoencoder's rate model, which sees coarser levels and earlier codebooks,
      but no neighbours; None for families that have no such model;
    - full: the integer spatial prior that files are coded with.

    Pictures larger than a tile are cut up, and each piece is taken for a picture; of the others the
    full bits are the `Compressed.ideal_bits` of their files.

    Args:
        model: A model id, or the path of a weights file.
        pictures: uint8 [H, W, 3] each.
        qualities: Of the model.
        progress: Called with (stage, done, total).

    Returns:
        Rows of "quality", "level", "codebook", "symbols" and the bits of each code, sums over all
        pictures; level and codebook are numbers, or "all" for a sum over them.
    """
    loaded = load(model)
    rows: list[Row] = []
    for n, quality in enumerate(qualities):
        levels = [
            [_Tally(torch.zeros(k, dtype=torch.int64)) for k in p.sizes] for p in loaded.priors
        ]
        for m, pixels in enumerate(pictures):
            for tile in split(len(pixels), pixels.shape[1], DEFAULT_TILE):
                _count(levels, loaded, pixels[tile.slices], quality)
            progress("bits", n * len(pictures) + m + 1, len(qualities) * len(pictures))
        found = [
            {"quality": quality, "level": level, "codebook": codebook, **tally.row()}
            for level, tallies in enumerate(levels)
            for codebook, tally in enumerate(tallies)
            if tally.counts.any()  # not one that this quality leaves out
        ]
        for level in range(len(levels)):
            own = [row for row in found if row["level"] == level]
            rows += [*own, _sum(own, level)]
        rows.append(_sum(found, ALL))
    return rows


@torch.inference_mode()
def _count(levels: Sequence[Sequence[_Tally]], model: Model, pixels: Pixels, quality: int) -> None:
    """Adds the indices of a picture of one tile."""
    padded = torch.from_numpy(pad(pixels, model.strides[0]).copy())[None]
    rates: list[Tensor] = []  # bits of each index, float32 [B, h, w, G] a level, if it finds any
    hooks = [
        part.register_forward_hook(lambda module, inputs, choice: rates.append(choice.bits))
        for part in model.autoencoder.modules()
        if isinstance(part, ProductQuantizer)
    ]
    indices, _ = model.autoencoder.quantize(
        padded, torch.tensor([quality - 1]), coarser_weight=COARSER_WEIGHT
    )
    for hook in hooks:
        hook.remove()
    for level, tallies in enumerate(levels):
        own = indices[level]
        state = _fresh(model, indices, level, quality)
        frequencies = state.parallel(own)
        full = code_lengths(frequencies, own.flatten(2)).sum((0, 2)).tolist()
        for g, tally in enumerate(tallies[: state.books]):
            tally.counts += torch.bincount(own[:, g].flatten(), minlength=len(tally.counts))
            tally.full += full[g]
            if rates:
                rate = float(rates[level][..., g].double().sum())
                tally.hierarchical = (tally.hierarchical or 0.0) + rate


def _fresh(model: Model, indices: Sequence[Tensor], level: int, quality: int) -> State:
    """A state of a level's prior: of one map, int64 [1, G, h, w] a level."""
    chosen = torch.tensor([quality - 1])
    return model.priors[level].start(
        indices[:level], chosen, torch.zeros_like(chosen), *indices[level].shape[2:]
    )


def _sum(rows: Sequence[Row], level: int | str) -> Row:
    total: Row = {"quality": rows[0]["quality"], "level": level, "codebook": ALL}
    for name in ("symbols", *CODES):
        values = [row[name] for row in rows]
        total[name] = None if None in values else sum(values)
    return total


# Stages


def _clocked(action: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Result of a compression or decompression, and its milliseconds by stage."""
    clock = Clock()
    with watching(clock.stage):
        result = action()
    return result, clock.milliseconds()


def stages(
    model: str, pictures: Sequence[Pixels], quality: int | None, runs: int, progress: Progress
) -> list[Row]:
    """Milliseconds of each stage of the corridor, both ways, warm, from pixels to the file's bytes.

    They are those of one run, the one that takes the median time of all runs of all pictures, so
    that they add up. A level's "coding" is the range coder alone, its "frequencies" all else of it;
    "weights" is finding the loaded model again; what no stage takes is "rest".

    Args:
        model: A model id, or the path of a weights file.
        pictures: uint8 [H, W, 3] each.
        quality: Of the model; None for the middle.
        runs: Of each picture.
        progress: Called with (stage, done, total).

    Returns:
        Rows of "verb", "stage" and "milliseconds"; the last two stages of a verb are "rest" and
        "all".
    """
    compressions, decompressions = [], []
    compress = partial(codec.compress, quality=quality, lossless="never", model=model)
    compress(Image(pictures[0], grey=False))  # warms up
    for n, pixels in enumerate(pictures):
        for _ in range(runs):
            coded, milliseconds = _clocked(partial(compress, Image(pixels, grey=False)))
            compressions.append(milliseconds)
            _, milliseconds = _clocked(partial(codec.decompress, coded.data, model=model))
            decompressions.append(milliseconds)
        progress("stages", n + 1, len(pictures))
    return [
        {"verb": verb, "stage": stage, "milliseconds": taken}
        for verb, found in (("compress", compressions), ("decompress", decompressions))
        for stage, taken in median_run(found).items()
    ]


def median_run(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The run of the median time, the lower one of two: milliseconds by stage."""
    return sorted(found, key=lambda each: each[ALL])[(len(found) - 1) // 2]


# Raster order


def raster(
    model: str, pixels: Pixels, quality: int | None, passes: int, progress: Progress
) -> list[Row]:
    """Seconds to decode each level in wavefront steps, in raster order, and the usual way.

    Raster order is really run, one position a step, with the wavefront's cached features. A prior
    with attention sees all positions of earlier steps, of which some come later in raster order; it
    takes the positions one by one in the order of the steps, which is as long.

    The usual way is a full pass of the prior for every position. That takes hours, so a few passes
    are timed and multiplied; what could be kept between them, the conditioning on coarser levels,
    is not counted.

    Args:
        model: A model id, or the path of a weights file.
        pixels: uint8 [H, W, 3]; of a larger picture the first tile is taken.
        quality: Of the model; None for the middle.
        passes: How many full passes to time, and how many runs of the wavefront; medians count.
        progress: Called with (stage, done, total).

    Returns:
        A row a level; "identical" says whether both orders decoded the indices, and the full passes
        found the frequencies, that the file was coded with.
    """
    image = Image(crop(pixels, DEFAULT_TILE, DEFAULT_TILE), grey=False)
    coded = codec.compress(image, quality=quality, effort=1, lossless="never", model=model)
    tiles, contents = opened(coded.data, model)
    indices = indices_of(tiles, contents)
    rows: list[Row] = []
    for level, payloads in enumerate(contents.sections):
        coarser, own = indices[:level], indices[level]
        prior = tiles.model.priors[level]
        wavefront_seconds = timed(partial(tiles.decode, payloads, coarser), passes)
        in_raster, _ = payload.encode(one_by_one(tiles, prior, coarser), own[None])
        decode = partial(_decode_one_by_one, tiles, prior, coarser, in_raster)
        found, raster = measured(decode, 1)
        exact, seconds = full_passes(tiles, indices[: level + 1], passes)
        height, width = own.shape[1:]
        rows.append(
            {
                "level": level,
                "positions": height * width,
                "codebooks": len(own),
                "wavefront_steps": len(steps(height, width)),
                "wavefront_seconds": wavefront_seconds,
                "raster_seconds": raster.seconds,
                "full_pass_seconds": statistics.median(seconds),
                "full_passes_timed": len(seconds),
                "extrapolated_seconds": height * width * statistics.median(seconds),
                "identical": exact and torch.equal(found[0], own),
            }
        )
        progress("raster order", level + 1, len(contents.sections))
    return rows


def opened(data: bytes, model: str) -> tuple[Tiles, Container]:
    """A file, and its tiles."""
    contents = container.unpack(data)
    return Tiles.of_file(contents.header, model, "cpu", 1), contents


def indices_of(tiles: Tiles, contents: Container) -> list[Tensor]:
    """The indices of a file, checked against their checksum: int64 [G, H'/s, W'/s] a level.

    Raises:
        FormatError: they are not those coded.
    """
    indices: list[Tensor] = []
    for payloads in contents.sections:
        indices.append(tiles.decode(payloads, indices))
    tiles.check_indices(indices, contents.indices_crc)
    return [each.long() for each in indices]


def one_by_one(tiles: Tiles, prior: Prior, coarser: Sequence[Tensor]) -> State:
    """A fresh state of the only tile of a level, which takes one position a step."""
    level = len(coarser)
    window = tiles.windows[0] // tiles.model.strides[level]
    positions = torch.cat(steps(window.height, window.width))
    one_by_one = (positions if prior.attentions else positions.sort().values)[:, None]
    return tiles.start(coarser, tiles.windows, tuple(one_by_one))


def _decode_one_by_one(
    tiles: Tiles, prior: Prior, coarser: Sequence[Tensor], payloads: Sequence[bytes]
) -> Tensor:
    return payload.decode(one_by_one(tiles, prior, coarser), payloads)


def full_passes(tiles: Tiles, indices: Sequence[Tensor], wanted: int) -> tuple[bool, list[float]]:
    """Decodes a few positions of the last of some levels, each with a full pass of its prior.

    Args:
        tiles: Of the file.
        indices: Of the levels: int64 [G, H'/s, W'/s] each, of one tile.
        wanted: How many positions.

    Returns:
        Whether the frequencies were those of all positions' one pass, and the seconds of each pass.
    """
    level = len(indices) - 1
    maps = [each[None] for each in indices]
    state = _fresh(tiles.model, maps, level, tiles.header.quality)
    own = maps[level]
    expected = state.parallel(own)
    step = torch.tensor(step_of(*own.shape[2:]))
    positions = {(2 * n + 1) * len(step) // (2 * wanted) for n in range(wanted)}  # evenly spread
    exact, seconds = True, []
    for position in sorted(positions):
        known = step < step[position]
        known[position] = True  # its codebooks see those before
        given = own * known.view(own.shape[2:])
        found, cost = measured(partial(state.parallel, given), 1)
        exact &= torch.equal(found[:, :, position], expected[:, :, position])
        seconds.append(cost.seconds)
    return exact, seconds
