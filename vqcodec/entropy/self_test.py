"""Compiled code is used only where it finds what PyTorch finds.

A prior of random weights, the largest ones among them, has to give the frequencies whose hash
stands here: that of what `TorchState` gives. So not every process computes both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.entropy.frequencies import Tables
from vqcodec.entropy.prior import Prior
from vqcodec.entropy.state import State
from vqcodec.spec.cone import CONE3, CONE5, FULL3
from vqcodec.spec.prior import REQUANTIZE_BITS, WEIGHT_LIMIT, PriorConfig

CONFIG = PriorConfig(
    codebooks=((20, 1),) * 3,
    coarser=(((8, 1),),),
    factors=(2,),
    channels=24,
    blocks=2,
    context_blocks=1,
    attention_heads=2,
    head_channels=12,
    groups=((1, 1), (2, 1)),
)
COUNT, HEIGHT, WIDTH = 2, 6, 10
EXPECTED = "441ba9d4c49fc34509850c7ad14a0d3f904cdf37d1612723c6ffc2dac0d20080"


class _Random:
    """Integers that are the same for ever."""

    def __init__(self) -> None:
        self.bits = np.random.PCG64(0)

    def __call__(self, low: int, high: int, *shape: int) -> Tensor:
        """int64 of a shape, from low to high."""
        raw = self.bits.random_raw(int(np.prod(shape))) % np.uint64(high - low + 1)
        return torch.from_numpy(raw.astype(np.int64)).view(shape) + low


def prior() -> Prior:
    """A prior whose integers reach as far as those of a model may."""
    random = _Random()
    channels, head = CONFIG.channels, CONFIG.head_channels
    weights: dict[str, Tensor] = {}

    def linear(name: str, inner: int, outputs: int, typical: int) -> None:
        """A product whose results are as large as `typical`, in most of its filters."""
        weight = random(-WEIGHT_LIMIT, WEIGHT_LIMIT, inner, outputs)
        weight[:, 0], weight[:, 1] = WEIGHT_LIMIT, -WEIGHT_LIMIT
        weights[f"{name}.weight"] = weight.to(torch.int8)
        one = int((typical << REQUANTIZE_BITS) / (36 * 74 * inner**0.5))
        weights[f"{name}.multiplier"] = random(one // 2, one, outputs) * (
            2 * random(0, 1, outputs) - 1
        )
        weights[f"{name}.offset"] = random(-(1 << 30), 1 << 30, outputs)

    def activation(name: str) -> None:
        weights[f"{name}.table"] = random(-128, 127, 256).to(torch.int8)
        weights[f"{name}.shift"] = torch.tensor(4)

    def table(name: str, rows: int, columns: int, largest: int) -> None:
        weights[name] = random(-largest, largest, rows, columns).to(torch.int16)

    def block(name: str, taps: int) -> None:
        activation(f"{name}.activation")
        linear(f"{name}.gate", taps * channels, 2 * channels, 100)
        linear(f"{name}.project", channels, channels, 1000)

    table("context.quality", CONFIG.qualities, channels, 1000)
    table("context.classes", CONFIG.classes + 1, channels, 1000)
    table("context.embeddings.0.0", 8, channels, 1000)
    block("context.blocks.0.0", len(FULL3))
    activation("context.activations.0")
    linear("context.upsamples.0", channels, 4 * channels, 1000)
    linear("enter", len(CONE5) * channels, channels, 1000)
    for n in range(CONFIG.blocks):
        block(f"blocks.{n}", len(CONE3))
    activation("attention.activation")
    linear("attention.query_key_value", channels, 3 * channels, 60)
    linear("attention.project", channels, channels, 1000)
    weights["attention.scale"] = torch.tensor(1 << (REQUANTIZE_BITS - 9))
    activation("activation")
    linear("hidden", channels, len(CONFIG.codebooks) * head, 1000)
    for g, (size, _) in enumerate(CONFIG.codebooks):
        table(f"embedding.{g}", size, channels, 60)
        activation(f"head_activations.{g}")
        linear(f"heads.{g}", head, size, 25)
    for group in CONFIG.codebook_groups[:-1]:
        later = len(CONFIG.codebooks) - group.codebooks.stop
        for g in group.codebooks:
            table(f"earlier.{g}", CONFIG.codebooks[g][0], later * head, 1000)
    gate = random(-128, 127, 1 << 16).to(torch.int8)
    exponential = (torch.exp(-torch.arange(256) / 16.0) * 2**20).round().long()
    return Prior(CONFIG, weights, Tables(gate, exponential))


def maps() -> tuple[Tensor, list[Tensor]]:
    """Indices of the level and of the coarser one."""
    random = _Random()
    coarser = random(0, 7, COUNT, 1, HEIGHT // 2, WIDTH // 2)
    return random(0, 19, COUNT, len(CONFIG.codebooks), HEIGHT, WIDTH), [coarser]


def found(state: State, own: Tensor) -> Iterator[npt.NDArray[np.float32]]:
    """What the heads say step by step, if these are the indices, as of `State.read`."""
    for step, positions in enumerate(state.steps):
        for number, group in enumerate(state.groups):
            yield state.read(step, number)
            asked = own.flatten(2)[:, group.books, positions].flatten(1)
            state.know(step, number, asked.int().numpy())


def digest(state: State, own: Tensor) -> str:
    """SHA-256 of everything `found`."""
    whole = hashlib.sha256()
    for rows in found(state, own):
        whole.update(rows.tobytes())
    return whole.hexdigest()


def fault() -> str | None:
    """Compiles what is not compiled, and says what is wrong with it, or None."""
    from vqcodec.entropy.compiled import CompiledState
    from vqcodec.entropy.program import Program
    from vqcodec.kernels.steps import WAY

    tested, (own, coarser) = prior(), maps()
    zero = torch.zeros(COUNT, dtype=torch.int64)

    def start() -> CompiledState:
        groups = tested.heads_of(len(tested.groups)).groups
        return CompiledState(Program(tested), groups, coarser, zero, zero, HEIGHT, WIDTH)

    seen = start()
    seen.see(own)
    exact = digest(start(), own) == digest(seen, own) == EXPECTED
    exact &= bool((start().logits(0, 0).argmax(-1) == start().read(0, 0).argmax(-1)).all())
    lengths = start().code_lengths(own).numpy()
    at_first = (24 - np.log2(start().read(0, 0) + 1.0)).reshape(COUNT, -1)
    exact &= bool(np.abs(lengths[:, 0, 0] - at_first).max() < 1)
    return None if exact else f"compiled priors ({WAY.name}) do not find what PyTorch finds"
