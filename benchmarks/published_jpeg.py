"""JPEG and WebP of this Pillow on the Kodak images, against the curves that CompressAI published.

Needs no vqcodec, so that it also runs under the Pillow that made the curves (7.1.2; Python 3.8,
`pip install pillow==7.1.2 numpy scipy click`).
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any, Mapping, Sequence  # noqa: UP035 (Python 3.8)

import click
import numpy as np
import PIL
import PIL.Image
from scipy.interpolate import PchipInterpolator

PUBLISHED = Path(__file__).resolve().parents[1] / "vqcodec" / "bench" / "published_kodak.csv"
QUALITIES = range(5, 100, 5)  # of the published curves
OPTIMIZED = {"optimize": True, "progressive": True, "subsampling": "4:2:0"}
SETTINGS = [
    ("JPEG", "as published: Pillow's defaults, 4:2:0", {}),
    ("JPEG", "optimized, progressive, 4:2:0", OPTIMIZED),
    ("WebP", "as published: Pillow's defaults", {}),
]


def published_points(codec: str) -> list[tuple[float, float]]:
    """Points (bpp, PSNR in dB) of a published curve."""
    with PUBLISHED.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["codec"] == codec]
    return [(float(row["bpp"]), float(row["psnr_db"])) for row in rows]


def measured_point(
    pictures: Sequence[np.ndarray], codec: str, quality: int, options: Mapping[str, Any]
) -> tuple[float, float]:
    """Mean bpp and mean PSNR in dB of uint8 [H, W, 3] pictures."""
    rates, decibels = [], []
    for pixels in pictures:
        stream = io.BytesIO()
        PIL.Image.fromarray(pixels).save(stream, codec, quality=quality, **options)
        rates.append(8 * len(stream.getvalue()) / (pixels.shape[0] * pixels.shape[1]))
        restored = np.asarray(PIL.Image.open(stream).convert("RGB"), np.float64)
        decibels.append(10 * math.log10(255**2 / np.square(restored - pixels).mean()))
    return float(np.mean(rates)), float(np.mean(decibels))


def published_differences(
    pictures: Sequence[np.ndarray],
    codec: str,
    options: Mapping[str, Any],
    qualities: Sequence[int] = QUALITIES,
) -> list[tuple[float, ...]]:
    """How measured points differ from the published curve of a codec.

    Returns:
        By quality: bpp, PSNR in dB, dB above the published curve at that bpp (NaN outside of it),
        and the differences in bpp (%) and dB from the published point of the same quality.
    """
    points = published_points(codec)
    rates, values = zip(*points)  # noqa: B905 (Python 3.8)
    curve = PchipInterpolator(np.log(rates), values, extrapolate=False)
    rows = []
    for quality in qualities:
        bpp, decibels = measured_point(pictures, codec, quality, options)
        same_bpp, same_decibels = points[QUALITIES.index(quality)]
        at_rate = decibels - float(curve(math.log(bpp)))
        same = (100 * (bpp / same_bpp - 1), decibels - same_decibels)
        rows.append((quality, bpp, decibels, at_rate, *same))
    return rows


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
def main(folder: str) -> None:
    """Tables for the 24 Kodak images in FOLDER (kodim01.png to kodim24.png)."""
    paths = sorted(Path(folder).glob("kodim[0-9][0-9].png"))
    if len(paths) != 24:
        raise click.ClickException(f"{folder}: has {len(paths)} of the 24 Kodak images")
    pictures = [np.asarray(PIL.Image.open(str(path)).convert("RGB")) for path in paths]
    click.echo(f"Pillow {PIL.__version__}")
    for codec, title, options in SETTINGS:
        rows = published_differences(pictures, codec, options)
        gaps = [row[3] for row in rows if not math.isnan(row[3])]
        click.echo(f"\n{codec}, {title}: {min(gaps):+.3f} to {max(gaps):+.3f} dB at equal rate")
        click.echo("quality      bpp  PSNR dB  dB at equal rate   same quality: bpp %       dB")
        for row in rows:
            click.echo("{:7d} {:8.4f} {:8.3f} {:17.4f} {:21.4f} {:8.4f}".format(*row))


if __name__ == "__main__":
    main()
