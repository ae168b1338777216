"""What more effort buys: bits, PSNR and seconds of compressing at every effort."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import fmean

import click
import torch

from vqcodec.bench.codecs import Vqcodec, vqcodec
from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.cost import measured
from vqcodec.bench.curves import bjontegaard_deltas, rising
from vqcodec.bench.images import found_images, picture
from vqcodec.bench.judges import PSNR
from vqcodec.choosing.effort import MAX_EFFORT
from vqcodec.cli.options import model_option
from vqcodec.metrics.distortion import psnr
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.weights_file import load


def point(codec: Vqcodec, path: Path, quality: int) -> tuple[float, float, float]:
    """Bits per pixel, PSNR in dB, and seconds of one file."""
    pixels = picture(path)
    encoded, cost = measured(partial(codec.encode, pixels, quality), 1)
    bpp = 8 * len(encoded.data) / pixels[..., 0].size
    return bpp, psnr(pixels, codec.decode(encoded.data)), cost.seconds


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--quality", "qualities", type=int, multiple=True, metavar="N", help="Several; all if none."
)
@click.option("--threads", type=int, metavar="N", help="Of the networks.")
@model_option
def main(folder: Path, qualities: tuple[int, ...], threads: int | None, model: str | None) -> None:
    """Compresses the images in FOLDER at several qualities and efforts."""
    if threads is not None:
        torch.set_num_threads(threads)
    paths, model = found_images([folder]), model or DEFAULT_MODEL
    wanted = qualities or range(1, load(model).qualities + 1)
    codecs = [
        vqcodec(model, wanted, torch.get_num_threads(), effort)
        for effort in range(1, MAX_EFFORT + 1)
    ]
    point(codecs[-1], paths[0], codecs[-1].qualities[0])  # to warm up
    curves, rows = [], []
    for codec in tracked(codecs, "efforts"):
        points = [
            [fmean(each) for each in zip(*(point(codec, path, n) for path in paths), strict=True)]
            for n in codec.qualities
        ]
        curves.append(rising([{"bpp": bpp, "psnr": each} for bpp, each, _ in points], PSNR.metric))
        rate, _ = bjontegaard_deltas(curves[0], curves[-1], "pchip")
        seconds = fmean(seconds for *_, seconds in points)
        rows.append([codec.effort, f"{seconds:.2f}", None if rate is None else f"{rate:+.2f}"])
    columns = ["effort", "seconds an image", "BD-rate against effort 1, %"]
    print_table(f"{len(paths)} images, qualities {list(codecs[0].qualities)}", columns, rows)
    print_made(model)


if __name__ == "__main__":
    main()
