"""The PixelSNAIL prior in integers: the same frequencies on every machine.

One module serves both directions. Its features live in zero-bordered caches, and `advance`
computes them for any set of positions whose causal neighbours are there already: for all
positions at once when the indices are known (compress), or for one step after the other
(decompress, sample). Both are the same integers, because every operation is exact.

The architecture is that of `vqcodec.models.prior`; `vqcodec.entropy.payload` has the order in which
indices become known.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.entropy.frequencies import (
    TEMPERATURE_ONE,
    Tables,
    expected_code_lengths,
    frequencies,
)
from vqcodec.entropy.layers import (
    ROWS_PER_CALL,
    Activation,
    Attention,
    AttentionCache,
    Cache,
    GatedBlock,
    Linear,
    Weights,
    stream_table,
    under,
)
from vqcodec.entropy.wavefront import Grid, steps
from vqcodec.spec.cone import CONE3, CONE5, FULL3
from vqcodec.spec.prior import Group, PriorConfig


class Context:
    """From the coarser levels' indices, quality and class to a stream, all integers."""

    def __init__(self, config: PriorConfig, weights: Weights, tables: Tables) -> None:
        self.quality = stream_table(weights["quality"]).double()
        self.classes = stream_table(weights["classes"]).double()
        self.factors = config.factors
        self.embeddings = [
            [stream_table(weights[f"embeddings.{m}.{g}"]).double() for g in range(len(books))]
            for m, books in enumerate(config.coarser)
        ]
        self.blocks = [
            [
                GatedBlock(under(f"blocks.{m}.{n}", weights), tables.gate)
                for n in range(config.context_blocks)
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


class GroupHeads:
    """The heads of a group of codebooks, which run together.

    Args:
        group: Which codebooks; they are of one size.
        head_channels: Inputs of each head.
        weights: Of the prior.

    Raises:
        ValueError: the codebooks differ in size.
    """

    def __init__(self, group: Group, head_channels: int, weights: Weights) -> None:
        self.codebooks, self.first_quality = group
        first, end = self.codebooks.start, self.codebooks.stop
        self.books = slice(first, end)
        self.inputs = slice(first * head_channels, end * head_channels)
        self.activations = [
            Activation(under(f"head_activations.{g}", weights)) for g in self.codebooks
        ]
        self.heads = [Linear(under(f"heads.{g}", weights)) for g in self.codebooks]
        sizes = {head.weight.shape[1] for head in self.heads}
        if len(sizes) > 1:
            raise ValueError(f"codebooks of {sorted(sizes)} codes cannot be in one group")
        (self.size,) = sizes
        self.earlier: Tensor | None = None
        if f"earlier.{first}" in weights:
            # One table, so that indices are summed in one go; float32 has all sums.
            tables = [stream_table(weights[f"earlier.{g}"]) for g in self.codebooks]
            self.earlier = torch.cat(tables).float()
            self.starts = torch.arange(len(tables), device=self.earlier.device) * len(tables[0])

    def before(self, end: int) -> GroupHeads:
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
    groups: list[GroupHeads]


class State:
    """Everything known about a batch of N equal maps while it is coded.

    Attributes:
        groups: The groups of codebooks that their quality has.
        books: How many codebooks these are.
        steps: Raster positions of each step, int64 [p], in the order in which they become known.
        indices: What is known, int64 [N, H * W, G]; 0 for what is not, and for codebooks left out.
        open_heads: Gives what the heads start from, float64 [P, books * head_channels], for rows of
            `Prior.advance`.
        hidden: What the heads of the step at hand start from.
        found: Indices of the step at hand, int64 [N * p, n] of each group so far.
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
        self.steps = steps(height, width)
        self.context = context
        self.cone3 = grid.offsets(CONE3).to(device)
        self.cone5 = grid.offsets(CONE5).to(device)
        self.embedded = Cache(grid, channels, device)
        self.blocks = [Cache(grid, channels, device) for _ in prior.blocks]
        self.attentions = {
            place: AttentionCache(grid, channels, attention.heads, device)
            for place, attention in prior.attentions.items()
        }
        shape = (count, height * width, len(prior.sizes))
        self.indices = torch.zeros(shape, dtype=torch.int64, device=device)
        self.hidden = torch.empty(0)
        self.found: list[Tensor] = []

    @property
    def maps(self) -> Tensor:
        """The indices as maps: int64 [N, G, H, W]."""
        shape = (self.grid.count, -1, self.grid.height, self.grid.width)
        return self.indices.transpose(1, 2).reshape(shape)


class Prior:
    """One level's integer prior.

    Args:
        config: Its shape.
        weights: Its exported tensors.
        tables: The tables all priors share.
    """

    def __init__(self, config: PriorConfig, weights: Weights, tables: Tables) -> None:
        self.sizes = [size for size, _ in config.codebooks]
        self.exponential = tables.exponential
        self.context = Context(config, under("context", weights), tables)
        # One table, so that a position's codebooks are summed in one go; float32 has all sums.
        tables_of_books = [stream_table(weights[f"embedding.{g}"]) for g in range(len(self.sizes))]
        self.embedding = torch.cat(tables_of_books).float()
        starts = [0, *itertools.accumulate(map(len, tables_of_books))][:-1]
        self.embedding_starts = torch.tensor(starts, device=self.embedding.device)
        self.enter = Linear(under("enter", weights))
        self.blocks = [
            GatedBlock(under(f"blocks.{n}", weights), tables.gate) for n in range(config.blocks)
        ]
        self.attentions = {
            place: Attention(
                under(f"attention_{n}" if n else "attention", weights),
                config.attention_heads,
                tables.exponential,
            )
            for n, place in enumerate(config.attention_places)
        }
        self.activation = Activation(under("activation", weights))
        self.hidden = Linear(under("hidden", weights))
        self.heads: dict[int, Heads] = {}
        self.groups = [
            GroupHeads(group, config.head_channels, weights) for group in config.codebook_groups
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

    # Position by position

    def logits(self, state: State, positions: Tensor, group: GroupHeads) -> Tensor:
        """What is to be expected of a group of codebooks at positions.

        Args:
            state: All positions of earlier steps are known, and so are the earlier groups at these.
            positions: Of a step, raster positions int64 [p].
            group: Of the state's.

        Returns:
            Integers in float64 [N, n * p, K], in 1/16 nat, codebook by codebook.
        """
        if group is state.groups[0]:
            state.hidden = state.open_heads(self.advance(state, positions.to(state.context.device)))
        by_map: Tensor = group.logits(state.hidden).unflatten(1, (state.grid.count, -1))
        return by_map.transpose(0, 1).flatten(1, 2)

    def know(self, state: State, positions: Tensor, group: GroupHeads, symbols: Tensor) -> None:
        """Makes a group's indices known at positions that `logits` was asked about.

        Args:
            state: Of N maps.
            positions: As of `logits`.
            group: As of `logits`.
            symbols: Integers [N, n * p], codebook by codebook.
        """
        device, count = state.context.device, state.grid.count
        by_book = symbols.to(device, torch.int64).view(count, -1, len(positions))
        found = by_book.transpose(1, 2).flatten(0, 1)
        group.see(state.hidden, found)
        state.found.append(found)
        if group is state.groups[-1]:
            known = torch.cat(state.found, 1)
            state.found.clear()
            here = positions.to(device)
            self.write(state, here, known)
            state.indices[:, here, : state.books] = known.view(count, len(positions), -1)

    def write(self, state: State, positions: Tensor, indices: Tensor) -> None:
        """Gives the features of positions after these something to see.

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

    # All positions at once

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
                for g, logits in zip(group.codebooks, group.logits(hidden), strict=True):
                    result[g, rows, : logits.shape[1]] = read(logits)
                group.see(hidden, known[rows, group.books])
        return result.view(books, count, height * width, -1).transpose(0, 1)
