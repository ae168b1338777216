"""Rate and distortion of an autoencoder's checkpoint, before it has priors.

Bits are those of its rate model, so files with spatial priors will be smaller; peers write real
files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from vqcodec.bench.codecs import PEERS, spread
from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.curves import OURS, bjontegaard_deltas, means, rising
from vqcodec.bench.images import Pixels, found_images, picture
from vqcodec.bench.judges import PSNR as JUDGE
from vqcodec.metrics.distortion import psnr
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.tiling import pad
from vqcodec.training import checkpoint
from vqcodec.training.export import load_autoencoder

PSNR = JUDGE.metric
ANCHORS = ("jpeg", "webp", "avif")


@torch.inference_mode()
def ours(autoencoder: Autoencoder, pixels: Pixels, quality: int) -> dict[str, float]:
    """Bits per pixel and PSNR."""
    height, width = pixels.shape[:2]
    chosen = torch.tensor([quality - 1])
    whole = torch.from_numpy(pad(pixels, autoencoder.config.strides[0]).copy())[None]
    indices, bits = autoencoder.quantize(whole, chosen)
    restored = autoencoder.synthesize(indices, chosen)[0, :height, :width].numpy()
    bpp = float(bits.double().sum()) / (height * width)
    return {"bpp": bpp, "psnr": psnr(pixels, restored)}


def theirs(codec: str, pixels: Pixels, quality: int) -> dict[str, float]:
    """Bits per pixel and PSNR of a peer's file."""
    peer = PEERS[codec]
    data = peer.encode(pixels, quality).data
    return {"bpp": 8 * len(data) / pixels[..., 0].size, "psnr": psnr(pixels, peer.decode(data))}


@click.command(cls=Command)
@click.argument("path", metavar="CHECKPOINT", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--quality",
    "qualities",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Of the autoencoder; repeatable. All if not given, or 12 of many.",
)
def main(path: Path, folder: Path, qualities: Sequence[int]) -> None:
    """Measure a CHECKPOINT of `vqcodec train autoencoder` on the images of FOLDER."""
    autoencoder = load_autoencoder(path)
    if not isinstance(autoencoder, Autoencoder):
        raise click.ClickException(f"{path}: of a family without a rate model")
    state = checkpoint.load_state(path)
    count = autoencoder.config.num_qualities
    if max(qualities, default=1) > count:
        raise click.ClickException(f"{path}: has the qualities 1 to {count} only")
    rows: list[dict[str, Any]] = []
    for image in tracked(found_images([folder]), "images"):
        pixels = picture(image)
        for quality in qualities or spread(count):
            found = ours(autoencoder, pixels, quality)
            rows.append({"codec": OURS, "quality": quality, **found})
        for codec in ANCHORS:
            for quality in PEERS[codec].qualities:
                found = theirs(codec, pixels, quality)
                rows.append({"codec": codec, "quality": quality, **found})
    points = means(rows, [PSNR])
    own = [point for point in points if point["codec"] == OURS]
    anchors = {
        PEERS[codec].name: rising([each for each in points if each["codec"] == codec], PSNR)
        for codec in ANCHORS
    }
    print_table(
        f"step {state['step']}, {state['seconds']:.0f} s",
        ["quality", "bpp", "PSNR, dB"],
        [[each["quality"], f"{each['bpp']:.4f}", f"{each['psnr']:.2f}"] for each in own],
    )
    deltas = {
        name: bjontegaard_deltas(curve, rising(own, PSNR), "pchip")[0]
        for name, curve in anchors.items()
    }
    print_table(
        "BD-rate by PSNR, rate model against real files",
        ["anchor", "BD-rate"],
        [[name, None if delta is None else f"{delta:+.1f} %"] for name, delta in deltas.items()],
    )
    print_made(None)


if __name__ == "__main__":
    main()
