"""Peak memory of a training on many photographs, its worker processes included.

The photographs are noisy gradients, fifty and links to them. Each process counts at its own peak,
and pages that they share, such as libraries, count in each: what it finds is more than they ever
held. Linux only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image

from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.cost import peak

SIZE = (1024, 768)
GRID = (16, 12)
NOISE = 12
DIFFERENT = 50
SECONDS_BETWEEN_LOOKS = 0.1


def write_photographs(folder: Path, count: int) -> None:
    """Files of `DIFFERENT` photographs, and links to them: decoded, each counts."""
    for n in tracked(range(count), "photographs"):
        path = folder / f"{n:06d}.jpg"
        if n >= DIFFERENT:
            path.hardlink_to(folder / f"{n % DIFFERENT:06d}.jpg")
            continue
        rng = np.random.default_rng(n)
        colours = Image.fromarray(rng.integers(0, 256, (*reversed(GRID), 3), np.uint8))
        smooth = np.asarray(colours.resize(SIZE, Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + rng.integers(-NOISE, NOISE + 1, (*reversed(SIZE), 1))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)


def family(process: int) -> Iterator[int]:
    """A process and all that come from it, as far as they are still there."""
    yield process
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def measure(command: list[str]) -> dict[int, int]:
    """Peak bytes of each process of a command, its own first."""
    peaks: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            for process in family(running.pid):
                peaks[process] = max(peaks.get(process, 0), peak(process) or 0)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if running.returncode:
        raise click.ClickException("the training failed")
    return peaks


@click.command(cls=Command)
@click.option("--images", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True)
def main(images: int, steps: int) -> None:
    """Measures the peak memory of a training on made-up photographs of 1024 x 768 pixels."""
    with tempfile.TemporaryDirectory(prefix="vqcodec-") as made:
        folder = Path(made)
        (folder / "photographs").mkdir()
        write_photographs(folder / "photographs", images)
        start = time.perf_counter()
        peaks = measure(
            [
                *(sys.executable, "-m", "vqcodec", "train", "autoencoder", str(folder / "run")),
                *("--images", str(folder / "photographs"), "--preset", "tiny", "--device", "cpu"),
                *("--steps", str(steps)),
            ]
        )
        seconds = time.perf_counter() - start
    parent, *children = peaks.values()
    print_table(
        f"{images} photographs, {steps} steps, {seconds:.0f} s",
        ["process", "MB at its peak"],
        [
            ["the training", f"{parent / 1e6:.0f}"],
            *(["of its own", f"{each / 1e6:.0f}"] for each in children),
            ["all", f"{sum(peaks.values()) / 1e6:.0f}"],
        ],
    )
    print_made(None)


if __name__ == "__main__":
    main()
