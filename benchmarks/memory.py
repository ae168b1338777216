"""Peak memory and seconds of the command line, both ways, for small and for large pictures.

    python benchmarks/memory.py photo.png --megapixels 1 --megapixels 25 --megapixels 100

The pictures are filled by the photograph and its mirror images, and PNG files, which is what they
are restored to as well. A process each, whose peak has the interpreter, libraries and weights in
it. Linux only.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click
import PIL.Image
from training_memory import measure

from vqcodec import image
from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.images import fill
from vqcodec.registry import DEFAULT_MODEL


def cost(*arguments: str | Path) -> list[str]:
    """Megabytes at the peak of `vqcodec ARGUMENTS...`, and seconds."""
    start = time.perf_counter()
    first, *_ = measure([sys.executable, "-m", "vqcodec", *map(str, arguments), "--quiet"]).values()
    return [f"{first / 1e6:.0f}", f"{time.perf_counter() - start:.0f}"]


@click.command(cls=Command)
@click.argument("photo", type=click.Path(path_type=Path))
@click.option(
    "--megapixels",
    "sizes",
    type=click.FloatRange(min=0.001),
    multiple=True,
    default=[1.0, 25.0, 100.0],
    show_default=True,
    help="Of the pictures, which are square.",
)
@click.option("--effort", default=1, show_default=True)
@click.option("--model", default=DEFAULT_MODEL, show_default=True)
def main(photo: Path, sizes: tuple[float, ...], effort: int, model: str) -> None:
    """Measure the peak memory of compressing PHOTO, made large, and of restoring it."""
    rows = []
    pixels = image.load(photo).pixels
    with tempfile.TemporaryDirectory(prefix="vqcodec-") as made:
        source, coded, back = (Path(made) / name for name in ("a.png", "a.vqz", "back.png"))
        for size in tracked(sizes, "pictures"):
            side = round((size * 1e6) ** 0.5)
            PIL.Image.fromarray(fill(pixels, side, side)).save(source, compress_level=1)
            own = ["--model", model, "--force"]
            there = cost(
                "compress", source, coded, *own, "--effort", str(effort), "--lossless", "never"
            )
            rows.append([f"{size:g}", *there, *cost("decompress", coded, back, *own)])
    columns = ["megapixels", "compress, MB", "seconds", "decompress, MB", "seconds"]
    print_table(f"effort {effort}", columns, rows)
    print_made(model)


if __name__ == "__main__":
    main()
