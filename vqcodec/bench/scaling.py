"""Seconds and memory against the size of the picture."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vqcodec import image
from vqcodec.bench.codecs import vqcodec
from vqcodec.bench.coding import decode, encode
from vqcodec.bench.images import Pixels, fill
from vqcodec.bench.processes import fresh
from vqcodec.image import Image
from vqcodec.progress import Progress
from vqcodec.weights_file import load

MEGAPIXELS = (0.1, 0.4, 1.6, 6.3, 12.5, 25.0)
COLUMNS = ("compress_seconds", "decompress_seconds", "compress_peak", "decompress_peak")
WARM_SIDE = 128  # of the picture that warms a process up


def scaling(
    model: str,
    picture: Path,
    progress: Progress,
    *,
    quality: int | None = None,
    megapixels: Sequence[float] = MEGAPIXELS,
) -> dict[str, Any]:
    """Compresses and restores one picture at many sizes, each in a process of its own.

    A process codes a small corner to warm up, and then its file once. It takes the time from pixels
    to bytes, or back, and the largest resident memory meanwhile, that of the pixels included.

    Args:
        model: A model id, or the path of a weights file.
        picture: An image file; its mirror images fill what is larger.
        progress: Called with (stage, done, total).
        quality: Of the model; None for the middle.
        megapixels: Sizes, 10**6 pixels; the sides are as 3 to 2.

    Returns:
        "rows", one a size, and "fit": of each of `COLUMNS` the line through its values against the
        megapixels, None where the system tells no memory or there is one size only.

    Raises:
        CodecError: no such model or quality, or a picture that cannot be read.
    """
    chosen = load(model).checked_quality(quality)
    codec = vqcodec(model, [chosen], torch.get_num_threads())
    pixels = image.load(picture).pixels
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, small_coded = folder / "small.ppm", folder / "small.vqz"
        large, coded, restored = folder / "large.ppm", folder / "large.vqz", folder / "large.npy"
        _write(small, fill(pixels, WARM_SIDE, WARM_SIDE))
        for wanted in megapixels:
            height = max(1, round(math.sqrt(wanted * 1e6 / 1.5)))
            width = max(1, round(wanted * 1e6 / height))
            _write(large, fill(pixels, height, width))
            with fresh(codec.prepare) as process:
                process.submit(encode, codec, small, chosen, small_coded, 1).result()
                size, _, compressing = process.submit(
                    encode, codec, large, chosen, coded, 1
                ).result()
            with fresh(codec.prepare) as process:
                process.submit(decode, codec, small_coded, restored, 1).result()
                decompressing = process.submit(decode, codec, coded, restored, 1).result()
            rows.append(
                {
                    "megapixels": height * width / 1e6,
                    "width": width,
                    "height": height,
                    "compress_seconds": compressing.seconds,
                    "decompress_seconds": decompressing.seconds,
                    "compress_peak": compressing.peak,
                    "decompress_peak": decompressing.peak,
                    "bpp": 8 * size / (height * width),
                }
            )
            progress("scaling", len(rows), len(megapixels))
    return {"rows": rows, "fit": {column: line(rows, column) for column in COLUMNS}}


def line(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, float] | None:
    """Least squares of a column against megapixels.

    Returns:
        "intercept", "slope" (of a megapixel) and "r2"; None if one is missing or all are equal.
    """
    sizes, values = [row["megapixels"] for row in rows], [row[column] for row in rows]
    if None in values or len(set(values)) < 2:
        return None
    slope, intercept = statistics.linear_regression(sizes, values)
    r2 = statistics.correlation(sizes, values) ** 2
    return {"intercept": intercept, "slope": slope, "r2": r2}


def _write(target: Path, pixels: Pixels) -> None:
    """As PPM, which costs no time to write and read."""
    target.write_bytes(image.dump(Image(pixels, grey=False), "PPM"))
