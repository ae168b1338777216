"""Rate and distortion of an autoencoder's checkpoint, before it has priors.

Bits are those of its rate model, which sees coarser levels and earlier codebooks of a position but
no neighbours, so files with spatial priors will be smaller; peers write real files. Made to compare
one training with another, as in ablations.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from common import (
    Benchmark,
    Pixels,
    console,
    find_images,
    folder_argument,
    json_option,
    load_picture,
    print_table,
    store,
)
from rich.progress import track

from vqcodec.bench.codecs import PEERS, spread
from vqcodec.bench.curves import bjontegaard_deltas, gap, means, rising
from vqcodec.metrics.distortion import psnr
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.tiling import pad
from vqcodec.training import checkpoint
from vqcodec.training.export import load_autoencoder

PSNR = {"key": "psnr", "name": "PSNR", "unit": "dB", "better": "higher"}
ANCHORS = ("jpeg", "webp", "avif")

Row = dict[str, Any]


@torch.inference_mode()
def ours(autoencoder: Autoencoder, pixels: Pixels, quality: int) -> Row:
    """Bits per pixel of every level, and PSNR."""
    height, width = pixels.shape[:2]
    chosen = torch.tensor([quality - 1])
    whole = torch.from_numpy(pad(pixels, autoencoder.config.strides[0]).copy())[None]
    indices, bits = autoencoder.quantize(whole, chosen)
    restored = autoencoder.synthesize(indices, chosen)[0, :height, :width].numpy()
    levels = (bits[0].double() / (height * width)).tolist()
    return {"bpp": sum(levels), "levels": levels, "psnr": psnr(pixels, restored)}


def theirs(codec: str, pixels: Pixels, quality: int) -> Row:
    """Bits per pixel and PSNR of a peer's file."""
    peer = PEERS[codec]
    data = peer.encode(pixels, quality).data
    area = pixels.shape[0] * pixels.shape[1]
    return {"bpp": 8 * len(data) / area, "psnr": psnr(pixels, peer.decode(data))}


@click.command(cls=Benchmark)
@click.argument("path", metavar="CHECKPOINT", type=click.Path(exists=True, path_type=Path))
@folder_argument
@click.option(
    "--quality",
    "qualities",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Of the autoencoder; repeatable. All if not given, or 12 of many.",
)
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="Each Nth image.")
@json_option
def main(
    path: Path, folder: Path, qualities: Sequence[int], every: int, json_file: Path | None
) -> None:
    """Measure a CHECKPOINT of `vqcodec train autoencoder` on the images of FOLDER."""
    autoencoder = load_autoencoder(path)
    if not isinstance(autoencoder, Autoencoder):
        raise click.ClickException(f"{path}: of a family without a rate model")
    state = checkpoint.load_state(path)
    count = autoencoder.config.num_qualities
    if max(qualities, default=1) > count:
        raise click.ClickException(f"{path}: has the qualities 1 to {count} only")
    chosen = list(qualities) or spread(count)
    rows: list[Row] = []
    for image in track(find_images(folder)[::every], "images", console=console):
        pixels = load_picture(image).pixels
        for quality in chosen:
            row = ours(autoencoder, pixels, quality)
            rows.append({"codec": "vqcodec", "image": image.name, "quality": quality, **row})
        for codec in ANCHORS:
            for quality in PEERS[codec].qualities:
                row = theirs(codec, pixels, quality)
                rows.append({"codec": codec, "image": image.name, "quality": quality, **row})
    points = means(rows, [PSNR])
    curves = {
        codec: rising([point for point in points if point["codec"] == codec], PSNR)
        for codec in ("vqcodec", *ANCHORS)
    }
    deltas = {
        codec: bjontegaard_deltas(curves[codec], curves["vqcodec"], "pchip")[0] for codec in ANCHORS
    }
    table = []
    for point in (point for point in points if point["codec"] == "vqcodec"):
        levels = np.mean([row["levels"] for row in rows if _is(row, point)], 0)
        above = [gap(curves[codec], point["bpp"], point["psnr"]) for codec in ANCHORS]
        table.append(
            [
                point["quality"],
                f"{point['bpp']:.4f}",
                " ".join(f"{each:.4f}" for each in levels),
                f"{point['psnr']:.2f}",
                *("" if each is None else f"{each:+.2f}" for each in above),
            ]
        )
    print_table(
        f"{path}, step {state['step']}, {state['seconds']:.0f} s",
        ["quality", "bpp", "by level", "PSNR, dB", *(f"dB above {PEERS[c].name}" for c in ANCHORS)],
        table,
    )
    shown = [
        [PEERS[codec].name, "" if delta is None else f"{delta:+.1f} %"]
        for codec, delta in deltas.items()
    ]
    print_table("BD-rate by PSNR, rate model against real files", ["anchor", "BD-rate"], shown)
    results = {"step": state["step"], "seconds": state["seconds"], "points": points}
    store(json_file, "rate_model", None, {**results, "bd_rate_percent": deltas})


def _is(row: Row, point: Row) -> bool:
    return bool(row["codec"] == point["codec"] and row["quality"] == point["quality"])


if __name__ == "__main__":
    main()
