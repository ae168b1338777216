"""Images as tokens: the index maps of a model as plain arrays, and `.vqz` files of them.

    tokenizer = vqcodec.Tokenizer.from_pretrained()
    levels = tokenizer.encode(images, quality=40)    # coarse to fine: [B, H', W', G] each
    pixels = tokenizer.decode(levels, quality=40)

`encode` and `decode` are of many images of equal size, for training. `tokenize`, `unpack` and
`pack` are of one picture with all that belongs to it, and lose nothing on the way to a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from vqcodec import codec, container, limits, syntheses
from vqcodec.ambient import ordinary_state
from vqcodec.arguments import whole
from vqcodec.choosing import choice, tunes
from vqcodec.choosing.effort import checked_effort
from vqcodec.container import Container, Header
from vqcodec.errors import CodecError, WeightsError
from vqcodec.image import Image, Pictures, as_image, economical, extras_of, image_of
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.tiles import DEFAULT_TILE, Tiles, header_for
from vqcodec.tiling import Window, cut_out, padded
from vqcodec.weights_file import Model, load

Maps = list[npt.NDArray[Any]]
"""Per level, coarse to fine, uint8 or uint16 indices [..., H', W', G]: a position for every stride
pixels of the padded image, and the codebooks that the quality has."""

BATCH_PIXELS = 1 << 22  # that a GPU has at a time
EFFORT = 1


@dataclass(frozen=True)
class Tokens:
    """One picture as tokens, with all that its `.vqz` file has besides.

    Attributes:
        indices: Per level [H', W', G]; see `Maps`.
        header: Of the file.
        extras: Alpha channel, profile and other metadata, as the container keeps them.
    """

    indices: Maps
    header: Header
    extras: dict[int, bytes]


class Tokenizer:
    """A model that turns images into tokens and back.

    Args:
        model: The model.

    Attributes:
        model: The model.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @classmethod
    def from_pretrained(
        cls, model: str | Path = DEFAULT_MODEL, *, device: str = "cpu"
    ) -> Tokenizer:
        """That of a packaged model.

        Args:
            model: A model id or a weights file.
            device: Where to run it, such as "cpu" or "cuda".

        Raises:
            CodecError: there is no such model or device.
        """
        return cls(load(model, device))

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.model.strides)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels a position, each way, of every level, coarse to fine."""
        return self.model.strides

    @property
    def codebook_sizes(self) -> tuple[tuple[int, ...], ...]:
        """K of every codebook of every level, coarse to fine."""
        return tuple(tuple(prior.sizes) for prior in self.model.priors)

    @property
    def model_hash(self) -> str:
        """SHA-256 of the weights file, 64 hexadecimal digits."""
        return self.model.sha256

    def books(self, quality: int | None = None) -> tuple[int, ...]:
        """G: how many codebooks of every level a quality has, the first ones.

        Raises:
            CodecError: the model has no such quality.
        """
        chosen = self.model.checked_quality(quality)
        return tuple(
            max(group.codebooks.stop for group in prior.groups if group.first_quality <= chosen)
            for prior in self.model.priors
        )

    def shapes(
        self, height: int, width: int, quality: int | None = None
    ) -> tuple[tuple[int, int, int], ...]:
        """H', W' and G of every level of an image of H x W pixels, coarse to fine.

        Raises:
            CodecError: the model has no such quality.
        """
        sides = (padded(height, self.strides[0]), padded(width, self.strides[0]))
        return tuple(
            (sides[0] // stride, sides[1] // stride, books)
            for stride, books in zip(self.strides, self.books(quality), strict=True)
        )

    # Many images of equal size

    @ordinary_state()
    def encode(
        self,
        images: Pictures | Sequence[Pictures],
        quality: int | None = None,
        *,
        effort: int = EFFORT,
    ) -> Maps:
        """Images to tokens; those that `vqcodec.compress` writes into a lossy file.

        Args:
            images: Of equal size, any one from 1x1 up: uint8 [B, H, W, 3], or a sequence of what
                `vqcodec.compress` takes. Alpha is left out.
            quality: 1 to the model's number of qualities; None for the middle.
            effort: As of `vqcodec.compress`; 1 takes what the analysis says.

        Returns:
            Per level, coarse to fine, [B, H', W', G].

        Raises:
            CodecError: no images, of different sizes, or no such quality or effort.
        """
        checked_effort(effort)
        if isinstance(images, np.ndarray) and images.ndim != 4:
            raise CodecError(f"an array {list(images.shape)} is no images; give [B, H, W, 3]")
        given = [images] if isinstance(images, Image | PIL.Image.Image) else images
        pixels = [economical(as_image(each)).pixels for each in given]
        if not pixels or len({each.shape for each in pixels}) != 1:
            raise CodecError("tokens are of one image or more of equal size; give such")
        height, width = pixels[0].shape[:2]
        header = header_for(Image(pixels[0]), self.model, quality, None)
        singly = self.model.device.type == "cpu" or effort > 1 or max(height, width) > DEFAULT_TILE
        at_once = 1 if singly else max(1, BATCH_PIXELS // (height * width))
        found: list[list[Tensor]] = []
        for start in range(0, len(pixels), at_once):
            some = pixels[start : start + at_once]
            if singly:
                tiles = Tiles(self.model, header, codec.DEFAULT_BATCH)
                maps = choice.choose(tiles, some[0], effort, 1.0)
                found.append([each[None] for each in maps])
            else:
                found.append(self._analyzed(np.stack(some), header))
        return [
            self._narrowed(torch.cat(parts), level, header.quality)
            for level, parts in enumerate(zip(*found, strict=True))
        ]

    @ordinary_state()
    def decode(
        self,
        indices: Sequence[npt.ArrayLike],
        quality: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Tokens to images.

        Args:
            indices: As of `encode`: integers [B, H', W', G] of every level.
            quality: What they were encoded at.
            size: H and W of the images, without the padding; None for all that is there.

        Returns:
            uint8 [B, H, W, 3].

        Raises:
            CodecError: they are not what the model has at that quality, or smaller than `size`.
        """
        maps = [np.asarray(each) for each in indices]
        if len(maps) != self.levels or any(each.ndim != 4 for each in maps):
            raise CodecError(f"tokens are {self.levels} arrays [B, H, W, G]; give such")
        full = (maps[0].shape[1] * self.strides[0], maps[0].shape[2] * self.strides[0])
        height, width = full if size is None else (whole(size[0], "size"), whole(size[1], "size"))
        if not (0 < height <= full[0] and 0 < width <= full[1]):
            raise CodecError(f"tokens of {full[0]} x {full[1]} pixels have no {height} x {width}")
        header = self._header(height, width, quality)
        images = []
        for one in zip(*maps, strict=True):
            tiles = Tiles(self.model, header, codec.DEFAULT_BATCH)
            images.append(tiles.synthesize(self._widened(one, header)))
        return np.stack(images)

    @ordinary_state()
    def bits(
        self, indices: Sequence[npt.ArrayLike], quality: int | None = None
    ) -> npt.NDArray[np.float64]:
        """The code length of tokens under the model's priors: what a `.vqz` file takes for them.

        Args:
            indices: As of `encode`.
            quality: What they were encoded at.

        Returns:
            float64 [B, levels], in bits: minus the logarithm of their likelihood to the base 2.

        Raises:
            CodecError: they are not what the model has at that quality.
        """
        maps = [np.asarray(each) for each in indices]
        if len(maps) != self.levels or any(each.ndim != 4 for each in maps):
            raise CodecError(f"tokens are {self.levels} arrays [B, H, W, G]; give such")
        stride = self.strides[0]
        header = self._header(maps[0].shape[1] * stride, maps[0].shape[2] * stride, quality)
        return np.array(
            [self.bits_of(Tokens(list(one), header, {})) for one in zip(*maps, strict=True)]
        )

    # One picture with all that belongs to it

    @ordinary_state()
    def tokenize(
        self,
        image: Pictures,
        quality: int | None = None,
        *,
        effort: int = EFFORT,
        tile: int | None = None,
    ) -> Tokens:
        """A picture to tokens; `pack` makes of them the file that `vqcodec.compress` does.

        Args:
            image: As of `vqcodec.compress`.
            quality: 1 to the model's number of qualities; None for the middle.
            effort: As of `vqcodec.compress`.
            tile: As of `vqcodec.compress`.

        Raises:
            CodecError: it is no image, or there is no such quality, effort or tile.
        """
        source = economical(as_image(image))
        header, extras = header_for(source, self.model, quality, tile), extras_of(source)
        container.check(header, extras)
        tiles = Tiles(self.model, header, codec.DEFAULT_BATCH)
        tuned = tunes.tune_of(None)
        found = choice.choose(tiles, source.pixels, checked_effort(effort), 1.0, tuned)
        maps = [
            self._narrowed(each[None], level, header.quality)[0] for level, each in enumerate(found)
        ]
        return Tokens(maps, header, extras)

    @ordinary_state()
    def unpack(self, file: bytes | codec.Compressed) -> Tokens:
        """A `.vqz` file to tokens.

        Raises:
            FormatError: it is no undamaged `.vqz` file.
            LimitError: it has more pixels than the limit.
            CodecError: it is lossless, or coded with another model.
        """
        contents = container.unpack(bytes(file))
        header = contents.header
        if header.lossless:
            raise CodecError("is lossless and has no tokens; restore and tokenize it")
        limits.check(header.width, header.height)
        if not self.model.sha256.startswith(header.weights_hash.hex()):
            raise WeightsError(f"was coded with {header.model_id}; give it as the model")
        tiles = Tiles(self.model, header, codec.DEFAULT_BATCH)
        found = codec.decode(tiles, contents, header.levels, tiles.windows)
        maps = [
            self._narrowed(each[None], level, header.quality)[0] for level, each in enumerate(found)
        ]
        return Tokens(maps, header, contents.extras)

    @ordinary_state()
    def pack(self, tokens: Tokens) -> bytes:
        """Tokens to a `.vqz` file, the same bytes for the same tokens.

        Raises:
            CodecError: they are not what the model has at that quality.
        """
        tiles, maps = self._tiles(tokens)
        contents, _ = codec.encode(tiles, maps, tokens.extras)
        return container.pack(contents)

    @ordinary_state()
    def restore(self, tokens: Tokens) -> Image:
        """Tokens to the picture that `vqcodec.decompress` makes of their file.

        Raises:
            CodecError: they are not what the model has at that quality.
        """
        tiles, maps = self._tiles(tokens)
        contents = Container(tokens.header, tokens.extras, (), None, complete=False)
        chosen = syntheses.chosen(self.model, None, tokens.extras)
        return image_of(contents, tiles.synthesize(maps, chosen))

    @ordinary_state()
    def bits_of(self, tokens: Tokens) -> list[float]:
        """The code length of every level under the model's priors, in bits.

        Raises:
            CodecError: they are not what the model has at that quality.
        """
        tiles, maps = self._tiles(tokens)
        return [tiles.encode(maps[: level + 1])[1] for level in range(self.levels)]

    def _tiles(self, tokens: Tokens) -> tuple[Tiles, list[Tensor]]:
        maps = self._widened(tokens.indices, tokens.header)
        return Tiles(self.model, tokens.header, codec.DEFAULT_BATCH), maps

    def _header(self, height: int, width: int, quality: int | None) -> Header:
        blank = np.broadcast_to(np.uint8(0), (height, width, 3))
        return header_for(Image(blank), self.model, quality, None)

    def _analyzed(self, pixels: npt.NDArray[np.uint8], header: Header) -> list[Tensor]:
        """uint8 [B, H, W, 3] to int64 [B, G, H', W'] of every level, all at once."""
        tiles = Tiles(self.model, header, codec.DEFAULT_BATCH)
        area = Window(0, 0, *tiles.area)
        whole_ones = torch.from_numpy(np.stack([cut_out(each, area) for each in pixels]))
        found, _ = self.model.autoencoder.quantize(
            whole_ones.to(self.model.device),
            tiles.quality(len(pixels)),
            coarser_weight=choice.COARSER_WEIGHT,
        )
        return found

    def _narrowed(self, maps: Tensor, level: int, quality: int) -> npt.NDArray[Any]:
        """Integers [B, G, H', W'] to [B, H', W', G] of the codebooks that the quality has."""
        used = maps[:, : self.books(quality)[level]].permute(0, 2, 3, 1)
        return np.ascontiguousarray(used.cpu().numpy().astype(self.dtype(level)))

    def dtype(self, level: int) -> type[np.uint8] | type[np.uint16]:
        """The type of a level's tokens: uint8 where all of its codebooks have at most 256 codes."""
        return np.uint8 if max(self.model.priors[level].sizes) <= 256 else np.uint16

    def _widened(self, maps: Sequence[npt.NDArray[Any]], header: Header) -> list[Tensor]:
        """[H', W', G] of every level to integers [G, H', W'] with all codebooks, checked."""
        shapes = self.shapes(header.height, header.width, header.quality)
        if len(maps) != self.levels:
            raise CodecError(f"has {len(maps)} levels of tokens; {self.model.model_id} has others")
        found = []
        for level, (own, shape) in enumerate(zip(maps, shapes, strict=True)):
            sizes = np.array(self.model.priors[level].sizes[: shape[2]])
            if own.shape != shape or own.dtype.kind not in "ui":
                reason = f"level {level} is {own.dtype} {list(own.shape)}"
                raise CodecError(f"{reason}; at quality {header.quality} it is {list(shape)}")
            if (own >= sizes).any() or (own < 0).any():
                raise CodecError(f"level {level} has tokens that none of its codebooks has")
            small = np.uint8 if self.dtype(level) is np.uint8 else np.int32
            full = np.zeros((len(self.model.priors[level].sizes), *shape[:2]), small)
            full[: shape[2]] = np.moveaxis(own, -1, 0)
            found.append(torch.from_numpy(full).to(self.model.device))
        return found
