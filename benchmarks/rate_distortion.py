"""Rate and distortion of a folder of images, against Pillow's codecs.

Every image is compressed at every quality in this process, restored in another one that sees the
.vqz files only, and compared: indices, size against ideal code length, bpp, PSNR.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import bjontegaard
import click
import numpy as np
import PIL.features
from common import (
    Benchmark,
    Maps,
    Pixels,
    console,
    encoded_size,
    find_images,
    folder_argument,
    fresh_process,
    json_option,
    load_picture,
    model_option,
    print_table,
    psnr,
    recorded,
    store,
    yes,
)
from rich.progress import track
from scipy.interpolate import PchipInterpolator

from vqcodec.codec import compress, decompress
from vqcodec.model import load

BOUND_SHARE, BOUND_BYTES = 0.002, 100.0
METHODS = ("pchip", "akima")


@dataclass(frozen=True)
class Point:
    """Means over the images at one quality of one codec."""

    quality: int
    bpp: float
    psnr: float


@dataclass(frozen=True)
class Coded:
    """One image at one quality.

    Attributes:
        name: Of the image.
        quality: Of the file.
        size: Bytes of the file.
        pixels: Of the image.
        ideal_bits: Per level, what the priors promise.
        psnr: In dB, of what the other process restored.
        identical: Whether it decoded the indices that were coded.
    """

    name: str
    quality: int
    size: int
    pixels: int
    ideal_bits: list[float]
    psnr: float
    identical: bool

    @property
    def bpp(self) -> float:
        """All bits of the file over the pixels."""
        return 8 * self.size / self.pixels

    @property
    def excess(self) -> float:
        """Bytes above the ideal code length."""
        return self.size - sum(self.ideal_bits) / 8

    @property
    def allowance(self) -> float:
        """Bytes by which a file may miss the ideal code length."""
        return BOUND_SHARE * sum(self.ideal_bits) / 8 + BOUND_BYTES


def restore(path: Path, model: str) -> tuple[Pixels, Maps]:
    """Pixels and indices of a file; runs in the other process."""
    with recorded("synthesize") as found:
        restored = decompress(path.read_bytes(), model=model)
    return restored.pixels, found[-1]


def code(
    paths: Sequence[Path], qualities: Sequence[int], model: str, folder: Path
) -> Iterator[Coded]:
    written: list[tuple[Path, Path, int, list[float], Maps]] = []
    jobs = [(path, quality) for path in paths for quality in qualities]
    for path, quality in track(jobs, "compress", console=console):
        with recorded("encode") as found:
            compressed = compress(load_picture(path), quality=quality, model=model)
        target = folder / f"{path.stem}-{quality}.vqz"
        target.write_bytes(compressed.data)
        written.append((path, target, quality, compressed.ideal_bits, found[-1]))
    with fresh_process() as process:
        for path, target, quality, bits, maps in track(written, "decompress", console=console):
            pixels, decoded = process.submit(restore, target, model).result()
            original = load_picture(path).pixels
            yield Coded(
                name=path.name,
                quality=quality,
                size=target.stat().st_size,
                pixels=original.shape[0] * original.shape[1],
                ideal_bits=bits,
                psnr=psnr(original, pixels),
                identical=all(map(np.array_equal, maps, decoded)) and len(maps) == len(decoded),
            )


def means(coded: Sequence[Coded]) -> list[Point]:
    """One point a quality."""
    return [
        Point(
            quality,
            fmean(each.bpp for each in coded if each.quality == quality),
            fmean(each.psnr for each in coded if each.quality == quality),
        )
        for quality in sorted({each.quality for each in coded})
    ]


# Anchors


@dataclass(frozen=True)
class Anchor:
    """A codec of Pillow: options, and the qualities to try in ascending order.

    The first `least` qualities are always taken, the others until the curve covers the model's.
    """

    name: str
    format: str
    options: dict[str, Any]
    qualities: tuple[int, ...]
    least: int


ANCHORS = {
    "jpeg": Anchor(
        "JPEG optimized progressive 4:2:0",
        "JPEG",
        {"optimize": True, "progressive": True, "subsampling": "4:2:0"},
        tuple(range(5, 100, 5)),
        12,  # up to 60
    ),
    "webp": Anchor("WebP method 6", "WEBP", {"method": 6}, (0, 2, 5, *range(10, 101, 10)), 5),
    "avif": Anchor(
        "AVIF speed 6 4:2:0",
        "AVIF",
        {"speed": 6, "subsampling": "4:2:0"},
        tuple(range(5, 100, 5)),
        8,
    ),
}


def anchor_curve(anchor: Anchor, pictures: Sequence[Pixels], model: Sequence[Point]) -> list[Point]:
    points: list[Point] = []
    for quality in track(anchor.qualities, anchor.name, console=console):
        covered = points and (
            points[-1].bpp > max(point.bpp for point in model)
            and points[-1].psnr > max(point.psnr for point in model)
        )
        if covered and len(points) >= anchor.least:
            break
        rates, psnrs = [], []
        for pixels in pictures:
            size, restored = encoded_size(pixels, anchor.format, quality=quality, **anchor.options)
            rates.append(8 * size / (pixels.shape[0] * pixels.shape[1]))
            psnrs.append(psnr(pixels, restored))
        points.append(Point(quality, fmean(rates), fmean(psnrs)))
    return points


# Comparison


def gap(anchor: Sequence[Point], point: Point) -> float:
    """PSNR of a point above an anchor's curve at its rate, in dB; NaN outside the curve."""
    ordered = sorted(anchor, key=lambda each: each.bpp)
    rates = [math.log(each.bpp) for each in ordered]
    curve = PchipInterpolator(rates, [each.psnr for each in ordered], extrapolate=False)
    return point.psnr - float(curve(math.log(point.bpp)))


