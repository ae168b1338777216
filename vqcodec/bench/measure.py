"""Files, seconds, peak memory and distortion of codecs over images.

A codec encodes in one process and decodes in another, which sees nothing but the files. Both are
warm when the first measurement begins, and nothing else of the benchmark runs beside them; the
distortion is judged between qualities, by all processors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcodec.bench import coding
from vqcodec.bench.codecs import Codec
from vqcodec.bench.curves import means
from vqcodec.bench.images import picture
from vqcodec.bench.judges import PSNR, Judge
from vqcodec.bench.processes import fresh
from vqcodec.errors import CodecError
from vqcodec.files import make_folder
from vqcodec.progress import Progress


def _judge(source: Path, pixels: Path, judges: Sequence[Judge]) -> dict[str, float | None]:
    original, restored = picture(source), np.load(pixels)
    pixels.unlink()
    return {judge.key: judge.measure(original, restored) for judge in judges}


@dataclass(frozen=True)
class Measuring:
    """How to measure.

    Attributes:
        sources: The images' files.
        folder: Where the codecs' files go, a folder a codec.
        runs: How often an image is encoded, and decoded, at each quality.
        judges: Of distortion.
        processes: That judge at the same time.
        progress: Called with (stage, done, total).
    """

    sources: Sequence[Path]
    folder: Path
    runs: int
    judges: Sequence[Judge]
    processes: int
    progress: Progress

    def measure(
        self, codec: Codec, enough: Callable[[Sequence[dict[str, Any]]], bool] = lambda rows: False
    ) -> list[dict[str, Any]]:
        """Measures a codec.

        Args:
            codec: Which.
            enough: Whether the rows so far, all images at each of the first qualities, will do.

        Returns:
            A row of the results an image and quality: see `results`.

        Raises:
            CodecError: the codec fails on an image.
        """
        folder = self.folder / codec.key
        make_folder(folder)
        rows: list[dict[str, Any]] = []
        with (
            fresh(codec.prepare) as encoding,
            fresh(codec.prepare) as decoding,
            fresh(partial(torch.set_num_threads, 1), count=self.processes) as judging,
        ):

            def code(source: Path, quality: int, runs: int) -> dict[str, Any]:
                file = folder / f"{source.stem}-{quality}{codec.suffix}"
                pixels = file.with_suffix(".npy")
                size, level_bits, encode = encoding.submit(
                    coding.encode, codec, source, quality, file, runs
                ).result()
                decode = decoding.submit(coding.decode, codec, file, pixels, runs).result()
                original, restored = picture(source), np.load(pixels)
                if restored.shape != original.shape:
                    raise CodecError(f"{codec.name} restored {restored.shape} of {original.shape}")
                return {
                    "codec": codec.key,
                    "image": source.name,
                    "quality": quality,
                    "bytes": size,
                    "bpp": 8 * size / (original.shape[0] * original.shape[1]),
                    "encode_seconds": encode.seconds,
                    "decode_seconds": decode.seconds,
                    "encode_peak": encode.peak,
                    "decode_peak": decode.peak,
                    "level_bits": level_bits,
                }

            code(self.sources[0], codec.qualities[0], runs=1)  # warms both up
            total = len(codec.qualities) * len(self.sources)
            for quality in codec.qualities:
                found = []
                for source in self.sources:
                    found.append(code(source, quality, self.runs))
                    self.progress(codec.name, len(rows) + len(found), total)
                # Now, not at the end: pixels of all qualities would fill a disk.
                judged = judging.map(
                    _judge,
                    self.sources,
                    [folder / f"{source.stem}-{quality}.npy" for source in self.sources],
                    [self.judges] * len(found),
                )
                rows += [{**row, **more} for row, more in zip(found, judged, strict=True)]
                if enough(rows):
                    break
        return rows


def covered(rows: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a peer's curve ends above another codec's in bitrate and in PSNR.

    Args:
        rows: Of the peer, up to its last quality.
        ours: Of the other codec.
    """
    ends = [
        [max(point[axis] for point in means(some, [PSNR.metric])) for axis in ("bpp", PSNR.key)]
        for some in (rows, ours)
    ]
    return all(theirs > best for theirs, best in zip(*ends, strict=True))


def runs_for(images: int, timings: int = 5) -> int:
    """How often to run each image so that a quality gets so many timings at least."""
    return math.ceil(timings / images)
