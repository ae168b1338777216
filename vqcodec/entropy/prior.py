"""The PixelSNAIL prior in integers: the same frequencies on every machine.

One module serves both directions. Its features live in zero-bordered caches, and `advance`
computes them for any set of positions whose causal neighbours are there already: for all
positions at once when the indices are known (compress), or for one wavefront step after the
other (decompress, sample). Both are the same integers, because every operation is exact.

The architecture is that of `vqcodec.models.prior`, and the grids too: residual streams in steps of
2**-10, inputs of products int8, weights int8 in [-63, 63], sums int32, requantization
(sum * multiplier + offset) >> 24.

Streams and requantization are integers in float64: below 2**53 it has every integer and every
multiple of 2**-24 that occurs, so nothing is ever rounded, and processors do more with it at a time
than with int64.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.entropy.frequencies import (
    TEMPERATURE_ONE,
    Tables,
    expected_code_lengths,
    frequencies,
    look_up,
)
from vqcodec.entropy.gemm import ACTIVATION_LIMIT, INT32_SUM, WEIGHT_LIMIT, matrix_product
from vqcodec.entropy.wavefront import Grid, steps
from vqcodec.spec.cone import CONE3, CONE5, FULL3, step_of

REQUANTIZE_BITS = 24
MAX_SHIFT = 24
EXACT_IN_FLOAT64 = 2.0**53
WORK_WORTH_THREADS = 512 * 128**2  # rows of a step times channels squared
ROWS_PER_CALL = 512  # keeps the intermediates in the processor's cache
ATTENTION_LOGITS_PER_CALL = 1 << 20  # per head, of all maps; bounds the memory of attention

Weights = Mapping[str, Tensor]

Choose = Callable[[int, Tensor], Tensor]
"""First codebook of a group of n, and the group's logits of one step, to symbols int64 [N, n * p].

Logits are integers in float64 [N, n * p, K], in 1/16 nat, codebook by codebook.
"""


def under(prefix: str, weights: Weights) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix.`, without it."""
    return {
        name[len(prefix) + 1 :]: tensor
        for name, tensor in weights.items()
        if name.startswith(prefix + ".")
    }


@contextmanager
def _few_threads(work: int) -> Iterator[None]:
    """One thread while steps are small.

    Thousands of small products gain little from threads, and where another program has one of the
    cores each of them would wait for it: seconds became a minute.
    """
    threads = torch.get_num_threads()
    if work < WORK_WORTH_THREADS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _integers(tensor: Tensor, *dtypes: torch.dtype) -> Tensor:
    """The tensor, if it is of one of the types: the bounds below hold for these."""
    if tensor.dtype not in dtypes:
        raise ValueError(f"weights of {tensor.dtype} where {dtypes[0]} belongs")
    return tensor


def _table(tensor: Tensor) -> Tensor:
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
        self.product = matrix_product(self.weight.device, int(sums.amax()))

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
        self.table = weights["table"]
        shift = int(weights["shift"])
        if not 1 <= shift <= MAX_SHIFT:
            raise ValueError(f"an activation's shift must be in 1..{MAX_SHIFT}, not {shift}")
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
        self.steps = step_of(grid.height, grid.width).to(device)


