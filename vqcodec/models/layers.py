"""Layers shared by the networks. Feature maps are channels-last: [B, H, W, C]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar, cast, overload

import torch
from torch import Tensor, nn

from vqcodec.models import winograd

M = TypeVar("M", bound=nn.Module)


class ListOf(nn.ModuleList, Generic[M]):
    """A `ModuleList` of modules of one class, which type checkers then know."""

    def __iter__(self) -> Iterator[M]:
        return cast("Iterator[M]", super().__iter__())

    @overload
    def __getitem__(self, idx: slice) -> ListOf[M]: ...

    @overload
    def __getitem__(self, idx: int) -> M: ...

    def __getitem__(self, idx: int | slice) -> M | ListOf[M]:
        return cast("M | ListOf[M]", super().__getitem__(idx))


def space_to_depth(features: Tensor, stride: int) -> Tensor:
    """Folds each s x s block into the channels: [B, H, W, C] -> [B, H/s, W/s, s*s*C]."""
    b, h, w, c = features.shape
    blocks = features.reshape(b, h // stride, stride, w // stride, stride, c)
    return blocks.permute(0, 1, 3, 2, 4, 5).reshape(b, h // stride, w // stride, stride**2 * c)


def depth_to_space(features: Tensor, stride: int) -> Tensor:
    """Inverse of `space_to_depth`: [B, H, W, s*s*C] -> [B, H*s, W*s, C]."""
    b, h, w, c = features.shape
    blocks = features.reshape(b, h, w, stride, stride, c // stride**2)
    return blocks.permute(0, 1, 3, 2, 4, 5).reshape(b, h * stride, w * stride, c // stride**2)


def square_means(weights: Tensor, stride: int, factor: int) -> Tensor:
    """Weights whose outputs `depth_to_space` spreads, for the means of squares of outputs instead.

    Args:
        weights: [s*s*C, ...].
        stride: s.
        factor: Side f of the squares, which divides s.

    Returns:
        [s*s*C / f^2, ...]; the weights themselves for f = 1.
    """
    if factor == 1:
        return weights
    side = stride // factor
    means: Tensor = weights.unflatten(0, (side, factor, side, factor, -1)).mean((1, 3))
    return means.flatten(0, 2)


class ZeroLinear(nn.Linear):
    """A linear layer that starts as zero, so that what it is added to starts unchanged."""

    def reset_parameters(self) -> None:
        """Sets it to zero."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def interpolation(position: Tensor, knots: int) -> Tensor:
    """Weights of linear interpolation between knots 0, 1, ...

    Args:
        position: [B], float or integer, in 0..knots - 1; a whole number is exactly that knot.
        knots: How many there are.

    Returns:
        float32 [B, knots], rows that sum to 1.
    """
    distance = position.float()[:, None] - torch.arange(knots, device=position.device)
    return (1.0 - distance.abs()).clamp(min=0.0)


class Knots(nn.Embedding):
    """A vector for each knot, and linear interpolation between them."""

    def forward(self, position: Tensor) -> Tensor:
        """[B], in 0..knots - 1, to [B, C]."""
        weights = interpolation(position, self.num_embeddings)
        return (weights[:, :, None] * self.weight).sum(1)  # no product that autocast would round


class ResidualBlock(nn.Module):
    """x + Linear(ReLU(Conv3x3(x))) over [B, H, W, C].

    Source: the residual block of van den Oord et al. 2017, without the leading ReLU; the scale
    after it is the condition of Perez et al. 2018, between knots.

    Args:
        channels: C.
        knots: Of a scale of the hidden channels by quality; 0 for none.
    """

    def __init__(self, channels: int, knots: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.linear = nn.Linear(channels, channels)
        self.scale = Knots(knots, channels) if knots else None
        self._weights: winograd.Weights | None = None
        with torch.no_grad():
            self.linear.weight.mul_(0.5)
            if self.scale is not None:
                self.scale.weight.zero_()

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """[B, H, W, C] and positions among the knots [B] to [B, H, W, C]."""
        scale = None if self.scale is None else 1.0 + self.scale(position)
        if winograd.usable(x, self.conv.weight):
            return winograd.residual(x, self._weights_now(), scale)
        hidden = torch.relu(self.conv(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        if scale is not None:
            hidden = hidden * scale[:, None, None, :]
        added: Tensor = self.linear(hidden)
        return x + added

    def _weights_now(self) -> winograd.Weights:
        """Its weights for `winograd.residual`, made again when they have changed."""
        if self._weights is None or not self._weights.fit(self.conv, self.linear):
            self._weights = winograd.Weights(self.conv, self.linear)
        return self._weights


class ResidualBlocks(ListOf[ResidualBlock]):
    """Residual blocks one after the other.

    Args:
        channels: C.
        count: How many.
        knots: Of each block's scale by quality; 0 for none.
    """

    def __init__(self, channels: int, count: int, knots: int = 0) -> None:
        super().__init__(ResidualBlock(channels, knots) for _ in range(count))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """[B, H, W, C] and positions among the knots [B] to [B, H, W, C]."""
        for block in self:
            x = block(x, position)
        return x
