"""The stages of the corridor, for one image and one model.

    pixels  <->  indices  <->  payloads

Indices are kept as whole maps, so that tiles are borders for the priors alone: the networks see
`HALO` pixels around a tile, on either way, and tiles join without visible seams.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec import container
from vqcodec.choosing.effort import SWEEPS
from vqcodec.choosing.search import search
from vqcodec.container import Container, Header
from vqcodec.entropy.coder import Decoder, Encoder
from vqcodec.entropy.frequencies import code_lengths
from vqcodec.entropy.prior import Choose, Prior, State
from vqcodec.entropy.wavefront import steps
from vqcodec.errors import ChecksumError, HeaderError, ModelError, WeightsError
from vqcodec.image import Image, load_alpha
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.progress import Progress
from vqcodec.tiling import Window, batches, crop, grow, pad, padded, split
from vqcodec.weights_file import Model, load

HALO = 64
BATCH_TILE = 1024
SEARCH_TILE = 256


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

    def analyze(
        self, pixels: npt.NDArray[np.uint8], effort: int = 1, rate_weight: float = 1.0
    ) -> list[Tensor]:
        """Pixels to indices.

        Args:
            pixels: uint8 [H, W, 3].
            effort: 1 to `effort.MAX_EFFORT`; above 1, the indices of the finest level are searched
                for (`vqcodec.choosing.search`). Models without a rate model have 1 only.
            rate_weight: How much more a bit costs in the choice than the quality says; without
                effect on models without a rate model.

        Returns:
            Per level int64 [G, H'/s, W'/s] of the padded image.
        """
        whole = pad(pixels, self.model.strides[0])
        maps = [self._empty_map(level) for level in range(len(self.model.strides))]
        done = 0
        for tiles in self._batches_with_halo():
            around = [self._grown(tile) for tile in tiles]
            crops = torch.from_numpy(np.stack([whole[window.slices] for window in around]))
            found = self._quantize(crops.to(self.model.device), rate_weight)
            for level, (parts, stride) in enumerate(zip(found, self.model.strides, strict=True)):
                for tile, window, part in zip(tiles, around, parts, strict=True):
                    inner = _within(tile, window) // stride
                    _cut(maps[level], tile // stride).copy_(_cut(part, inner))
            done += len(tiles)
            self._report("analysis", done, len(self.tiles))
        if isinstance(self.model.autoencoder, Autoencoder) and SWEEPS[effort - 1]:
            self._search(self.model.autoencoder, whole, maps, SWEEPS[effort - 1], rate_weight)
        return maps

    def _quantize(self, crops: Tensor, rate_weight: float) -> list[Tensor]:
        """The analysis of uint8 [N, H, W, 3]: per level int64 [N, G, H/s, W/s]."""
        autoencoder = self.model.autoencoder
        quality = self._quality(len(crops))
        if isinstance(autoencoder, Autoencoder):
            return autoencoder.quantize(crops, quality, rate_weight=rate_weight)[0]
        return autoencoder.quantize(crops, quality)[0]

    def _search(
        self,
        autoencoder: Autoencoder,
        whole: npt.NDArray[np.uint8],
        maps: Sequence[Tensor],
        sweeps: int,
        rate_weight: float,
    ) -> None:
        """Replaces the indices of the finest level by better ones.

        Windows as large as the tiles, from 256 to 1024 pixels a side, bound the memory. One follows
        the other, so that each sees around it what the ones before have found.

        Args:
            autoencoder: The model's.
            whole: The padded pixels, uint8 [H', W', 3].
            maps: Indices of all levels, int64 [G, H'/s, W'/s] each.
            sweeps: Of `search`.
            rate_weight: Of `search`.
        """
        stride = self.model.strides[-1]
        side = min(max(self.header.tile, SEARCH_TILE), BATCH_TILE)
        windows = split(*self.area, padded(side, self.model.strides[0]))
        for n, window in enumerate(windows):
            around = self._grown(window)
            real = torch.zeros(around.height, around.width, dtype=torch.bool)
            real[: self.header.height - around.top, : self.header.width - around.left] = True
            free = torch.zeros_like(maps[-1][0], dtype=torch.bool)
            free[(window // stride).slices] = True
            found = search(
                autoencoder,
                torch.from_numpy(whole[around.slices].copy())[None].to(self.model.device),
                [self._stacked(maps, level, [around]) for level in range(len(maps))],
                self._quality(1),
                partial(self._code_lengths, maps[:-1], around),
                real=real.to(self.model.device),
                free=free[(around // stride).slices],
                sweeps=sweeps,
                rate_weight=rate_weight,
            )
            _cut(maps[-1], around // stride).copy_(found[0])
            self._report("search", n + 1, len(windows))

    def _code_lengths(self, coarser: Sequence[Tensor], window: Window, own: Tensor) -> Tensor:
        """`Prior.code_lengths` in a window, as if it was a tile."""
        return self.model.priors[len(coarser)].code_lengths(self._start(coarser, [window]), own)

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
        for tiles in batches(self.tiles, self._networks_batch):
            own = self._stacked(indices, level, tiles)
            state = self._start(indices[:level], tiles)
            frequencies, symbols = prior.parallel(state, own).cpu(), own.flatten(2).cpu()
            ideal += float(code_lengths(frequencies, symbols).sum())
            for n, tile in enumerate(tiles):
                encoder = Encoder()
                for step in steps(*own.shape[2:]):
                    for group in state.groups:
                        books = slice(group.codebooks.start, group.codebooks.stop)
                        rows = frequencies[n, books, step, : prior.sizes[books.start]]
                        encoder.encode(symbols[n, books, step].flatten(), rows.flatten(0, 1))
                payloads[tile] = encoder.payload()
            self._report(f"encode level {level}", len(payloads), len(self.tiles))
        return tuple(payloads[tile] for tile in self.tiles), ideal

    def decode(
        self,
        payloads: Sequence[bytes],
        coarser: Sequence[Tensor],
        tiles: Sequence[Window] | None = None,
    ) -> Tensor:
        """The payloads of a level's tiles to its indices.

        Args:
            payloads: In the order of the tiles.
            coarser: Indices of all coarser levels: int64 [G, H'/s, W'/s] each.
            tiles: The payloads' tiles; None for all of the level, in raster order.

        Returns:
            int64 [G, H'/s, W'/s], zero outside of the tiles.

        Raises:
            SectionError: a payload does not fit its model.
        """
        level = len(coarser)
        chosen = self.tiles if tiles is None else tiles
        decoders = {tile: Decoder(payload) for tile, payload in zip(chosen, payloads, strict=True)}

        def read(some: Sequence[Window]) -> Choose:
            return _read_with(self.model.priors[level], [decoders[tile] for tile in some])

        whole = self.find(chosen, coarser, read, f"decode level {level}")
        for decoder in decoders.values():
            decoder.finish()
        return whole

    def find(
        self,
        tiles: Sequence[Window],
        coarser: Sequence[Tensor],
        choose_in: Callable[[Sequence[Window]], Choose],
        stage: str,
    ) -> Tensor:
        """Finds the indices of some tiles of a level through the wavefront.

        Args:
            tiles: Which.
            coarser: Indices of all coarser levels: int64 [G, H'/s, W'/s] each.
            choose_in: Gives the source of the symbols of a batch of the tiles.
            stage: What to report.

        Returns:
            int64 [G, H'/s, W'/s], zero outside of the tiles.
        """
        level = len(coarser)
        stride = self.model.strides[level]
        whole = self._empty_map(level)
        done = 0
        for some in batches(tiles, self.batch):

            def report(step: int, of: int, before: int = done, count: int = len(some)) -> None:
                self._report(stage, before * of + step * count, of * len(tiles))

            start = self._start(coarser, some)
            found = self.model.priors[level].wavefront(start, choose_in(some), report)
            for tile, part in zip(some, found, strict=True):
                _cut(whole, tile // stride).copy_(part)
            done += len(some)
        return whole

    def indices_crc(self, indices: Sequence[Tensor]) -> int:
        """CRC-32 of all indices, u16 each, in the order level, tile, position, codebook."""
        crc = 0
        for whole, stride in zip(indices, self.model.strides, strict=False):
            for tile in self.tiles:
                part = _cut(whole, tile // stride).permute(1, 2, 0).cpu().numpy()
                crc = zlib.crc32(part.astype("<u2").tobytes(), crc)
        return crc

    def check_indices(self, indices: Sequence[Tensor], expected: int | None) -> None:
        """Compares all indices with the checksum of those that were coded.

        Raises:
            ChecksumError: they differ.
        """
        if self.indices_crc(indices) != expected:
            raise ChecksumError(
                "the decoded indices differ from those that were coded; the file was made by a "
                "faulty or altered encoder, get it again"
            )

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
        return [part for same in groups.values() for part in batches(same, self._networks_batch)]

    @property
    def _networks_batch(self) -> int:
        """Tiles at a time where all of a tile is computed at once.

        On a CPU a tile at a time is as fast, and takes a fraction of the memory.
        """
        return 1 if self.model.device.type == "cpu" else self.batch

    def _report(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)


def stages_for(
    header: Header, chosen: str | Path | None, device: str, batch: int, progress: Progress | None
) -> Stages:
    """The stages for a file, with the model it was coded with.

    Args:
        header: Of the file.
        chosen: The weights file, or None for the packaged model that the file names.
        device: Where to run the networks.
        batch: Tiles at a time.
        progress: Called with (stage, done, total), or None.

    Raises:
        HeaderError: the header asks for what the model does not have.
        ModelError: the model is missing or is another one.
    """
    expected = header.weights_hash.hex()
    try:
        model = load(chosen or header.model_id, device)
    except ModelError as error:
        error.args = (f"{error.args[0]}; the file was coded with weights of SHA-256 {expected}...",)
        raise
    if not model.sha256.startswith(expected):
        raise WeightsError(
            f"coded with weights of SHA-256 {expected}..., but those of {model.model_id} have "
            f"{model.sha256}; give the right file with --model FILE"
        )
    if header.levels != len(model.strides) or header.quality > model.qualities:
        raise HeaderError(
            f"claims {header.levels} levels and quality {header.quality}, which "
            f"{model.model_id} does not have; the file was made by a faulty encoder"
        )
    if header.tile % model.strides[0]:
        raise HeaderError(
            f"claims tiles of {header.tile} pixels, which {model.model_id} cannot have; "
            "the file was made by a faulty encoder"
        )
    return Stages(model, header, batch, progress)


def image_of(contents: Container, pixels: npt.NDArray[np.uint8]) -> Image:
    """The image of a file: its pixels, and what its header and extras say.

    Args:
        contents: The file.
        pixels: What `Stages.synthesize` gave, uint8 [H, W, 3].

    Raises:
        FormatError: the alpha channel is damaged.
    """
    header, extras = contents.header, contents.extras
    alpha = extras.get(container.EXTRA_ALPHA)
    return Image(
        pixels=_as_grey(pixels) if header.grey else pixels,
        grey=header.grey,
        alpha=None if alpha is None else load_alpha(alpha, header.height, header.width),
        icc=extras.get(container.EXTRA_ICC),
        exif=extras.get(container.EXTRA_EXIF),
    )


def _as_grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    mean = (pixels.sum(2, dtype=np.uint16) + 1) // 3
    return np.repeat(mean.astype(np.uint8)[:, :, None], 3, 2)


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
