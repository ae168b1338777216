"""What a natural synthesis changes: distortion and seconds of the same files, restored twice."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import fmean

import click
import torch

from vqcodec import codec
from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.cost import timed
from vqcodec.bench.images import found_images, picture
from vqcodec.cli.options import model_option
from vqcodec.image import as_image
from vqcodec.metrics.distortion import ms_ssim, psnr, ssimulacra2
from vqcodec.metrics.dists import Dists
from vqcodec.metrics.lpips import Lpips
from vqcodec.registry import DEFAULT_MODEL


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--quality", "qualities", type=int, multiple=True, required=True, metavar="N")
@click.option("--synthesis", default="natural", show_default=True, metavar="NAME|FILE")
@click.option("--lpips", type=click.Path(path_type=Path), multiple=True, metavar="FILE")
@click.option("--dists", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--effort", type=int, metavar="N", help="Of compress.")
@click.option("--threads", type=int, metavar="N", help="Of the networks.")
@click.option("--runs", type=click.IntRange(min=1), default=1, help="To time decoding.")
@model_option
def main(
    folder: Path,
    qualities: tuple[int, ...],
    synthesis: str,
    lpips: tuple[Path, ...],
    dists: Path | None,
    effort: int | None,
    threads: int | None,
    runs: int,
    model: str | None,
) -> None:
    """Compresses the images in FOLDER, and restores every file with both syntheses."""
    if threads is not None:
        torch.set_num_threads(threads)
    paths, model = found_images([folder]), model or DEFAULT_MODEL
    networks: list[Lpips | Dists] = [*map(Lpips, lpips)]
    if dists is not None:
        networks.append(Dists(dists))
    rows = []
    for quality in tracked(qualities, "qualities"):
        of_each: dict[str, list[list[float]]] = {"faithful": [], synthesis: []}
        for path in paths:
            pixels = picture(path)
            data = codec.compress(
                as_image(pixels), quality=quality, effort=effort, lossless="never", model=model
            ).data
            bpp = 8 * len(data) / pixels[..., 0].size
            for name, found in of_each.items():
                restore = partial(codec.decompress, data, model=model, synthesis=name)
                restored = restore().pixels
                seconds = timed(restore, runs)
                measures = [metric(pixels, restored) for metric in (psnr, ms_ssim, ssimulacra2)]
                measures += [network.distance(pixels, restored) for network in networks]
                found.append([bpp, *(float(each or 0) for each in measures), seconds])
        for name, found in of_each.items():
            bpp, *means = map(fmean, zip(*found, strict=True))
            digits = [2, 4, 1, *[4] * len(networks), 2]
            shown = (f"{mean:.{n}f}" for mean, n in zip(means, digits, strict=True))
            rows.append([quality, f"{bpp:.3f}", name, *shown])
    columns = ["quality", "bpp", "synthesis", "PSNR, dB", "MS-SSIM", "SSIMULACRA 2"]
    columns += [network.name for network in networks]
    print_table(f"{len(paths)} images", [*columns, "decompress, s"], rows)
    print_made(model)


if __name__ == "__main__":
    main()
