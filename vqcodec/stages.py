"""The stages of the corridor, for one image and one model.

    pixels  <->  indices  <->  payloads

Indices are kept as whole maps, so that tiles are borders for the priors alone: the networks see
`HALO` pixels around a tile, on either way, and tiles join without visible seams.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.container import Header
from vqcodec.entropy.coder import Decoder, Encoder
from vqcodec.entropy.frequencies import TOTAL_BITS
from vqcodec.entropy.prior import Choose, Prior, State
from vqcodec.entropy.wavefront import steps
from vqcodec.model import Model
from vqcodec.tiling import Window, batches, crop, grow, pad, padded, split

HALO = 64
BATCH_TILE = 1024

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


class Stages:
    """Analysis, synthesis, encoding and decoding of the indices of one image.

    Args:
        model: The model.
        header: Of the image's file; its size, tile, and quality are used.
        batch: Tiles at a time; fewer if they are larger than 1024 x 1024 pixels.
        progress: Called with (stage, done, total), or None.
    """

    def __init__(self, model: Model, header: Header, batch: int, progress: Progress | None) -> None:
        self.model = model
        self.header = header
        self.batch = max(1, min(batch, batch * BATCH_TILE**2 // header.tile**2))
        self.progress = progress
        coarsest = model.strides[0]
        self.area = (padded(header.height, coarsest), padded(header.width, coarsest))
        self.halo = padded(HALO, coarsest)
        self.tiles = split(*self.area, header.tile)

    # Pixels <-> indices

    def analyze(self, pixels: npt.NDArray[np.uint8]) -> list[Tensor]:
        """Pixels to indices.

        Args:
            pixels: uint8 [H, W, 3].

        Returns:
            Per level int64 [G, H'/s, W'/s] of the padded image.
        """
        whole = pad(pixels, self.model.strides[0])
        maps = [self._empty_map(level) for level in range(len(self.model.strides))]
        done = 0
        for tiles in self._batches_with_halo():
            around = [self._grown(tile) for tile in tiles]
            crops = torch.from_numpy(np.stack([whole[window.slices] for window in around]))
            found, _ = self.model.autoencoder.quantize(
                crops.to(self.model.device), self._quality(len(tiles))
            )
            for level, (parts, stride) in enumerate(zip(found, self.model.strides, strict=True)):
                for tile, window, part in zip(tiles, around, parts, strict=True):
                    inner = _within(tile, window) // stride
                    _cut(maps[level], tile // stride).copy_(_cut(part, inner))
            done += len(tiles)
            self._report("analysis", done, len(self.tiles))
        return maps

    def synthesize(self, indices: Sequence[Tensor]) -> npt.NDArray[np.uint8]:
        """Indices to pixels.

        Args:
            indices: Of the first levels, one at least: int64 [G, H'/s, W'/s] each.

        Returns:
            uint8 [H, W, 3].
        """
        whole = np.empty((*self.area, 3), np.uint8)
        done = 0
        for tiles in self._batches_with_halo():
            around = [self._grown(tile) for tile in tiles]
            crops = [self._stacked(indices, level, around) for level in range(len(indices))]
            found = self.model.autoencoder.synthesize(crops, self._quality(len(tiles)))
            for tile, window, part in zip(tiles, around, found.cpu().numpy(), strict=True):
                whole[tile.slices] = part[_within(tile, window).slices]
            done += len(tiles)
            self._report("synthesis", done, len(self.tiles))
        return crop(whole, self.header.height, self.header.width)

    # Indices <-> payloads

    def encode(self, indices: Sequence[Tensor]) -> tuple[tuple[bytes, ...], float]:
        """The last of some levels' indices to the payloads of its tiles.

        Args:
            indices: Of the levels up to the one to encode: int64 [G, H'/s, W'/s] each.

        Returns:
            The payloads in raster order of the tiles, and their ideal code length in bits.
        """
        level = len(indices) - 1
        prior = self.model.priors[level]
        payloads: dict[Window, bytes] = {}
        ideal = 0.0
        for tiles in batches(self.tiles, self.batch):
            own = self._stacked(indices, level, tiles)
            frequencies = prior.parallel(self._start(indices[:level], tiles), own).cpu()
            symbols = own.flatten(2).cpu()
            chosen = frequencies.gather(-1, symbols[..., None]).double()
            ideal += float((TOTAL_BITS - chosen.log2()).sum())
            for n, tile in enumerate(tiles):
                encoder = Encoder()
                for step in steps(*own.shape[2:]):
                    for g, size in enumerate(prior.sizes):
                        encoder.encode(symbols[n, g, step], frequencies[n, g, step, :size])
                payloads[tile] = encoder.payload()
            self._report(f"encode level {level}", len(payloads), len(self.tiles))
        return tuple(payloads[tile] for tile in self.tiles), ideal

    def decode(self, payloads: Sequence[bytes], coarser: Sequence[Tensor]) -> Tensor:
        """The payloads of a level's tiles to its indices.

        Args:
            payloads: In raster order of the tiles.
            coarser: Indices of all coarser levels: int64 [G, H'/s, W'/s] each.

        Returns:
            int64 [G, H'/s, W'/s].

        Raises:
            SectionError: a payload does not fit its model.
        """
        level = len(coarser)
        stride = self.model.strides[level]
        whole = self._empty_map(level)
        payload_of = dict(zip(self.tiles, payloads, strict=True))
        done = 0
        for tiles in batches(self.tiles, self.batch):
            decoders = [Decoder(payload_of[tile]) for tile in tiles]

            def report(step: int, of: int, before: int = done, count: int = len(tiles)) -> None:
                total = of * len(self.tiles)
                self._report(f"decode level {level}", before * of + step * count, total)

            found = self.model.priors[level].wavefront(
                self._start(coarser, tiles), _read_with(self.model.priors[level], decoders), report
            )
            for tile, part, decoder in zip(tiles, found, decoders, strict=True):
                decoder.finish()
                _cut(whole, tile // stride).copy_(part)
            done += len(tiles)
        return whole

    def indices_crc(self, indices: Sequence[Tensor]) -> int:
        """CRC-32 of all indices, u16 each, in the order level, tile, position, codebook."""
        crc = 0
        for whole, stride in zip(indices, self.model.strides, strict=False):
            for tile in self.tiles:
                part = _cut(whole, tile // stride).permute(1, 2, 0).cpu().numpy()
                crc = zlib.crc32(part.astype("<u2").tobytes(), crc)
        return crc

    def _start(self, coarser: Sequence[Tensor], tiles: Sequence[Window]) -> State:
        """State of the prior of the level after the coarser ones, for tiles of equal shape."""
        level = len(coarser)
        maps = [self._stacked(coarser, m, tiles) for m in range(level)]
        quality = self._quality(len(tiles))
        shape = tiles[0] // self.model.strides[level]
        return self.model.priors[level].start(
            maps, quality, torch.zeros_like(quality), shape.height, shape.width
        )

    def _stacked(self, indices: Sequence[Tensor], level: int, windows: Sequence[Window]) -> Tensor:
        """A level's indices in windows of equal shape: int64 [N, G, h, w]."""
        stride = self.model.strides[level]
        return torch.stack([_cut(indices[level], window // stride) for window in windows])

    def _empty_map(self, level: int) -> Tensor:
        stride = self.model.strides[level]
        shape = (len(self.model.priors[level].sizes), *(side // stride for side in self.area))
        return torch.zeros(shape, dtype=torch.int64, device=self.model.device)

    def _quality(self, count: int) -> Tensor:
        return torch.full((count,), self.header.quality - 1, device=self.model.device)

    def _grown(self, tile: Window) -> Window:
        return grow(tile, self.halo, *self.area)

    def _batches_with_halo(self) -> list[list[Window]]:
        """Batches of tiles that have equal shapes with their halo, too."""
        groups: dict[tuple[int, int], list[Window]] = {}
        for tile in self.tiles:
            around = self._grown(tile)
            groups.setdefault((around.height, around.width), []).append(tile)
        return [part for group in groups.values() for part in batches(group, self.batch)]

    def _report(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)


def _cut(maps: Tensor, window: Window) -> Tensor:
    """A view of a window of [G, H, W]."""
    return maps[(slice(None), *window.slices)]


def _within(window: Window, around: Window) -> Window:
    """`window` in the coordinates of `around`."""
    return Window(window.top - around.top, window.left - around.left, window.height, window.width)


def _read_with(prior: Prior, decoders: Sequence[Decoder]) -> Choose:
    """Symbols from payloads, one decoder a map."""

    def read(codebook: int, logits: Tensor) -> Tensor:
        frequencies = prior.frequencies(logits)
        rows = [coder.decode(each) for coder, each in zip(decoders, frequencies, strict=True)]
        return torch.from_numpy(np.stack(rows)).long()

    return read
