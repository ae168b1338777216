"""An image's tiles, and their way through the stages of the corridor in batches.

    pixels  <->  indices  <->  payloads

Indices are kept as whole maps, so that tiles are borders for the priors alone: the networks see
`HALO` pixels around a tile, on either way, and tiles join without visible seams.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec import arguments, compiling, container, kernels
from vqcodec.container import Header
from vqcodec.entropy import payload
from vqcodec.entropy.payload import StepsDone
from vqcodec.entropy.state import State
from vqcodec.errors import ChecksumError, CodecError, HeaderError, ModelError, WeightsError
from vqcodec.image import Image
from vqcodec.models.family import reduced
from vqcodec.progress import Progress
from vqcodec.syntheses import Synthesis
from vqcodec.threads import share
from vqcodec.tiling import Window, batches, cut_out, grow, padded, split, widened
from vqcodec.watch import stage
from vqcodec.weights_file import Model, load

HALO = 64
BATCH_TILE = 1024
DEFAULT_TILE = 1024
NARROW = 128
"""Pixels of the short side up to which an image is narrow: its tiles are long, and several are
coded side by side, as a step of one has a few positions only."""

Find = Callable[[State, Sequence[Window], StepsDone], Tensor]
"""A fresh state of N windows, these, and whom to tell of every step, to their indices: int64 [N, G,
h, w]."""


class Tiles:
    """Analysis, synthesis, encoding and decoding of the indices of one image.

    Args:
        model: The model.
        header: Of the image's file; its size, tile, and quality are used.
        batch: Tiles at a time; fewer if they are larger than 1024 x 1024 pixels.
        progress: Called with (stage, done, total), or None.
        pixels: How many are to be computed; None for all.

    Attributes:
        area: Rows and columns of pixels with the padding, H' and W'.
        all: The window of the image without it.
        windows: The tiles in raster order.
    """

    def __init__(
        self,
        model: Model,
        header: Header,
        batch: int,
        progress: Progress | None = None,
        pixels: int | None = None,
    ) -> None:
        self.model = model
        self.header = header
        self.batch = max(1, min(batch, batch * BATCH_TILE**2 // header.tile**2))
        self.progress = progress
        self._lock = threading.Lock()  # of what is reported
        coarsest = model.strides[0]
        self.all = Window(0, 0, header.height, header.width)
        self.area = (padded(header.height, coarsest), padded(header.width, coarsest))
        self.halo = padded(HALO, coarsest)
        with stage("tiling"):
            self.windows = split(*self.area, header.tile)
        pixels = pixels or header.pixels
        compiling.prepare(pixels, partial(self.report, "compile"))

    @classmethod
    def of_file(
        cls,
        header: Header,
        chosen: str | Path | None,
        device: str,
        batch: int,
        progress: Progress | None = None,
        pixels: int | None = None,
    ) -> Tiles:
        """Those of a file, with the model it was coded with.

        Args:
            header: Of the file.
            chosen: The weights file, or None for the packaged model that the file names.
            device: Where to run the networks.
            batch: Tiles at a time.
            progress: Called with (stage, done, total), or None.
            pixels: How many are to be computed; None for all.

        Raises:
            HeaderError: the header asks for what the model does not have.
            ModelError: the model is missing or is another one.
        """
        expected = header.weights_hash.hex()
        try:
            with stage("weights"):
                model = load(chosen or header.model_id, device)
        except ModelError as error:
            reason = f"the file was coded with weights of SHA-256 {expected}..."
            error.args = (f"{error.args[0]}; {reason}",)
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
        if not fits(header.tile, model):
            raise HeaderError(
                f"claims tiles of {header.tile} pixels, which {model.model_id} cannot have; "
                "the file was made by a faulty encoder"
            )
        return cls(model, header, batch, progress, pixels)

    # Pixels <-> indices

    def analyze(
        self,
        pixels: npt.NDArray[np.uint8],
        rate_weight: float = 1.0,
        coarser_weight: float = 1.0,
    ) -> list[Tensor]:
        """Pixels to indices, as the analysis chooses them.

        Args:
            pixels: uint8 [H, W, 3].
            rate_weight: How much more a bit costs in the choice than the quality says; without
                effect on models without a rate model.
            coarser_weight: As of `Family.quantize`.

        Returns:
            Per level integers [G, H'/s, W'/s] of the padded image.
        """
        maps = [self._empty_map(level) for level in range(len(self.model.strides))]
        done = 0
        with stage("analysis"):
            for windows in self._batches_with_halo(self.windows):
                around = [self.grown(window) for window in windows]
                crops = torch.from_numpy(np.stack([cut_out(pixels, each) for each in around]))
                found, _ = self.model.autoencoder.quantize(
                    crops.to(self.model.device),
                    self.quality(len(crops)),
                    rate_weight=rate_weight,
                    coarser_weight=coarser_weight,
                )
                for own, parts, stride in zip(maps, found, self.model.strides, strict=True):
                    for window, grown, part in zip(windows, around, parts, strict=True):
                        cut(own, window // stride).copy_(cut(part, window.within(grown) // stride))
                done += len(windows)
                self.report("analysis", done, len(self.windows))
        return maps

    def synthesize(
        self,
        indices: Sequence[Tensor],
        synthesis: Synthesis | None = None,
        part: Window | None = None,
        factor: int = 1,
    ) -> npt.NDArray[np.uint8]:
        """Indices to pixels, or to the means of squares of pixels.

        Args:
            indices: Of the first levels, one at least: integers [G, H'/s, W'/s] each, needed
                in the tiles `around(part)` only.
            synthesis: Of the model; None for the faithful one.
            part: Any of the image; None for all. For squares as of `aligned`, padding included.
            factor: Side of the squares; it divides the stride of the last of these levels.

        Returns:
            uint8 [H / factor, W / factor, 3] of the part, rounded up.
        """

        def restored(crops: Sequence[Tensor]) -> Tensor:
            quality = self.quality(len(crops[0]))
            if synthesis is None:
                return self.model.autoencoder.preview(crops, quality, factor)
            return reduced(synthesis.synthesize(crops, quality), factor)

        area = part or self.all
        whole = np.empty((-(-area.height // factor), -(-area.width // factor), 3), np.uint8)
        aligned = self.aligned(area)
        pieces = [piece for window in self.windows if (piece := window & aligned)]
        done = 0
        with stage("synthesis"):
            for windows in self._batches_with_halo(pieces):
                around = [self.grown(window) for window in windows]
                crops = [self.stacked(indices, level, around) for level in range(len(indices))]
                found = restored(crops).cpu().numpy()
                for window, grown, each in zip(windows, around, found, strict=True):
                    own = window & area
                    assert own is not None
                    place = widened(own.within(area), factor) // factor
                    whole[place.slices] = each[
                        (widened(own.within(grown), factor) // factor).slices
                    ]
                done += len(windows)
                self.report("synthesis", done, len(pieces))
        return whole

    # Indices <-> payloads

    def encode(self, indices: Sequence[Tensor]) -> tuple[tuple[bytes, ...], float]:
        """The last of some levels' indices to the payloads of its tiles.

        Args:
            indices: Of the levels up to the one to encode: integers [G, H'/s, W'/s] each.

        Returns:
            The payloads in raster order of the tiles, and their ideal code length in bits.
        """
        level = len(indices) - 1
        payloads: dict[Window, bytes] = {}
        bits: list[float] = []

        def encode(windows: Sequence[Window]) -> None:
            state = self.start(indices[:level], windows)
            coded, length = payload.encode(state, self.stacked(indices, level, windows))
            with self._lock:
                bits.append(length)
                payloads.update(zip(windows, coded, strict=True))
                self.report(f"encode level {level}", len(payloads), len(self.windows))

        with stage(f"level {level}, frequencies"):
            at_once = self._side_by_side(len(self.windows), self._networks_batch)
            threads = kernels.threads(self.model.device)
            share(encode, batches(self.windows, at_once), threads)
        return tuple(payloads[window] for window in self.windows), math.fsum(bits)

    def decode(
        self,
        payloads: Sequence[bytes],
        coarser: Sequence[Tensor],
        windows: Sequence[Window] | None = None,
    ) -> Tensor:
        """The payloads of a level's tiles to its indices.

        Args:
            payloads: In the order of the tiles.
            coarser: Indices of all coarser levels: integers [G, H'/s, W'/s] each.
            windows: The payloads' tiles; None for all of the level, in raster order.

        Returns:
            integers [G, H'/s, W'/s], zero outside of the tiles.

        Raises:
            SectionError: a payload does not fit its model.
        """
        level = len(coarser)
        chosen = self.windows if windows is None else windows
        of = dict(zip(chosen, payloads, strict=True))

        def decode(state: State, some: Sequence[Window], progress: StepsDone) -> Tensor:
            return payload.decode(state, [of[window] for window in some], progress)

        with stage(f"level {level}, frequencies"):
            return self.find(chosen, coarser, decode, f"decode level {level}")

    def find(
        self,
        windows: Sequence[Window],
        coarser: Sequence[Tensor],
        find: Find,
        name: str,
    ) -> Tensor:
        """Finds the indices of some tiles of a level, batch by batch.

        Args:
            windows: Which.
            coarser: Indices of all coarser levels: integers [G, H'/s, W'/s] each.
            find: What gives them.
            name: What to report.

        Returns:
            integers [G, H'/s, W'/s], zero outside of the tiles.
        """
        level = len(coarser)
        stride = self.model.strides[level]
        whole = self._empty_map(level)
        done = dict.fromkeys(windows, 0.0)  # the share of each tile

        def fill(some: Sequence[Window]) -> None:
            def report(step: int, of: int) -> None:
                with self._lock:
                    done.update(dict.fromkeys(some, step / of))
                    self.report(name, round(sum(done.values()) * of), len(windows) * of)

            found = find(self.start(coarser, some), some, report)
            for window, part in zip(some, found, strict=True):
                cut(whole, window // stride).copy_(part)

        device = self.model.device
        # Compiled steps gain nothing from wide tiles side by side, and leave threads to them.
        at_once = 1 if kernels.usable(device) else self.batch
        at_once = self._side_by_side(len(windows), at_once)
        share(fill, batches(windows, at_once), kernels.threads(device))
        return whole

    def start(
        self,
        coarser: Sequence[Tensor],
        windows: Sequence[Window],
        steps: Sequence[Tensor] | None = None,
    ) -> State:
        """A fresh state of the prior of the level after the coarser ones.

        Args:
            coarser: Their indices: integers [G, H'/s, W'/s] each.
            windows: Of equal shape.
            steps: As of `Prior.start`.
        """
        level = len(coarser)
        maps = [self.stacked(coarser, m, windows) for m in range(level)]
        quality = self.quality(len(windows))
        shape = windows[0] // self.model.strides[level]
        return self.model.priors[level].start(
            maps, quality, torch.zeros_like(quality), shape.height, shape.width, steps
        )

    # The checksum of indices

    def indices_crc(self, indices: Sequence[Tensor]) -> int:
        """CRC-32 of all indices, u16 each, in the order level, tile, position, codebook."""
        crc = 0
        with stage("checksum of indices"):
            for whole, stride in zip(indices, self.model.strides, strict=False):
                for window in self.windows:
                    part = cut(whole, window // stride).permute(1, 2, 0).cpu().numpy()
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

    # Parts of the image

    def stacked(self, indices: Sequence[Tensor], level: int, windows: Sequence[Window]) -> Tensor:
        """A level's indices in windows of equal shape: int64 [N, G, h, w]."""
        stride = self.model.strides[level]
        return torch.stack([cut(indices[level], window // stride) for window in windows]).long()

    def quality(self, count: int) -> Tensor:
        """The quality, from 0, for each of so many windows: int64 [count]."""
        return torch.full((count,), self.header.quality - 1, device=self.model.device)

    def grown(self, window: Window) -> Window:
        """A window with its halo, as far as the image goes."""
        return grow(window, self.halo, *self.area)

    def aligned(self, window: Window) -> Window:
        """The least window around one, in pixels, that holds whole positions of every level."""
        return widened(window, self.model.strides[0])

    def around(self, window: Window) -> list[Window]:
        """The tiles whose indices the synthesis of a window sees, in raster order."""
        grown = self.grown(self.aligned(window))
        return [tile for tile in self.windows if tile & grown]

    def report(self, name: str, done: int, total: int) -> None:
        """Tells how far a stage is."""
        if self.progress is not None:
            self.progress(name, done, total)

    def _empty_map(self, level: int) -> Tensor:
        """Zeros, whose memory is taken when something else is written there."""
        stride, sizes = self.model.strides[level], self.model.priors[level].sizes
        shape = (len(sizes), *(side // stride for side in self.area))
        small = np.uint8 if max(sizes) <= 1 << 8 else np.int32
        return torch.from_numpy(np.zeros(shape, small)).to(self.model.device)

    def _batches_with_halo(self, windows: Sequence[Window]) -> list[list[Window]]:
        """Batches of tiles, or parts of them, that have equal shapes with their halo, too."""
        groups: dict[tuple[int, int], list[Window]] = {}
        for window in windows:
            around = self.grown(window)
            groups.setdefault((around.height, around.width), []).append(window)
        return [part for same in groups.values() for part in batches(same, self._networks_batch)]

    @property
    def narrow(self) -> bool:
        """Whether the image is."""
        return min(self.area) <= NARROW

    def _side_by_side(self, count: int, usual: int) -> int:
        """How many of so many tiles are coded at once: more if they are narrow."""
        if not self.narrow:
            return usual
        fitting = BATCH_TILE**2 // (self.header.tile * min(self.area))
        return max(usual, min(fitting, -(-count // kernels.threads(self.model.device))))

    @property
    def _networks_batch(self) -> int:
        """Tiles at a time where all of a tile is computed at once.

        On a CPU a tile at a time is as fast, and takes a fraction of the memory.
        """
        return 1 if self.model.device.type == "cpu" else self.batch


def header_for(image: Image, model: Model, quality: int | None, tile: int | None) -> Header:
    """The header of an image's file.

    Args:
        image: The image.
        model: What it is coded with.
        quality: From 1; None for the middle one.
        tile: Side of a tile in pixels; None for `default_tile`.

    Raises:
        CodecError: the model has no such quality, or cannot have such tiles.
    """
    height, width = image.pixels.shape[:2]
    tile = default_tile(height, width) if tile is None else arguments.whole(tile, "tile")
    if not fits(tile, model):
        smallest, largest = _sides(model)
        limits = f"give a power of two from {smallest} to {largest}"
        raise CodecError(f"a tile side of {tile} cannot be; {limits}")
    return Header(
        width=width,
        height=height,
        grey=image.grey,
        model_id=model.model_id,
        weights_hash=bytes.fromhex(model.sha256)[: container.WEIGHTS_HASH_LENGTH],
        tile=tile,
        quality=model.checked_quality(quality),
        levels=len(model.strides),
    )


def default_tile(height: int, width: int) -> int:
    """The side of an image's tiles, if none is asked for."""
    long = min(height, width) <= NARROW and max(height, width) > DEFAULT_TILE
    return 1 << container.MAX_TILE_LOG2 if long else DEFAULT_TILE


def fits(tile: int, model: Model) -> bool:
    """Whether a model can have tiles of that side."""
    smallest, largest = _sides(model)
    power_of_two = tile & (tile - 1) == 0
    return smallest <= tile <= largest and power_of_two and tile % model.strides[0] == 0


def _sides(model: Model) -> tuple[int, int]:
    """The smallest and the largest side of a model's tiles."""
    smallest = max(model.strides[0], 1 << container.MIN_TILE_LOG2)
    return smallest, 1 << container.MAX_TILE_LOG2


def cut(maps: Tensor, window: Window) -> Tensor:
    """A view of a window of [G, H, W]."""
    return maps[(slice(None), *window.slices)]
