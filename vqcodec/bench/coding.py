"""Encoding and decoding as it is measured: what runs in a codec's own processes.

Importing this loads no torch, so that the memory of a peer's process is the peer's.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from vqcodec.bench.codecs import Codec
from vqcodec.bench.cost import Cost, measured
from vqcodec.bench.images import picture
from vqcodec.files import write_atomically


def encode(
    codec: Codec, source: Path, quality: int, target: Path, runs: int
) -> tuple[int, list[float] | None, Cost]:
    """Encodes an image to a file.

    Returns:
        Bytes of the file as it is on the disk; of vqcodec, the ideal bits of each level; the cost.

    Raises:
        CodecError: the codec fails.
        OutputError: the file cannot be written.
    """
    pixels = picture(source)
    encoded, cost = measured(lambda: codec.encode(pixels, quality), runs)
    write_atomically(target, encoded.data, force=True)
    return target.stat().st_size, encoded.level_bits, cost


def decode(codec: Codec, file: Path, pixels: Path, runs: int) -> Cost:
    """Decodes a file, and leaves the pixels in a file of numpy's.

    Raises:
        CodecError: the codec fails.
        OutputError: the file cannot be written.
    """
    encoded = file.read_bytes()
    restored, cost = measured(lambda: codec.decode(encoded), runs)
    stream = io.BytesIO()
    np.save(stream, restored)
    write_atomically(pixels, stream.getvalue(), force=True)
    return cost