class Context:
    """From the coarser levels' indices, quality and class to a stream, all integers."""

    def __init__(self, config: Mapping[str, Any], weights: Weights, tables: Tables) -> None:
        self.quality = _table(weights["quality"]).double()
        self.classes = _table(weights["classes"]).double()
        self.factors = [int(factor) for factor in config["factors"]]
        self.embeddings = [
            [_table(weights[f"embeddings.{m}.{g}"]).double() for g in range(len(books))]
            for m, books in enumerate(config["coarser"])
        ]
        self.blocks = [
            [
                GatedBlock(under(f"blocks.{m}.{n}", weights), tables.gate)
                for n in range(config["context_blocks"])
            ]
            for m in range(len(self.factors))
        ]
        self.activations = [
            Activation(under(f"activations.{m}", weights)) for m in range(len(self.factors))
        ]
        self.upsamples = [
            Linear(under(f"upsamples.{m}", weights)) for m in range(len(self.factors))
        ]

    def __call__(
        self, coarser: Sequence[Tensor], quality: Tensor, label: Tensor, height: int, width: int
    ) -> Tensor:
        """Stream of the level's positions: float64 [N, height * width, C].

        Args:
            coarser: Indices of the coarser levels, int64 [N, G, h, w] each, coarsest first.
            quality: int64 [N].
            label: Class + 1, or 0 for none: int64 [N].
            height: Rows of the level.
            width: Columns of the level.
        """
        start = (self.quality[quality] + self.classes[label])[:, None, :]
        if not coarser:
            return start.expand(-1, height * width, -1).contiguous()
        stream = start
        for m, indices in enumerate(coarser):
            count, _, h, w = indices.shape
            flat = indices.flatten(2)
            stream = stream + torch.stack(
                [table[flat[:, g]] for g, table in enumerate(self.embeddings[m])]
            ).sum(0)
            rows = stream.flatten(0, 1)
            grid = Grid(count, h, w, FULL3)
            places = grid.places(torch.arange(h * w, device=flat.device))
            cells = places[:, None] + grid.offsets(FULL3).to(flat.device)
            for block in self.blocks[m]:
                cache = Cache(grid, rows.shape[1], rows.device)
                rows = block(rows, cache, places, cells)
            factor = self.factors[m]
            wide = self.upsamples[m](self.activations[m](rows))
            spread = wide.view(count, h, w, factor, factor, -1).permute(0, 1, 3, 2, 4, 5)
            stream = spread.reshape(count, h * w * factor**2, -1)
        return stream


class Group:
    """The heads of codebooks that don't see each other's indices, run together.

    Args:
        codebooks: Which, by number.
        first_quality: The lowest quality that has them.
        head_channels: Inputs of each head.
        weights: Of the prior.

    Raises:
        ValueError: the codebooks differ in size.
    """

    def __init__(
        self, codebooks: range, first_quality: int, head_channels: int, weights: Weights
    ) -> None:
        self.codebooks = codebooks
        self.first_quality = first_quality
        self.inputs = slice(codebooks.start * head_channels, codebooks.stop * head_channels)
        self.activations = [Activation(under(f"head_activations.{g}", weights)) for g in codebooks]
        self.heads = [Linear(under(f"heads.{g}", weights)) for g in codebooks]
        sizes = {head.weight.shape[1] for head in self.heads}
        if len(sizes) > 1:
            raise ValueError(f"codebooks of {sorted(sizes)} codes cannot be in one group")
        self.earlier: Tensor | None = None
        if f"earlier.{codebooks.start}" in weights:
            # One table, so that indices are summed in one go; float32 has all sums.
            tables = [_table(weights[f"earlier.{g}"]) for g in codebooks]
            self.earlier = torch.cat(tables).float()
            self.starts = torch.arange(len(codebooks), device=self.earlier.device) * len(tables[0])

    def before(self, end: int) -> Group:
        """The same without what it adds to the inputs of heads from `end` on."""
        narrow = copy.copy(self)
        if self.earlier is not None:
            width = end - self.inputs.stop
            narrow.earlier = self.earlier[:, :width].contiguous() if width else None
        return narrow

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the codebooks' indices, in 1/16 nat: integers in float64 [n, P, K].

        Args:
            hidden: What all heads start from, with every earlier group's indices added by `see`.
        """
        parts = hidden[:, self.inputs].chunk(len(self.heads), 1)
        each = zip(self.heads, self.activations, parts, strict=True)
        return torch.stack([head(activation(part)) for head, activation, part in each])

    def see(self, hidden: Tensor, indices: Tensor) -> None:
        """Adds the codebooks' indices [P, n] to the inputs of the heads after them, in place."""
        if self.earlier is None:
            return
        later = hidden[:, self.inputs.stop :]
        if indices.shape[1] == 1:
            later += self.earlier.index_select(0, indices[:, 0])
        else:
            later += F.embedding_bag(indices + self.starts, self.earlier, mode="sum")


class Heads(NamedTuple):
    """What a quality has of the heads."""

    open: Linear
    groups: list[Group]


class State:
    """Everything known about a batch of maps while it is coded.

    Attributes:
        groups: The groups of codebooks that their quality has.
        books: How many codebooks these are.
        open_heads: Gives what the heads start from, float64 [P, books * head_channels], for rows of
            `Prior.advance`.
    """

    def __init__(
        self, prior: Prior, heads: Heads, context: Tensor, count: int, height: int, width: int
    ) -> None:
        self.groups = heads.groups
        self.books = heads.groups[-1].codebooks.stop
        self.open_heads = heads.open
        device = context.device
        grid = Grid(count, height, width, CONE5)
        channels = context.shape[-1]
        self.grid = grid
        self.context = context
        self.cone3 = grid.offsets(CONE3).to(device)
        self.cone5 = grid.offsets(CONE5).to(device)
        self.embedded = Cache(grid, channels, device)
        self.blocks = [Cache(grid, channels, device) for _ in prior.blocks]
        self.attentions = {
            place: AttentionCache(grid, channels, attention.heads, device)
            for place, attention in prior.attentions.items()
        }


