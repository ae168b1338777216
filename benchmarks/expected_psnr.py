"""The PSNR that the default model's qualities give photographs, for `vqcodec/choosing/expected.py`.

    python benchmarks/expected_psnr.py

The photographs are those that scikit-image's package holds.
"""

from __future__ import annotations

import click
import numpy as np
import skimage.data

import vqcodec
from vqcodec.choosing.rate_control import psnr_of

QUALITIES = (1, 10, 25, 50, 75, 90, 100)
PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket")
EFFORT = 1


def psnr_at(pixels: np.ndarray, quality: int) -> float:
    coded = vqcodec.compress(pixels, quality=quality, effort=EFFORT, lossless="never")
    return psnr_of(pixels, vqcodec.decompress(coded.data).pixels)


def main() -> None:
    photographs = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    for quality in QUALITIES:
        found = [psnr_at(pixels, quality) for pixels in photographs]
        each = ", ".join(f"{psnr:.1f}" for psnr in found)
        click.echo(f"({quality}, {np.mean(found):.1f}),  # {each}")


if __name__ == "__main__":
    main()
