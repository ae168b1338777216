"""A prior's shape, grids and limits: what its float and its integer form have in common.

FORMAT.md specifies what is computed; a weights file holds the config as JSON.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from vqcodec.spec import declared
from vqcodec.spec.cone import CONE3, CONE5, FULL3

# Grids, in the units of the float prior.
STREAM_BITS = 10  # residual streams: 2**-10
EMBEDDING_STEP = 1 / 32  # embeddings that enter a convolution, int8
TANH_STEP = 1 / 32
SIGMOID_STEP = 1 / 16
GATE_STEP = 1 / 127
ATTENTION_STEP = 1 / 16  # queries, keys, values
LOGIT_STEP = 1 / 16  # nats
BITS_OF_LOGIT = LOGIT_STEP / math.log(2)

# Limits of the integers.
WEIGHT_LIMIT = 63  # 7-bit weights: larger ones saturate in some processors' int8 products
ACTIVATION_LIMIT = 128
INT32_SUM = 2**31
REQUANTIZE_BITS = 24
EXACT_IN_FLOAT64 = 2.0**53
MAX_SHIFT = 24
TOTAL_BITS = 24  # of the sum of an index's frequencies
TOTAL = 1 << TOTAL_BITS
EXPONENTIAL_BITS = 20  # of exp(0)
RECIPROCAL_BITS = 20
TABLE_LENGTH = 256  # of activations and exponentials


class Group(NamedTuple):
    """A group of codebooks: they don't see each other's indices, so that they are decoded at once.

    Attributes:
        codebooks: Which, by number.
        first_quality: The lowest quality, from 1, that has them.
    """

    codebooks: range
    first_quality: int


@dataclass(frozen=True)
class PriorConfig:
    """One level's prior.

    Attributes:
        codebooks: (num_embeddings K, embedding_dim D) of the level's own codebooks.
        coarser: The same of every coarser level, coarsest first.
        factors: Per coarser level, its stride over that of the next finer one.
        channels: Width C of the streams.
        blocks: Gated residual blocks of the trunk.
        context_blocks: Gated residual blocks at every coarser level's resolution.
        attention_heads: Heads of the causal attention; 0 for none.
        attention_layers: Layers of attention, evenly between the blocks.
        head_channels: Hidden width of a codebook's head.
        qualities: Number of qualities.
        quality_knots: So many vectors, evenly spread over the qualities and interpolated between;
            0 for a vector of each quality's own.
        groups: Codebooks and first quality (from 1) of each group, in coding order. Codebooks of a
            group are of one size and don't see each other, and lower qualities leave the group out:
            its indices are 0, and nothing of the level sees them. Empty for groups of one codebook
            that all qualities have.
        classes: Number of classes; 0 for an unconditional prior. Entry 0 of the class table is
            "no class".
        dropout: Share of the values that a residual block adds which training drops.
        attention_dropout: Share of the attention's logits which training drops.

    Raises:
        ValueError: values that cannot be, more layers of attention than blocks, channels that its
            heads do not divide, or groups that don't fit the codebooks.
    """

    codebooks: tuple[tuple[int, int], ...]
    coarser: tuple[tuple[tuple[int, int], ...], ...] = ()
    factors: tuple[int, ...] = ()
    channels: int = 128
    blocks: int = 5
    context_blocks: int = 2
    attention_heads: int = 0
    attention_layers: int = 1
    head_channels: int = 96
    qualities: int = 1
    quality_knots: int = 0
    groups: tuple[tuple[int, int], ...] = ()
    classes: int = 0
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        declared.check(self, parts=("blocks", "context_blocks", "attention_layers"))
        heads, layers = self.attention_heads, self.attention_layers
        if heads and layers > self.blocks:
            reason = f"{layers} layers of attention do not fit between {self.blocks} blocks"
            raise ValueError(f"{reason}; give fewer attention layers or more blocks")
        if heads and self.channels % heads:
            reason = f"{self.channels} channels cannot be shared by {heads} attention heads"
            raise ValueError(f"{reason}; give a multiple of {heads} channels")
        firsts = [first for _, first in self.groups]
        if self.groups and (
            sum(count for count, _ in self.groups) != len(self.codebooks)
            or firsts != sorted(firsts)
            or firsts[0] != 1
            or any(
                len({self.codebooks[g][0] for g in group.codebooks}) != 1
                for group in self.codebook_groups
            )
        ):
            raise ValueError(f"groups {self.groups} don't fit {len(self.codebooks)} codebooks")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> PriorConfig:
        """Rebuilds a config from `to_dict`'s JSON-ready form."""

        def pairs(books: Any) -> tuple[tuple[int, int], ...]:
            return tuple((int(k), int(d)) for k, d in books)

        return cls(
            **{
                **fields,
                "codebooks": pairs(fields["codebooks"]),
                "coarser": tuple(pairs(books) for books in fields["coarser"]),
                "factors": tuple(int(factor) for factor in fields["factors"]),
                "groups": pairs(fields.get("groups", ())),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form of the config."""
        return asdict(self)

    @property
    def codebook_groups(self) -> list[Group]:
        """The groups of codebooks, in coding order."""
        groups = self.groups or ((1, 1),) * len(self.codebooks)
        ends = itertools.accumulate(count for count, _ in groups)
        return [
            Group(range(end - count, end), first)
            for end, (count, first) in zip(ends, groups, strict=True)
        ]

    @property
    def first_qualities(self) -> list[int]:
        """The lowest quality, from 1, that has each codebook."""
        return [group.first_quality for group in self.codebook_groups for _ in group.codebooks]

    @property
    def attention_places(self) -> list[int]:
        """Number of the block that each layer of attention stands before."""
        layers = self.attention_layers if self.attention_heads else 0
        return [(n + 1) * self.blocks // (layers + 1) for n in range(layers)]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the tensors of an exported prior, by name."""
        width, books = self.channels, self.codebooks
        found: dict[str, tuple[int, ...]] = {
            "context.quality": (self.qualities, width),
            "context.classes": (self.classes + 1, width),
        }

        def activation(name: str) -> None:
            found.update({f"{name}.table": (TABLE_LENGTH,), f"{name}.shift": ()})

        def linear(name: str, inputs: int, outputs: int) -> None:
            found.update({f"{name}.weight": (inputs, outputs)})
            found.update(dict.fromkeys((f"{name}.multiplier", f"{name}.offset"), (outputs,)))

        def block(name: str, taps: int) -> None:
            activation(f"{name}.activation")
            linear(f"{name}.gate", taps * width, 2 * width)
            linear(f"{name}.project", width, width)

        for m, (coarser, factor) in enumerate(zip(self.coarser, self.factors, strict=True)):
            for g, (size, _) in enumerate(coarser):
                found[f"context.embeddings.{m}.{g}"] = (size, width)
            for n in range(self.context_blocks):
                block(f"context.blocks.{m}.{n}", len(FULL3))
            activation(f"context.activations.{m}")
            linear(f"context.upsamples.{m}", width, width * factor**2)
        linear("enter", len(CONE5) * width, width)
        for n in range(self.blocks):
            block(f"blocks.{n}", len(CONE3))
        for n in range(len(self.attention_places)):
            name = f"attention_{n}" if n else "attention"
            activation(f"{name}.activation")
            linear(f"{name}.query_key_value", width, 3 * width)
            linear(f"{name}.project", width, width)
            found[f"{name}.scale"] = ()
        activation("activation")
        linear("hidden", width, self.head_channels * len(books))
        for g, (size, _) in enumerate(books):
            found[f"embedding.{g}"] = (size, width)
            activation(f"head_activations.{g}")
            linear(f"heads.{g}", self.head_channels, size)
        for group in self.codebook_groups:
            later = self.head_channels * (len(books) - group.codebooks.stop)
            if later:
                found |= {f"earlier.{g}": (books[g][0], later) for g in group.codebooks}
        return found
