"""Peak memory and seconds for a very large image, compressed and restored by the command line."""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import common
from common import (
    Benchmark,
    console,
    in_fresh_process,
    json_option,
    model_option,
    print_table,
    psnr,
    store,
    tiled_photograph,
    yes,
)

from vqcodec import image

LIMIT = 4 << 30


@dataclass(frozen=True)
class Run:
    """One command.

    Attributes:
        command: Its name.
        seconds: From start to end, imports excluded.
        peak: Largest resident memory in bytes.
        output: Bytes of what it wrote.
    """

    command: str
    seconds: float
    peak: int
    output: int


def run_command(command: str, source: Path, target: Path, options: list[str]) -> Run:
    """Runs `vqcodec COMMAND SOURCE TARGET OPTIONS`; to be called in a process of its own."""
    from vqcodec.cli import main as vqcodec

    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        vqcodec([command, str(source), str(target), *options], standalone_mode=False)
    seconds = time.perf_counter() - start
    return Run(command, seconds, common.memory("VmHWM"), target.stat().st_size)


@click.command(cls=Benchmark)
@click.option("--megapixels", type=click.FloatRange(0.001), default=100.0, show_default=True)
@click.option("--tile", type=int, default=1024, show_default=True)
@common.quality_option
@model_option
@json_option
def main(
    megapixels: float, tile: int, quality: int | None, model: str, json_file: Path | None
) -> None:
    """Compresses and restores a square image made of photographs of the tests, 100 megapixels."""
    side = math.isqrt(round(megapixels * 1e6))
    picture = tiled_photograph(side, side)
    chosen = ["--model", model]
    coding = [
        *chosen,
        "--tile",
        str(tile),
        *([] if quality is None else ["--quality", f"{quality}"]),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        # PPM costs no time to write and read, so the seconds are the codec's.
        source, coded, restored = (Path(temporary) / f"{n}" for n in ("a.ppm", "a.vqz", "b.ppm"))
        source.write_bytes(image.dump(picture, "PPM"))
        runs = []
        for command, paths, options in (
            ("compress", (source, coded), coding),
            ("decompress", (coded, restored), chosen),
        ):
            console.print(f"{command}, {side}x{side}")
            runs.append(in_fresh_process(run_command, command, *paths, options))
        quality_found = psnr(picture.pixels, image.load(restored).pixels)
    bpp = 8 * runs[0].output / side**2
    print_table(
        f"{side}x{side} = {side * side / 1e6:.1f} megapixels, tiles of {tile}: "
        f"{bpp:.4f} bpp, {quality_found:.2f} dB",
        ["command", "seconds", "peak GB (2^30)", f"within {LIMIT >> 30} GB", "bytes written"],
        [
            [
                run.command,
                f"{run.seconds:.1f}",
                f"{run.peak / 2**30:.2f}",
                yes(run.peak <= LIMIT),
                run.output,
            ]
            for run in runs
        ],
    )
    store(
        json_file,
        "memory",
        model,
        {
            "side": side,
            "tile": tile,
            "bpp": bpp,
            "psnr": quality_found,
            "runs": [asdict(run) for run in runs],
        },
    )


if __name__ == "__main__":
    main()
