"""The layers of an integer prior: products, activations, gated blocks, attention, feature caches.

The grids are those of `vqcodec.spec.prior`: residual streams in steps of 2**-10, inputs of products
int8, weights int8 in [-63, 63], sums int32, requantization (sum * multiplier + offset) >> 24.

Streams and requantization are integers in float64: below 2**53 it has every integer and every
multiple of 2**-24 that occurs, so nothing is ever rounded, and processors do more with it at a time
than with int64.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from vqcodec.entropy.frequencies import look_up
from vqcodec.entropy.gemm import Product, matrix_product
from vqcodec.entropy.wavefront import Grid
from vqcodec.spec.cone import step_of
from vqcodec.spec.prior import (
    ACTIVATION_LIMIT,
    EXACT_IN_FLOAT64,
    INT32_SUM,
    MAX_SHIFT,
    REQUANTIZE_BITS,
    WEIGHT_LIMIT,
)

ROWS_PER_CALL = 512  # keeps the intermediates in the processor's cache
ATTENTION_LOGITS_PER_CALL = 1 << 20  # per head, of all maps; bounds the memory of attention

Weights = Mapping[str, Tensor]


def under(prefix: str, weights: Weights) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix.`, without it."""
    return {
        name[len(prefix) + 1 :]: tensor
        for name, tensor in weights.items()
        if name.startswith(prefix + ".")
    }


def _integers(tensor: Tensor, *dtypes: torch.dtype) -> Tensor:
    """The tensor, if it is of one of the types: the bounds below hold for these."""
    if tensor.dtype not in dtypes:
        raise ValueError(f"weights of {tensor.dtype} where {dtypes[0]} belongs")
    return tensor


def stream_table(tensor: Tensor) -> Tensor:
    """The tensor, if it is a table of what is added to streams."""
    return _integers(tensor, torch.int16, torch.int8)


class Linear:
    """int8 [P, K] to integers [P, N] on the grid that the multipliers were made for.

    Args:
        weights: `weight` int8 [K, N], `multiplier` int64 [N], `offset` int64 [N].
    """

    def __init__(self, weights: Weights) -> None:
        self.weight = weights["weight"]
        sizes = self.weight.short().abs()
        if self.weight.dtype != torch.int8 or int(sizes.amax()) > WEIGHT_LIMIT:
            raise ValueError(f"weights must be int8 in -{WEIGHT_LIMIT}..{WEIGHT_LIMIT}")
        multiplier = _integers(weights["multiplier"], torch.int64).double()
        offset = _integers(weights["offset"], torch.int64).double()
        sums = sizes.sum(0) * ACTIVATION_LIMIT
        scaled = sums.double() * multiplier.abs() + offset.abs()
        if int(sums.amax()) >= INT32_SUM or float(scaled.amax()) >= EXACT_IN_FLOAT64:
            raise ValueError("a filter's sums are too large")
        self.multiplier = multiplier / (1 << REQUANTIZE_BITS)
        self.offset = offset / (1 << REQUANTIZE_BITS)
        self.largest_sum = int(sums.amax())

    @cached_property
    def product(self) -> Product:
        """The product, chosen when it is first needed: the compiled steps never do."""
        return matrix_product(self.weight.device, self.largest_sum)

    def __call__(self, rows: Tensor) -> Tensor:
        """int8 [P, K] to integers, float64 [P, N]."""
        sums = self.product(rows, self.weight).double()
        return torch.addcmul(self.offset, sums, self.multiplier).floor_()

    def first(self, outputs: int) -> Linear:
        """The same without all but the first outputs."""
        narrow = copy.copy(self)
        narrow.weight = self.weight[:, :outputs].contiguous()
        narrow.multiplier = self.multiplier[:outputs]
        narrow.offset = self.offset[:outputs]
        return narrow


class Activation:
    """ELU from a stream to int8.

    Args:
        weights: `table` int8 [256] over stream >> shift from -128 to 127, `shift` int64 scalar.
    """

    def __init__(self, weights: Weights) -> None:
        self.table = _integers(weights["table"], torch.int8)
        shift = int(weights["shift"])
        if not 1 <= shift <= MAX_SHIFT:
            raise ValueError(f"an activation's shift must be in 1..{MAX_SHIFT}, not {shift}")
        self.shift = shift
        self.step = 2.0**-shift
        self.half_up = torch.tensor(128.5, dtype=torch.float64, device=self.table.device)

    def __call__(self, stream: Tensor) -> Tensor:
        """Stream rows, float64 [P, C], to int8 [P, C]."""
        # (stream + half a step) >> shift, and 128 up; the conversion drops the fraction.
        places = torch.add(self.half_up, stream, alpha=self.step).clamp_(0, 255).long()
        return look_up(self.table, places)


class Cache:
    """int8 features of every cell of a grid, [cells, C], zero until written."""

    def __init__(self, grid: Grid, channels: int, device: torch.device) -> None:
        self.values = torch.zeros(grid.cells, channels, dtype=torch.int8, device=device)

    def write(self, places: Tensor, rows: Tensor) -> None:
        """Stores rows, int8 [P, C], in cells, int64 [P]."""
        self.values.index_copy_(0, places, rows)

    def features(self, cells: Tensor) -> Tensor:
        """Features of cells, int64 [P, T]: int8 [P, T * C]."""
        return self.values.index_select(0, cells.flatten()).view(len(cells), -1)