def rising(points: Sequence[Point]) -> bool:
    """Whether rate and PSNR rise together, without which there is no curve."""
    ordered = sorted(points, key=lambda each: each.bpp)
    return all(a.bpp < b.bpp and a.psnr < b.psnr for a, b in itertools.pairwise(ordered))


def bjontegaard_deltas(
    anchor: Sequence[Point], points: Sequence[Point], method: str
) -> tuple[float, float]:
    """BD-rate in % and BD-PSNR in dB over the overlapping range; NaN where there is none."""
    if len(points) < 2 or not rising(points) or not rising(anchor):
        return math.nan, math.nan
    curves = [
        [getattr(each, axis) for each in sorted(curve, key=lambda each: each.bpp)]
        for curve in (anchor, points)
        for axis in ("bpp", "psnr")
    ]
    options: dict[str, Any] = {"method": method, "require_matching_points": False, "min_overlap": 0}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Curves do not overlap")
        rate: float = bjontegaard.bd_rate(*curves, **options)
        distortion: float = bjontegaard.bd_psnr(*curves, **options)
    return rate, distortion


def overlap(
    anchor: Sequence[Point], points: Sequence[Point], axis: str
) -> tuple[float, float] | None:
    """The range of bpp or psnr that both curves cover, if any."""
    values = [[getattr(each, axis) for each in curve] for curve in (anchor, points)]
    lowest, highest = max(map(min, values)), min(map(max, values))
    return (lowest, highest) if lowest < highest else None


def signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}"


