"""Bits of the spatial integer priors against the non-spatial hierarchical prior.

The non-spatial prior is the autoencoder's own rate model: it sees the coarser levels and the
earlier codebooks of a position, but no neighbours. Both code the same indices of whole images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from common import (
    Benchmark,
    console,
    find_images,
    folder_argument,
    json_option,
    load_picture,
    model_option,
    print_table,
    store,
)
from rich.progress import track
from torch import Tensor

from vqcodec.entropy.frequencies import TOTAL_BITS
from vqcodec.model import Model, load
from vqcodec.models.prior import Prior, set_mode
from vqcodec.tiling import pad
from vqcodec.training.export import load_prior

NON_SPATIAL, INTEGER, FLOAT, QUANTIZED = "non-spatial", "integer", "float", "quantized"
CROP = 1024

Bits = dict[str, npt.NDArray[np.float64]]
"""Per kind of prior the bits of each level: float64 [levels]."""


def centre(pixels: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """The middle of an image, `side` pixels at most each way: whole images run as one tile."""
    top, left = (max(0, (size - side) // 2) for size in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def integer_bits(model: Model, indices: Sequence[Tensor], quality: Tensor, level: int) -> float:
    """Ideal code length of a level under its integer prior."""
    prior = model.priors[level]
    own = indices[level]
    state = prior.start(indices[:level], quality, torch.zeros_like(quality), *own.shape[2:])
    frequencies = prior.parallel(state, own)
    chosen = frequencies.gather(-1, own.flatten(2)[..., None]).double()
    return float((TOTAL_BITS - chosen.log2()).sum())


@torch.inference_mode()
def bits_of(
    model: Model, priors: Sequence[Prior], pixels: npt.NDArray[np.uint8], quality: int
) -> Bits:
    padded = np.array(pad(centre(pixels, CROP), model.strides[0]))
    chosen = torch.tensor([quality - 1])
    indices, non_spatial = model.autoencoder.quantize(torch.from_numpy(padded)[None], chosen)
    levels = range(len(indices))
    found: Bits = {
        NON_SPATIAL: non_spatial[0].double().numpy(),
        INTEGER: np.array([integer_bits(model, indices, chosen, level) for level in levels]),
    }
    for mode in (FLOAT, QUANTIZED) if priors else ():
        sums = []
        for level, prior in enumerate(priors):
            set_mode(prior, mode)
            sums.append(float(prior.bits(indices[level], indices[:level], chosen).double().sum()))
        found[mode] = np.array(sums)
    return found


def change(bits: float, reference: float) -> float:
    """In %, how many more bits than the reference."""
    return 100 * (bits / reference - 1)


def summary(quality: int | str, bits: Bits) -> list[dict[str, Any]]:
    """One row a level and one for all levels."""
    levels = len(bits[NON_SPATIAL])
    parts: list[tuple[int | str, Any]] = [(level, level) for level in range(levels)]
    rows = []
    for name, part in [*parts, ("all", slice(None))]:
        sums = {kind: float(np.sum(values[part])) for kind, values in bits.items()}
        row: dict[str, Any] = {"quality": quality, "level": name, "bits": sums}
        row["saving_percent"] = -change(sums[INTEGER], sums[NON_SPATIAL])
        if FLOAT in sums:
            row["int8_cost_percent"] = change(sums[INTEGER], sums[FLOAT])
            row["rounding_cost_percent"] = change(sums[QUANTIZED], sums[FLOAT])
        rows.append(row)
    return rows


def report(rows: Sequence[dict[str, Any]]) -> None:
    kinds = list(rows[0]["bits"])
    with_float = FLOAT in kinds
    table = []
    for row in rows:
        cells = [row["quality"], row["level"], *(f"{row['bits'][kind]:.0f}" for kind in kinds)]
        cells.append(f"{row['saving_percent']:.2f}")
        if with_float:
            cells.append(f"{row['int8_cost_percent']:+.3f}")
            cells.append(f"{row['rounding_cost_percent']:+.3f}")
        table.append(cells)
    columns = ["quality", "level", *(f"{kind} bits" for kind in kinds), "saving %"]
    if with_float:
        columns += ["int8 over float %", "quantized over float %"]
    print_table("integer spatial priors against the non-spatial prior", columns, table)


@click.command(cls=Benchmark)
@folder_argument
@click.option(
    "--priors",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="CHECKPOINT",
    help="Training checkpoints of the priors, one a level, coarse to fine: the option repeated.",
)
@click.option(
    "--quality", "qualities", type=int, multiple=True, metavar="N", help="Several; all if none."
)
@model_option
@json_option
def main(
    folder: Path,
    priors: tuple[Path, ...],
    qualities: tuple[int, ...],
    model: str,
    json_file: Path | None,
) -> None:
    """Bits of the priors over the images in FOLDER, by level and quality."""
    loaded = load(model)
    if priors and len(priors) != len(loaded.priors):
        raise click.UsageError(f"{model} has {len(loaded.priors)} levels; give as many --priors")
    floats = [load_prior(path, loaded.autoencoder) for path in priors]
    wanted = sorted(set(qualities)) or list(range(1, loaded.qualities + 1))
    pictures = [load_picture(path).pixels for path in find_images(folder)]
    rows: list[dict[str, Any]] = []
    total: Bits = {}
    for quality in track(wanted, "qualities", console=console):
        sums: Bits = {}
        for pixels in pictures:
            for kind, bits in bits_of(loaded, floats, pixels, quality).items():
                sums[kind] = sums.get(kind, 0.0) + bits
        for kind, bits in sums.items():
            total[kind] = total.get(kind, 0.0) + bits
        rows += summary(quality, sums)
    rows += summary("all", total)
    report(rows)
    store(json_file, "prior_savings", model, {"images": len(pictures), "rows": rows})


if __name__ == "__main__":
    main()