class GatedBlock:
    """What a gated residual block adds to its stream.

    Args:
        weights: Of `activation`, `gate` and `project`.
        gates: `Tables.gate`.
    """

    def __init__(self, weights: Weights, gates: Tensor) -> None:
        self.activation = Activation(under("activation", weights))
        self.gate = Linear(under("gate", weights))
        self.project = Linear(under("project", weights))
        self.gates = gates

    def __call__(self, stream: Tensor, cache: Cache, places: Tensor, cells: Tensor) -> Tensor:
        """Adds the block to a stream.

        Args:
            stream: Rows, float64 [P, C]; changed in place.
            cache: Of the block.
            places: Of the rows in the cache, int64 [P].
            cells: Under the taps of each place, int64 [P, T].

        Returns:
            The stream.
        """
        cache.write(places, self.activation(stream))
        for rows, some in zip(
            torch.split(stream, ROWS_PER_CALL), torch.split(cells, ROWS_PER_CALL), strict=True
        ):
            first, second = self.gate(cache.features(some)).clamp_(-128, 127).chunk(2, 1)
            pairs = torch.add(second, first, alpha=256).add_(128 * 256 + 128).long()
            rows += self.project(look_up(self.gates, pairs))
        return stream


class Attention:
    """What causal attention adds to its stream; see `vqcodec.models.prior.Attention`.

    Products run in float64 over integers far below 2**53, so they are exact.

    Args:
        weights: Of `activation`, `query_key_value`, `project`, and `scale` int64 scalar.
        heads: Number of heads.
        exponential: `Tables.exponential`.

    Raises:
        ValueError: the heads do not divide the channels.
    """

    def __init__(self, weights: Weights, heads: int, exponential: Tensor) -> None:
        self.activation = Activation(under("activation", weights))
        self.query_key_value = Linear(under("query_key_value", weights))
        self.project = Linear(under("project", weights))
        self.scale = int(weights["scale"])
        if not 0 <= self.scale < INT32_SUM:
            raise ValueError(f"an attention's scale cannot be {self.scale}")
        if len(self.project.weight) % heads:
            raise ValueError(f"{heads} heads do not divide {len(self.project.weight)} channels")
        self.heads = heads
        self.exponential = exponential

    def __call__(self, stream: Tensor, seen: AttentionCache, positions: Tensor) -> Tensor:
        """Adds the attention to the stream rows [N * p, C], in place, and returns them."""
        count = len(stream) // len(positions)
        mixed = self.query_key_value(self.activation(stream)).clamp_(-127, 127)
        query, key, value = mixed.view(count, len(positions), 3, self.heads, -1).permute(
            2, 0, 3, 1, 4
        )
        seen.keys[:, :, positions] = key
        seen.values[:, :, positions] = value
        rows_per_call = max(1, ATTENTION_LOGITS_PER_CALL // (count * len(seen.steps)))
        for part, rows in zip(
            torch.split(positions, rows_per_call),
            torch.split(query, rows_per_call, 2),
            strict=True,
        ):
            seen.means[:, part] = self._attend(rows, seen, part)
        means = seen.means[:, positions].flatten(0, 1)
        stream += self.project(means)
        return stream

    def _attend(self, query: Tensor, seen: AttentionCache, positions: Tensor) -> Tensor:
        dots = (query @ seen.keys.transpose(-1, -2)).long()
        logits = dots.mul_(self.scale).add_(1 << (REQUANTIZE_BITS - 1))
        logits.bitwise_right_shift_(REQUANTIZE_BITS)
        hidden = seen.steps[positions][:, None] <= seen.steps[None, :]
        logits.masked_fill_(hidden, -(2**40))
        below = logits.amax(-1, keepdim=True) - logits
        weights = self.exponential[below.clamp_(max=len(self.exponential) - 1)]
        weights = weights.masked_fill(hidden, 0).double()
        sums = (weights @ seen.values).long()
        total = weights.sum(-1, keepdim=True).long().clamp_(min=1)
        means = torch.div(2 * sums + total, 2 * total, rounding_mode="floor")
        return means.to(torch.int8).transpose(1, 2).flatten(2)


class AttentionCache:
    """Keys, values and results of all positions: [N, heads, H * W, C / heads] and [N, H * W, C]."""

    def __init__(self, grid: Grid, channels: int, heads: int, device: torch.device) -> None:
        area = grid.height * grid.width
        shape = (grid.count, heads, area, channels // heads)
        self.keys = torch.zeros(shape, dtype=torch.float64, device=device)
        self.values = torch.zeros(shape, dtype=torch.float64, device=device)
        self.means = torch.zeros(grid.count, area, channels, dtype=torch.int8, device=device)
        self.steps = torch.tensor(step_of(grid.height, grid.width), device=device)