@contextmanager
def kept_or_temporary(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def report_model(coded: Sequence[Coded], points: Sequence[Point]) -> None:
    levels = range(len(coded[0].ideal_bits))
    rows = []
    for point in points:
        mine = [each for each in coded if each.quality == point.quality]
        bits = [fmean(each.ideal_bits[level] / each.pixels for each in mine) for level in levels]
        rows.append(
            [point.quality, f"{point.bpp:.4f}", f"{point.psnr:.2f}", *(f"{b:.4f}" for b in bits)]
        )
    print_table(
        f"mean over {len({each.name for each in coded})} images",
        ["quality", "bpp", "PSNR dB", *(f"level {level} bpp (ideal)" for level in levels)],
        rows,
    )


def report_checks(coded: Sequence[Coded]) -> bool:
    worst = max(coded, key=lambda each: abs(each.excess) / each.allowance)
    inside = sum(abs(each.excess) <= each.allowance for each in coded)
    identical = sum(each.identical for each in coded)
    print_table(
        "checks",
        ["what", "images x qualities", "holds"],
        [
            [
                "decoded indices identical",
                f"{identical}/{len(coded)}",
                yes(identical == len(coded)),
            ],
            [
                f"size within {BOUND_SHARE:.1%} + {BOUND_BYTES:.0f} bytes of ideal; worst "
                f"{worst.name} at {worst.quality}: {worst.size} bytes, ideal "
                f"{worst.size - worst.excess:.1f}, {worst.excess:+.1f} of {worst.allowance:.1f}",
                f"{inside}/{len(coded)}",
                yes(inside == len(coded)),
            ],
        ],
    )
    return inside == identical == len(coded)


def report_anchors(points: Sequence[Point], curves: dict[str, list[Point]]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    rows = []
    for key, curve in curves.items():
        deltas = {method: bjontegaard_deltas(curve, points, method) for method in METHODS}
        decibels, rates = overlap(curve, points, "psnr"), overlap(curve, points, "bpp")
        rows.append(
            [
                ANCHORS[key].name,
                *(signed(deltas[method][0]) for method in METHODS),
                *(signed(deltas[method][1]) for method in METHODS),
                f"{decibels[0]:.2f}..{decibels[1]:.2f}" if decibels else "none",
                f"{rates[0]:.3f}..{rates[1]:.3f}" if rates else "none",
            ]
        )
        results[key] = {
            "curve": [asdict(point) for point in curve],
            "bd_rate_percent": {method: deltas[method][0] for method in METHODS},
            "bd_psnr_db": {method: deltas[method][1] for method in METHODS},
            "overlap_psnr": decibels,
            "overlap_bpp": rates,
            "gap_db": {point.quality: gap(curve, point) for point in points},
        }
    print_table(
        "Bjontegaard deltas over the overlapping range (negative rate: fewer bits than the anchor)",
        [
            "anchor",
            *(f"BD-rate % ({method})" for method in METHODS),
            *(f"BD-PSNR dB ({method})" for method in METHODS),
            "PSNR dB",
            "bpp",
        ],
        rows,
    )
    print_table(
        "dB above the anchor's curve at the model's rate",
        ["quality", "bpp", "PSNR dB", *(ANCHORS[key].name for key in curves)],
        [
            [
                point.quality,
                f"{point.bpp:.4f}",
                f"{point.psnr:.2f}",
                *(signed(gap(curve, point)) for curve in curves.values()),
            ]
            for point in points
        ],
    )
    print_table(
        "the anchors' curves",
        ["anchor", "quality", "bpp", "PSNR dB"],
        [
            [ANCHORS[key].name, each.quality, f"{each.bpp:.4f}", f"{each.psnr:.2f}"]
            for key, curve in curves.items()
            for each in curve
        ],
    )
    return results


@click.command(cls=Benchmark)
@folder_argument
@click.option(
    "--quality", "qualities", type=int, multiple=True, metavar="N", help="Several; all if none."
)
@click.option(
    "--anchor", "anchors", type=click.Choice([*ANCHORS, "none"]), multiple=True, default=[*ANCHORS]
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep the .vqz files here.",
)
@model_option
@json_option
def main(
    folder: Path,
    qualities: tuple[int, ...],
    anchors: tuple[str, ...],
    keep: Path | None,
    model: str,
    json_file: Path | None,
) -> None:
    """Rate and distortion of the images in FOLDER. Exit code 1 if indices or sizes are wrong."""
    paths = find_images(folder)
    wanted = sorted(set(qualities)) or list(range(1, load(model).qualities + 1))
    with kept_or_temporary(keep) as files:
        coded = list(code(paths, wanted, model, files))
    points = means(coded)
    report_model(coded, points)
    good = report_checks(coded)
    chosen = [key for key in dict.fromkeys(anchors) if key != "none"]
    if "avif" in chosen and not PIL.features.check("avif"):
        console.print("this Pillow has no AVIF; left out")
        chosen.remove("avif")
    pictures = [load_picture(path).pixels for path in paths]
    curves = {key: anchor_curve(ANCHORS[key], pictures, points) for key in chosen}
    against = report_anchors(points, curves) if curves else {}
    store(
        json_file,
        "rate_distortion",
        model,
        {
            "points": [asdict(point) for point in points],
            "anchors": against,
            "all_indices_identical": all(each.identical for each in coded),
            "all_sizes_inside": all(abs(each.excess) <= each.allowance for each in coded),
            "images": [
                {**asdict(each), "excess": each.excess, "allowance": each.allowance}
                for each in coded
            ],
        },
    )
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
