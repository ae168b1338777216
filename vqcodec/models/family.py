"""What a family of autoencoders has to offer: all that the rest of the codec knows of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class LevelConfig(Protocol):
    """One level of a `FamilyConfig`."""

    @property
    def stride(self) -> int:
        """Pixels per position, each way."""

    @property
    def codebooks(self) -> Sequence[tuple[Any, ...]]:
        """(K, D, and what only the family knows) of each codebook, in coding order."""


class FamilyConfig(Protocol):
    """Describes an autoencoder of a family."""

    @property
    def levels(self) -> Sequence[LevelConfig]:
        """Coarse to fine."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per position of every level, coarse to fine."""

    @property
    def num_qualities(self) -> int:
        """Number of qualities of files."""

    def groups_of(self, level: int) -> tuple[tuple[int, int], ...]:
        """For each group of a level's codebooks how many there are, and the first quality."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form of the config."""


class Family(nn.Module, ABC):
    """An autoencoder: pixels <-> indices."""

    config: FamilyConfig

    @abstractmethod
    def quantize(
        self,
        pixels: Tensor,
        quality: Tensor,
        levels: int | None = None,
        rate_weight: float = 1.0,
        coarser_weight: float = 1.0,
    ) -> tuple[list[Tensor], Tensor]:
        """Image to indices.

        Args:
            pixels: uint8 [B, H, W, 3]; H and W are multiples of the coarsest stride.
            quality: int64 [B], from 0.
            levels: So many levels only, coarsest first; None for all.
            rate_weight: How much more a bit costs in the choice than the quality says; without
                effect in families that don't weigh bits.
            coarser_weight: How much more than that it costs in the levels before the finest.

        Returns:
            Per level int64 indices [B, G, H/s, W/s], and the bits of each level without a spatial
            prior: float32 [B, levels].
        """

    @abstractmethod
    def synthesize(self, indices: Sequence[Tensor], quality: Tensor) -> Tensor:
        """Indices to image; the first levels alone give a coarser image.

        Args:
            indices: Per level int64 [B, G, H/s, W/s], one level at least, coarse to fine.
            quality: int64 [B], from 0.

        Returns:
            uint8 [B, H, W, 3].
        """

    def preview(self, indices: Sequence[Tensor], quality: Tensor, factor: int) -> Tensor:
        """Indices to a smaller image: the means of squares of what `synthesize` gives.

        A family may take them before values are rounded and limited to 0 to 255.

        Args:
            indices: As of `synthesize`.
            quality: As of `synthesize`.
            factor: Side of the squares; it divides the stride of the last of these levels.

        Returns:
            uint8 [B, H/factor, W/factor, 3].
        """
        return reduced(self.synthesize(indices, quality), factor)

    @abstractmethod
    def code_vectors(self) -> list[list[Tensor]]:
        """Code vectors of every level and codebook, float32 [K, D], for the priors' embeddings."""

    @abstractmethod
    def lmbdas(self) -> list[float] | None:
        """What a bit is worth at every quality, lowest quality first.

        None for a family whose choice of indices doesn't weigh bits: there is nothing to search
        for, and nothing between its qualities.
        """


def reduced(pixels: Tensor, factor: int) -> Tensor:
    """The rounded means of squares of pixels: uint8 [B, H, W, 3] to [B, H/factor, W/factor, 3]."""
    if factor == 1:
        return pixels
    squares = pixels.unflatten(2, (-1, factor)).unflatten(1, (-1, factor))
    means: Tensor = squares.float().mean((2, 4))
    return means.round_().to(torch.uint8)
