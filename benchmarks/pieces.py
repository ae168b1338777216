"""Pieces and previews of a large picture against the whole: seconds, and how far pixels differ.

    python benchmarks/pieces.py photo.png --megapixels 25

The picture is filled by its mirror images. Seconds are of the library in a warm process: the
fastest of three. `--max-side` restores from coarse levels, so its pixels are others by intent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np

from vqcodec import codec, image
from vqcodec.bench.command import Command, print_made, print_table
from vqcodec.bench.images import fill
from vqcodec.image import Image
from vqcodec.piece import Region
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.tiles import DEFAULT_TILE

RUNS = 3


def timed(decode: Callable[[], Image]) -> tuple[float, Image]:
    """Seconds of the fastest run, and what it gives."""
    took = []
    for _ in range(RUNS):
        start = time.perf_counter()
        found = decode()
        took.append(time.perf_counter() - start)
    return min(took), found


def regions(height: int, width: int, side: int) -> dict[str, Region]:
    """Squares at a corner, in the middle of a tile, and around a corner of four of them."""
    tile = DEFAULT_TILE
    inside = tile + (tile - side) // 2
    return {
        "at the corner": (0, 0, side, side),
        "within a tile": (inside, inside, side, side),
        "over four tiles": (2 * tile - side // 2, tile - side // 2, side, side),
        "at the end": (width - side, height - side, side, side),
    }


@click.command(cls=Command)
@click.argument("photo", type=click.Path(path_type=Path))
@click.option("--megapixels", default=25.0, show_default=True, help="Of the picture.")
@click.option("--side", default=512, show_default=True, help="Of the regions.")
@click.option("--preview", default=256, show_default=True, help="Longest side of the preview.")
def main(photo: Path, megapixels: float, side: int, preview: int) -> None:
    """Compare pieces of PHOTO, made large, with the whole."""
    height, width = (round((megapixels * 1e6 * ratio) ** 0.5) for ratio in (2 / 3, 3 / 2))
    pixels = fill(image.load(photo).pixels, height, width)
    data = codec.compress(pixels, effort=1, lossless="never").data
    seconds, whole = timed(partial(codec.decompress, data))
    rows = [["whole", width, height, f"{seconds:.2f}", None, None]]
    for name, region in regions(height, width, side).items():
        took, piece = timed(partial(codec.decompress, data, region=region))
        x, y, _, _ = region
        expected = whole.pixels[y : y + side, x : x + side]
        apart = np.abs(piece.pixels.astype(int) - expected)
        rows.append([f"region {name}", side, side, f"{took:.2f}", apart.max(), (apart > 0).sum()])
    took, small = timed(partial(codec.decompress, data, max_side=preview))
    size = small.pixels.shape[1::-1]
    rows.append([f"--max-side {preview}", *size, f"{took:.2f}", None, None])
    columns = ["what", "width", "height", "seconds", "largest difference", "samples that differ"]
    print_table(f"{len(data)} bytes, effort 1, middle quality", columns, rows)
    print_made(DEFAULT_MODEL)


if __name__ == "__main__":
    main()
