"""Single stations of the corridor, for tests that look at indices between image and file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vqcodec import container
from vqcodec.choosing.choice import choose
from vqcodec.choosing.effort import DEFAULT_EFFORT
from vqcodec.container import Container, Header
from vqcodec.image import Image
from vqcodec.tiles import Tiles
from vqcodec.weights_file import Model, load


def random_indices(
    model: Model, count: int, height: int, width: int, seed: int = 0
) -> list[Tensor]:
    """Per level int64 [N, G, H/s, W/s] for an area [height, width] of whole coarsest positions."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.stack(
            [
                torch.randint(k, (count, height // stride, width // stride), generator=generator)
                for k in prior.sizes
            ],
            1,
        )
        for prior, stride in zip(model.priors, model.strides, strict=True)
    ]


def found_indices(image: Image, header: Header, weights: Path, batch: int = 4) -> list[Tensor]:
    """Per level the indices [G, H/s, W/s] that compressing into a file with this header finds."""
    return choose(Tiles(load(weights), header, batch), image.pixels, DEFAULT_EFFORT, 1.0)


def decoded_indices(data: bytes, weights: Path, batch: int = 4) -> list[Tensor]:
    """Per level the indices [G, H/s, W/s] that a file holds."""
    contents = container.unpack(data)
    tiles = Tiles(load(weights), contents.header, batch)
    indices: list[Tensor] = []
    for payloads in contents.sections:
        indices.append(tiles.decode(payloads, indices))
    return indices


def file_of(
    header: Header, extras: dict[int, bytes], indices: list[Tensor], weights: Path, batch: int = 4
) -> bytes:
    """The file that holds these indices [G, H/s, W/s]."""
    tiles = Tiles(load(weights), header, batch)
    sections = [tiles.encode(indices[: level + 1])[0] for level in range(header.levels)]
    crc = tiles.indices_crc(indices)
    return container.pack(Container(header, extras, tuple(sections), crc, complete=True))
