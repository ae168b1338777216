"""What more effort buys: bits, PSNR and seconds of compressing at every effort.

Every byte of the files counts. BD-rates are against effort 1, of the curves of means over images.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import fmean
from typing import Any

import click
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

from vqcodec.bench.curves import bjontegaard_deltas
from vqcodec.choosing.effort import MAX_EFFORT
from vqcodec.codec import compress, decompress
from vqcodec.metrics.distortion import psnr
from vqcodec.weights_file import load


def measured(path: Path, model: str, quality: int, effort: int) -> dict[str, float]:
    """Bits per pixel, PSNR in dB, and seconds of one file."""
    image = load_picture(path)
    start = time.perf_counter()
    compressed = compress(image, quality=quality, effort=effort, model=model)
    seconds = time.perf_counter() - start
    restored = decompress(compressed.data, model=model).pixels
    bits = 8 * len(compressed.data)
    return {
        "bpp": bits / image.pixels[..., 0].size,
        "psnr": psnr(image.pixels, restored),
        "seconds": seconds,
    }


@click.command(cls=Benchmark)
@folder_argument
@click.option(
    "--quality", "qualities", type=int, multiple=True, metavar="N", help="Several; all if none."
)
@click.option(
    "--effort", "efforts", type=int, multiple=True, metavar="N", help="Several; all if none."
)
@click.option("--threads", type=int, metavar="N", help="Of the networks.")
@model_option
@json_option
def main(
    folder: Path,
    qualities: tuple[int, ...],
    efforts: tuple[int, ...],
    threads: int | None,
    model: str,
    json_file: Path | None,
) -> None:
    """Compresses the images in FOLDER at several qualities and efforts."""
    if threads is not None:
        torch.set_num_threads(threads)
    paths = find_images(folder)
    wanted = sorted(set(qualities)) or list(range(1, load(model).qualities + 1))
    tried = sorted({1, *efforts}) if efforts else list(range(1, MAX_EFFORT + 1))
    measured(paths[0], model, wanted[0], 2)  # to warm up
    rows: list[dict[str, Any]] = []
    curves = []
    for effort in track(tried, "efforts", console=console):
        points = []
        for quality in wanted:
            found = [measured(path, model, quality, effort) for path in paths]
            points.append({key: fmean(each[key] for each in found) for key in found[0]})
        curves.append(sorted((point["bpp"], point["psnr"]) for point in points))
        rate, _ = bjontegaard_deltas(curves[0], curves[-1], "pchip")
        seconds = fmean(point["seconds"] for point in points)
        rows.append({"effort": effort, "bd_rate": rate, "seconds": seconds, "points": points})
    print_table(
        "efforts",
        ["effort", "seconds an image", "BD-rate against effort 1, %"],
        [
            [
                row["effort"],
                f"{row['seconds']:.2f}",
                "" if row["bd_rate"] is None else f"{row['bd_rate']:+.2f}",
            ]
            for row in rows
        ],
    )
    store(json_file, "effort", model, {"images": len(paths), "qualities": wanted, "rows": rows})


if __name__ == "__main__":
    main()
