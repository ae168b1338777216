"""An integer prior's weights as the compiled steps take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.entropy.layers import Activation, Linear
from vqcodec.entropy.prior import Context, GroupHeads, Prior
from vqcodec.kernels import steps
from vqcodec.kernels.steps import Bytes, Layers, Longs, Plan, Words
from vqcodec.kernels.tile import FILTERS, QUAD
from vqcodec.spec.prior import REQUANTIZE_BITS

LIMIT = 1 << 30  # of anything that is kept in int32


class UnfitError(ValueError):
    """A prior whose integers int32 might not hold."""


class Heads(NamedTuple):
    """What a quality has of the heads.

    Attributes:
        plans: From `hidden` to each group's logits; that of the first group opens the heads.
        columns: Of `hidden`, whole blocks of filters.
        earlier: What each group's indices add to `hidden`, int16 [n * K, columns]; of one column
            that nobody reads, if they add nothing.
        added: First column that they add to, and the one after the last, of each group.
    """

    plans: list[Longs]
    columns: int
    earlier: list[npt.NDArray[np.int16]]
    added: list[tuple[int, int]]


class _Packing:
    """Numbers products and activations as they come."""

    def __init__(self) -> None:
        self.linears: list[Linear] = []
        self.activations: list[Activation] = []
        self.plan: list[Plan] = []

    def phase(
        self,
        phase: int,
        number: int = 0,
        activation: Activation | None = None,
        products: Sequence[Linear] = (),
    ) -> None:
        """Adds a phase, with what it needs."""
        row = Plan(phase, number, len(self.activations), len(self.linears))
        self.plan.append(row)
        self.linears += products
        self.activations += [] if activation is None else [activation]


def _integers(tensor: Tensor, bits: int = 0) -> Longs:
    """Integers in float64, in units of 2**-bits, as int64."""
    found: Longs = (tensor.double() * 2.0**bits).long().numpy()
    return found


def _bytes(table: Tensor) -> Bytes:
    """int8 to bytes 128 above."""
    found: Bytes = (table.short() + steps.ZERO).to(torch.uint8).numpy()
    return found


def _layers(packing: _Packing, prior: Prior, widest: Sequence[Linear]) -> Layers:
    """The layers of a packing.

    Args:
        packing: Of all phases.
        prior: Has the tables.
        widest: Products whose results don't go through `sums`.

    Raises:
        UnfitError: int32 might not hold what they give.
    """
    filters, products, multipliers, offsets = [], [], [], []
    start = multiplier = 0
    for linear in packing.linears:
        weight = linear.weight.numpy()
        inner, outputs = weight.shape
        quads, blocks = -(-inner // QUAD), -(-outputs // FILTERS)
        padded = np.zeros((QUAD * quads, FILTERS * blocks), np.int64)
        padded[:inner, :outputs] = weight
        scale, offset = np.zeros((2, FILTERS * blocks), np.int64)
        scale[:outputs] = _integers(linear.multiplier, REQUANTIZE_BITS)
        offset[:outputs] = _integers(linear.offset, REQUANTIZE_BITS)
        sums = np.abs(padded).sum(0) * steps.ZERO
        largest = (sums * np.abs(scale) + np.abs(offset)).max() >> REQUANTIZE_BITS
        if largest >= LIMIT // len(packing.linears) or np.abs(scale).max() >= LIMIT:
            raise UnfitError("int32 might not hold a product's multipliers or what it gives")
        blocked = padded.reshape(quads, QUAD, blocks, FILTERS).transpose(2, 0, 3, 1)
        filters.append(blocked.astype(np.int8).tobytes())
        products.append((start, quads, blocks, multiplier))
        multipliers.append(scale.astype(np.int32))
        # Inputs come 128 above their values.
        offsets.append(offset - steps.ZERO * padded.sum(0) * scale)
        start += len(filters[-1])
        multiplier += len(scale)
    shapes = np.array(products, np.int64)
    inner_sums = [
        shape[2] for shape, of in zip(shapes, packing.linears, strict=True) if of not in widest
    ]
    tables = [_bytes(each.table)[None] for each in packing.activations]
    head = prior.groups[0].heads[0]
    return Layers(
        filters=np.frombuffer(b"".join(filters), np.uint8),
        products=shapes,
        multipliers=np.concatenate(multipliers),
        offsets=np.concatenate(offsets),
        activations=np.concatenate(tables),
        shifts=np.array([each.shift for each in packing.activations], np.int64),
        gates=_bytes(prior.gates),
        exponential=prior.exponential.numpy().astype(np.int32),
        scales=np.array([each.scale for each in prior.attentions.values()], np.int64),
        head_channels=len(head.weight),
        inputs=QUAD * int(shapes[:, 1].max()),
        sums=FILTERS * int(max(inner_sums)),
    )


def _array(plan: Sequence[Plan]) -> Longs:
    return np.array(plan, np.int64).reshape(-1, len(Plan._fields))


class Program:
    """A prior's layers, and plans to go through them.

    Attributes:
        layers: Its layers.
        plan: From known neighbours to features.
        embedding: Of the level's own indices, int32 [codes of all codebooks, C].
        starts: First row of each codebook in it, int64 [G].
        sizes: K of each codebook.
        context: What leads from the coarser levels' indices to a stream.

    Raises:
        UnfitError: int32 might not hold what it computes.
    """

    def __init__(self, prior: Prior) -> None:
        packing = _Packing()
        packing.phase(steps.ENTER, products=[prior.enter])
        for n, block in enumerate(prior.blocks):
            if n in prior.attentions:
                layer, number = prior.attentions[n], list(prior.attentions).index(n)
                packing.phase(steps.ASK, number, layer.activation, [layer.query_key_value])
                packing.phase(steps.ATTEND, number, products=[layer.project])
            packing.phase(steps.WRITE, n, block.activation)
            packing.phase(steps.BLOCK, n, products=[block.gate, block.project])
        packing.phase(steps.FINISH, activation=prior.activation)
        self.plan = _array(packing.plan)
        packing.phase(steps.OPEN, products=[prior.hidden])
        self._open = packing.plan[-1]
        first = len(packing.plan)
        for group in prior.groups:
            for n, (head, activation) in enumerate(
                zip(group.heads, group.activations, strict=True)
            ):
                packing.phase(steps.HEAD, n, activation, [head])
        self._asked = packing.plan[first:]
        self._groups = prior.groups
        self._heads: dict[int, Heads] = {}
        self.layers = _layers(packing, prior, [prior.hidden])
        self.blocks, self.attentions = len(prior.blocks), len(prior.attentions)
        self.attention_heads = next((each.heads for each in prior.attentions.values()), 1)
        self.embedding = _integers(prior.embedding).astype(np.int32)
        self.starts = prior.embedding_starts.numpy()
        self.sizes = prior.sizes
        self.context = ContextProgram(prior.context, prior)

    @property
    def channels(self) -> int:
        """C."""
        return int(self.embedding.shape[1])

    def heads(self, count: int) -> Heads:
        """The heads of the first groups, made once."""
        if count not in self._heads:
            self._heads[count] = self._made(self._groups[:count])
        return self._heads[count]

    def _made(self, groups: Sequence[GroupHeads]) -> Heads:
        plans, earlier, added = [], [], []
        end = groups[-1].inputs.stop
        blocks = -(-end // FILTERS)
        width = self.layers.head_channels
        for group in groups:
            asked = [self._asked[g]._replace(column=g * width) for g in group.codebooks]
            opened = [self._open._replace(column=blocks)] if group is groups[0] else []
            plans.append(_array([*opened, *asked]))
            stop = end if group.earlier is not None else group.inputs.stop
            added.append((group.inputs.stop, stop))
            table = torch.zeros(0, 1) if group.earlier is None else group.earlier
            earlier.append(_integers(table[:, : max(1, stop - group.inputs.stop)]).astype(np.int16))
        return Heads(plans, FILTERS * blocks, earlier, added)


class ContextProgram:
    """The same of what leads from coarser levels' indices to a stream.

    Attributes:
        start: Tables of the quality and the class, int32 [.., C].
        embeddings: Of each coarser level's codebooks, int32 [K, C] each.
        layers: Of each coarser level.
        plans: The same.
        factors: The same, of its stride over that of the next finer one.
        blocks: The same, how many.
    """

    def __init__(self, context: Context, prior: Prior) -> None:
        def table(of: Tensor) -> Words:
            return _integers(of).astype(np.int32)

        self.start = table(context.quality), table(context.classes)
        self.embeddings = [[table(each) for each in level] for level in context.embeddings]
        self.factors = context.factors
        self.blocks = [len(blocks) for blocks in context.blocks]
        self.layers: list[Layers] = []
        self.plans: list[Longs] = []
        for m, blocks in enumerate(context.blocks):
            packing = _Packing()
            for n, block in enumerate(blocks):
                packing.phase(steps.WRITE, n, block.activation)
                packing.phase(steps.BLOCK, n, products=[block.gate, block.project])
            last = context.activations[m], [context.upsamples[m]]
            packing.phase(steps.UPSAMPLE, 0, *last)
            self.layers.append(_layers(packing, prior, []))
            self.plans.append(_array(packing.plan))
