"""The PixelSNAIL prior in integers: the same frequencies on every machine.

The architecture is that of `vqcodec.models.prior`; `vqcodec.entropy.state` has what a prior knows
of maps while they are coded, and `vqcodec.entropy.payload` the order in which it gets to know it.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec import kernels
from vqcodec.entropy.frequencies import TEMPERATURE_ONE, Tables, frequencies
from vqcodec.entropy.layers import (
    Activation,
    Attention,
    Cache,
    GatedBlock,
    Linear,
    Weights,
    stream_table,
    under,
)
from vqcodec.entropy.state import State, TorchState
from vqcodec.entropy.wavefront import Grid
from vqcodec.spec.cone import FULL3
from vqcodec.spec.prior import EXPONENTIAL_BITS, TABLE_LENGTH, Group, PriorConfig

if TYPE_CHECKING:
    from vqcodec.entropy.program import Program


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


class Prior:
    """One level's integer prior.

    Args:
        config: Its shape.
        weights: Its exported tensors.
        tables: The tables all priors share.

    Raises:
        KeyError, ValueError: the tensors or tables are not those of such a prior.
    """

    def __init__(self, config: PriorConfig, weights: Weights, tables: Tables) -> None:
        _check_shapes(config, weights, tables)
        self.sizes = [size for size, _ in config.codebooks]
        self.gates = tables.gate
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
        self._program: Program | None = None
        self._unfit = False
        self.groups = [
            GroupHeads(group, config.head_channels, weights) for group in config.codebook_groups
        ]

    @torch.inference_mode()
    def start(
        self,
        coarser: Sequence[Tensor],
        quality: Tensor,
        label: Tensor,
        height: int,
        width: int,
        steps: Sequence[Tensor] | None = None,
    ) -> State:
        """State of N maps [height, width] of which nothing is known yet.

        Args:
            coarser: As of `Context`.
            quality: As of `Context`.
            label: As of `Context`.
            height: As of `Context`.
            width: As of `Context`.
            steps: Raster positions, int64 [p] each, in another order than the wavefront's.

        Raises:
            ValueError: some of the maps' qualities leave codebooks out which others have.
        """
        counts = {
            sum(group.first_quality <= each + 1 for group in self.groups)
            for each in quality.unique().tolist()
        }
        if len(counts) > 1:
            raise ValueError("maps of one batch need the same codebooks")
        number = counts.pop()
        if (program := self._compiled()) is not None:
            from vqcodec.entropy.compiled import CompiledState

            groups = self.heads_of(number).groups
            return CompiledState(program, groups, coarser, quality, label, height, width, steps)
        context = self.context(coarser, quality, label, height, width)
        return TorchState(self, self.heads_of(number), context, len(quality), height, width, steps)

    def _compiled(self) -> Program | None:
        """The prior as compiled steps take it, made once; None where PyTorch computes it."""
        if self._unfit or not kernels.usable(self.embedding.device):
            return None
        if self._program is None:
            from vqcodec.entropy.program import Program, UnfitError

            try:
                self._program = Program(self)
            except UnfitError:
                self._unfit = True
        return self._program

    def heads_of(self, count: int) -> Heads:
        """The heads of the first groups, made once."""
        if count not in self.heads:
            groups = self.groups[:count]
            end = groups[-1].inputs.stop
            self.heads[count] = Heads(
                self.hidden.first(end), [group.before(end) for group in groups]
            )
        return self.heads[count]

    def frequencies(self, logits: Tensor, temperature: int = TEMPERATURE_ONE) -> Tensor:
        """Frequencies of logits [..., K], of sum 2**24: integers in float64 [..., K].

        Args:
            logits: In 1/16 nat.
            temperature: In units of 1/256.
        """
        rows = frequencies(logits.flatten(0, -2), self.exponential, temperature)
        return rows.view(logits.shape)


def _check_shapes(config: PriorConfig, weights: Weights, tables: Tables) -> None:
    """Refuses what compiled steps, which trust their arrays, might read or write outside of.

    Raises:
        ValueError: a tensor is missing, of another shape, or unknown.
    """
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted({name for name, _ in found.items() ^ config.shapes.items()})
    if wrong:
        raise ValueError(f"tensors are not those of the config: {', '.join(wrong[:3])}")
    gate, exponential = tables
    if gate.dtype != torch.int8 or gate.shape != (TABLE_LENGTH**2,):
        raise ValueError("the table of gates is another one")
    most = 1 << EXPONENTIAL_BITS
    if (
        exponential.dtype != torch.int64
        or exponential.shape != (TABLE_LENGTH,)
        or int(exponential[0]) != most
        or not 0 <= int(exponential.min()) <= int(exponential.max()) <= most
    ):
        raise ValueError("the table of exponentials is another one")