class Prior:
    """One level's integer prior.

    Args:
        config: The JSON form of `vqcodec.models.prior.PriorConfig`.
        weights: Its exported tensors.
        tables: The tables all priors share.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights, tables: Tables) -> None:
        self.sizes = [int(k) for k, _ in config["codebooks"]]
        self.exponential = tables.exponential
        self.context = Context(config, under("context", weights), tables)
        # One table, so that a position's codebooks are summed in one go; float32 has all sums.
        tables_of_books = [_table(weights[f"embedding.{g}"]) for g in range(len(self.sizes))]
        self.embedding = torch.cat(tables_of_books).float()
        starts = [0, *itertools.accumulate(map(len, tables_of_books))][:-1]
        self.embedding_starts = torch.tensor(starts, device=self.embedding.device)
        self.enter = Linear(under("enter", weights))
        self.blocks = [
            GatedBlock(under(f"blocks.{n}", weights), tables.gate) for n in range(config["blocks"])
        ]
        heads, layers = config["attention_heads"], config.get("attention_layers", 1)
        if heads and layers > config["blocks"]:
            raise ValueError(f"{layers} layers of attention need as many blocks")
        self.attentions = {
            (n + 1) * config["blocks"] // (layers + 1): Attention(
                under(f"attention_{n}" if n else "attention", weights), heads, tables.exponential
            )
            for n in range(layers if heads else 0)
        }
        self.activation = Activation(under("activation", weights))
        self.hidden = Linear(under("hidden", weights))
        self.heads: dict[int, Heads] = {}
        counts = config.get("groups") or [(1, 1)] * len(self.sizes)
        ends = list(itertools.accumulate(count for count, _ in counts))
        firsts = [first for _, first in counts]
        if ends[-1] != len(self.sizes) or firsts != sorted(firsts) or firsts[0] != 1:
            raise ValueError(f"groups {counts} do not fit {len(self.sizes)} codebooks")
        self.groups = [
            Group(range(end - count, end), first, int(config["head_channels"]), weights)
            for end, (count, first) in zip(ends, counts, strict=True)
        ]

    @torch.inference_mode()
    def start(
        self, coarser: Sequence[Tensor], quality: Tensor, label: Tensor, height: int, width: int
    ) -> State:
        """State of N maps [height, width] of which nothing is known yet.

        The arguments are those of `Context`.

        Raises:
            ValueError: some of the maps' qualities leave codebooks out which others have.
        """
        counts = {
            sum(group.first_quality <= each + 1 for group in self.groups)
            for each in quality.unique().tolist()
        }
        if len(counts) > 1:
            raise ValueError("maps of one batch need the same codebooks")
        context = self.context(coarser, quality, label, height, width)
        return State(self, self._heads(counts.pop()), context, len(quality), height, width)

    def _heads(self, count: int) -> Heads:
        """The heads of the first groups, made once."""
        if count not in self.heads:
            groups = self.groups[:count]
            end = groups[-1].inputs.stop
            self.heads[count] = Heads(
                self.hidden.first(end), [group.before(end) for group in groups]
            )
        return self.heads[count]

    def write(self, state: State, positions: Tensor, indices: Tensor) -> None:
        """Makes indices known.

        Args:
            state: Of N maps.
            positions: Raster positions, int64 [p].
            indices: Their indices, of the codebooks that the state has: int64 [N * p, books].
        """
        starts = self.embedding_starts[: state.books]
        total = F.embedding_bag(indices + starts, self.embedding, mode="sum")
        embedded = total.clamp_(-127, 127).to(torch.int8)
        state.embedded.write(state.grid.places(positions), embedded)

    def advance(self, state: State, positions: Tensor) -> Tensor:
        """Features of positions whose causal neighbours are known and were advanced before.

        Returns:
            Input of `State.open_heads`: int8 [N * p, C].
        """
        places = state.grid.places(positions)
        stream = state.context[:, positions].flatten(0, 1)
        for rows, some in zip(
            torch.split(stream, ROWS_PER_CALL), torch.split(places, ROWS_PER_CALL), strict=True
        ):
            rows += self.enter(state.embedded.features(some[:, None] + state.cone5))
        cells = places[:, None] + state.cone3
        for n, block in enumerate(self.blocks):
            if n in self.attentions:
                stream = self.attentions[n](stream, state.attentions[n], positions)
            stream = block(stream, state.blocks[n], places, cells)
        return self.activation(stream)

    def frequencies(self, logits: Tensor, temperature: int = TEMPERATURE_ONE) -> Tensor:
        """Frequencies of logits [..., K], of sum 2**24: integers in float64 [..., K].

        Args:
            logits: In 1/16 nat.
            temperature: In units of 1/256.
        """
        rows = frequencies(logits.flatten(0, -2), self.exponential, temperature)
        return rows.view(logits.shape)

    @torch.inference_mode()
    def parallel(self, state: State, indices: Tensor) -> Tensor:
        """Frequencies of all indices in one pass.

        Args:
            state: A fresh one, of N maps.
            indices: int64 [N, G, H, W].

        Returns:
            int32 [N, G, H * W, K]; codebooks smaller than the largest K are padded with zeros, and
            those left out at this quality are zero.
        """
        return self._of_all(state, indices, self.frequencies, torch.int32)

    @torch.inference_mode()
    def code_lengths(self, state: State, indices: Tensor) -> Tensor:
        """What every code would cost in place of each index, all others being what they are.

        Args:
            state: A fresh one, of N maps.
            indices: int64 [N, G, H, W].

        Returns:
            Bits, float32 [N, G, H * W, K]; zero where `parallel` has zeros.
        """
        return self._of_all(state, indices, expected_code_lengths, torch.float32)

    def _of_all(
        self,
        state: State,
        indices: Tensor,
        read: Callable[[Tensor], Tensor],
        dtype: torch.dtype,
    ) -> Tensor:
        """What is read from the logits [P, K] of all indices: [N, G, H * W, K]."""
        count, books, height, width = indices.shape
        everywhere = torch.arange(height * width, device=indices.device)
        known = indices[:, : state.books].flatten(2).permute(0, 2, 1).flatten(0, 1)
        self.write(state, everywhere, known)
        features = self.advance(state, everywhere)
        shape = (books, len(known), max(self.sizes))
        result = torch.zeros(shape, dtype=dtype, device=known.device)
        for start in range(0, len(known), ROWS_PER_CALL):
            rows = slice(start, start + ROWS_PER_CALL)
            hidden = state.open_heads(features[rows])
            for group in state.groups:
                own = slice(group.codebooks.start, group.codebooks.stop)
                for g, logits in zip(group.codebooks, group.logits(hidden), strict=True):
                    result[g, rows, : logits.shape[1]] = read(logits)
                group.see(hidden, known[rows, own])
        return result.view(books, count, height * width, -1).transpose(0, 1)

    @torch.inference_mode()
    def wavefront(
        self,
        state: State,
        choose: Choose,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Finds all indices step by step.

        Args:
            state: A fresh one, of N maps.
            choose: Gives the symbols of each group of each step.
            progress: Called with the number of steps done and of all steps.

        Returns:
            int64 [N, G, H, W], 0 for codebooks left out.
        """
        grid = state.grid
        device = state.context.device
        result = torch.zeros(
            grid.count, grid.height * grid.width, len(self.sizes), dtype=torch.int64, device=device
        )
        order = steps(grid.height, grid.width)
        rows = grid.count * max(map(len, order))
        with _few_threads(rows * state.context.shape[-1] ** 2):
            for n, step in enumerate(order):
                positions = step.to(device)
                hidden = state.open_heads(self.advance(state, positions))
                chosen = []
                for group in state.groups:
                    logits = group.logits(hidden).unflatten(1, (grid.count, -1))
                    by_map = logits.transpose(0, 1).flatten(1, 2)
                    symbols = choose(group.codebooks.start, by_map).to(device)
                    found = symbols.view(grid.count, -1, len(step)).transpose(1, 2).flatten(0, 1)
                    group.see(hidden, found)
                    chosen.append(found)
                known = torch.cat(chosen, 1)
                self.write(state, positions, known)
                result[:, positions, : state.books] = known.view(grid.count, len(step), -1)
                if progress is not None:
                    progress(n + 1, len(order))
        return result.transpose(1, 2).reshape(grid.count, len(self.sizes), grid.height, grid.width)
