"""What running the priors in integers costs, in bits of the same indices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch

from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.images import Pixels, found_images, middle, picture
from vqcodec.choosing.choice import COARSER_WEIGHT
from vqcodec.cli.options import model_option
from vqcodec.entropy.frequencies import code_lengths
from vqcodec.models.prior import Prior, set_mode
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.tiling import pad
from vqcodec.training.export import load_prior
from vqcodec.weights_file import Model, load

KINDS = ("integer", "float", "quantized")
CROP = 1024  # whole images run as one tile

Bits = npt.NDArray[np.float64]
"""Of each of `KINDS` and level: float64 [3, levels]."""


@torch.inference_mode()
def bits_of(model: Model, priors: Sequence[Prior], pixels: Pixels, quality: int) -> Bits:
    """Ideal code lengths of the indices of uint8 [H, W, 3]."""
    padded = np.array(pad(middle(pixels, CROP), model.strides[0]))
    chosen = torch.tensor([quality - 1])
    pixels = torch.from_numpy(padded)[None]
    indices, _ = model.autoencoder.quantize(pixels, chosen, coarser_weight=COARSER_WEIGHT)
    found = np.zeros((len(KINDS), len(indices)))
    for level, (integer, prior, own) in enumerate(zip(model.priors, priors, indices, strict=True)):
        before = indices[:level]
        state = integer.start(before, chosen, torch.zeros_like(chosen), *own.shape[2:])
        lengths = code_lengths(state.parallel(own), own.flatten(2))
        found[0, level] = float(lengths.sum())
        for n, mode in enumerate(KINDS[1:], 1):
            set_mode(prior, mode)
            found[n, level] = float(prior.bits(own, before, chosen).double().sum())
    return found


def summary(quality: int | str, bits: Bits) -> list[list[object]]:
    """One row a level and one for all levels."""
    columns = [*enumerate(bits.T), ("all", bits.sum(1))]
    return [
        [
            *(quality, level),
            *(f"{each:.0f}" for each in column),
            *(f"{100 * (column[n] / column[1] - 1):+.3f}" for n in (0, 2)),
        ]
        for level, column in columns
    ]


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path))
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
def main(
    folder: Path, priors: tuple[Path, ...], qualities: tuple[int, ...], model: str | None
) -> None:
    """Bits of the priors over the images in FOLDER, by level and quality."""
    model = model or DEFAULT_MODEL
    loaded = load(model)
    if len(priors) != len(loaded.priors):
        raise click.UsageError(f"{model} has {len(loaded.priors)} levels; give as many --priors")
    floats = [load_prior(path, loaded.autoencoder) for path in priors]
    paths = found_images([folder])
    wanted = sorted(set(qualities)) or range(1, loaded.qualities + 1)
    found = {
        quality: sum(bits_of(loaded, floats, picture(path), quality) for path in paths)
        for quality in tracked(wanted, "qualities")
    }
    print_table(
        f"integer priors against the float priors they were made from, {len(paths)} images",
        [
            *("quality", "level", *(f"{kind} bits" for kind in KINDS)),
            *("integer over float %", "quantized over float %"),
        ],
        [
            row
            for quality, bits in [*found.items(), ("all", sum(found.values()))]
            for row in summary(quality, bits)
        ],
    )
    print_made(model)


if __name__ == "__main__":
    main()
