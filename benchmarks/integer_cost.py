"""What running the priors in integers costs, in bits.

The same indices of whole images are coded by the packaged integer priors, by the float priors that
they were made from, and by these rounded to the integer grids.
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

from vqcodec.entropy.frequencies import code_lengths
from vqcodec.models.prior import Prior, set_mode
from vqcodec.tiling import pad
from vqcodec.training.export import load_prior
from vqcodec.weights_file import Model, load

INTEGER, FLOAT, QUANTIZED = "integer", "float", "quantized"
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
    return float(code_lengths(prior.parallel(state, own), own.flatten(2)).sum())


@torch.inference_mode()
def bits_of(
    model: Model, priors: Sequence[Prior], pixels: npt.NDArray[np.uint8], quality: int
) -> Bits:
    padded = np.array(pad(centre(pixels, CROP), model.strides[0]))
    chosen = torch.tensor([quality - 1])
    indices, _ = model.autoencoder.quantize(torch.from_numpy(padded)[None], chosen)
    levels = range(len(indices))
    found: Bits = {
        INTEGER: np.array([integer_bits(model, indices, chosen, level) for level in levels])
    }
    for mode in (FLOAT, QUANTIZED):
        sums = []
        for level, prior in enumerate(priors):
            set_mode(prior, mode)
            sums.append(float(prior.bits(indices[level], indices[:level], chosen).double().sum()))
        found[mode] = np.array(sums)
    return found


def summary(quality: int | str, bits: Bits) -> list[dict[str, Any]]:
    """One row a level and one for all levels."""
    parts: list[tuple[int | str, Any]] = [(level, level) for level in range(len(bits[FLOAT]))]
    rows = []
    for name, part in [*parts, ("all", slice(None))]:
        sums = {kind: float(np.sum(values[part])) for kind, values in bits.items()}
        row: dict[str, Any] = {"quality": quality, "level": name, "bits": sums}
        for kind in (INTEGER, QUANTIZED):
            row[f"{kind}_cost_percent"] = 100 * (sums[kind] / sums[FLOAT] - 1)
        rows.append(row)
    return rows


def report(rows: Sequence[dict[str, Any]]) -> None:
    kinds = list(rows[0]["bits"])
    print_table(
        "integer priors against the float priors they were made from",
        [
            "quality",
            "level",
            *(f"{kind} bits" for kind in kinds),
            "integer over float %",
            "quantized over float %",
        ],
        [
            [
                row["quality"],
                row["level"],
                *(f"{row['bits'][kind]:.0f}" for kind in kinds),
                f"{row['integer_cost_percent']:+.3f}",
                f"{row['quantized_cost_percent']:+.3f}",
            ]
            for row in rows
        ],
    )


@click.command(cls=Benchmark)
@folder_argument
@click.option(
    "--priors",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    required=True,
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
    if len(priors) != len(loaded.priors):
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
    store(json_file, "integer_cost", model, {"images": len(pictures), "rows": rows})


if __name__ == "__main__":
    main()
