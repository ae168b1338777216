"""From integer logits to the integer frequencies that the range coder gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.spec.prior import BITS_OF_LOGIT, RECIPROCAL_BITS, TOTAL, TOTAL_BITS

TEMPERATURE_ONE = 256


class Tables(NamedTuple):
    """Tables that every prior of a model shares.

    Attributes:
        gate: round(tanh(a / 32) * sigmoid(b / 16) * 127) at (a + 128) * 256 + b + 128: int8
            [65536].
        exponential: round(exp(-d / 16) * 2**20) at d: int64 [256].
    """

    gate: Tensor
    exponential: Tensor

    def to(self, device: torch.device) -> Tables:
        """The same tables on another device."""
        return Tables(self.gate.to(device), self.exponential.to(device))


def frequencies(logits: Tensor, exponential: Tensor, temperature: int = TEMPERATURE_ONE) -> Tensor:
    """Frequencies of every symbol, each at least 1, each row with the sum 2**24.

    Args:
        logits: In units of 1/16 nat, integers in int64 or float64 [P, K], K at most 2**16.
        exponential: `Tables.exponential`.
        temperature: In units of 1/256; below 256 likely symbols become likelier.

    Returns:
        Integers in float64 [P, K], which has all of them exactly and is what is computed fastest.
    """
    below = logits.amax(1, keepdim=True) - logits
    if temperature != TEMPERATURE_ONE:
        below = below.long() * TEMPERATURE_ONE // max(1, temperature)
    places = below.clamp_(max=len(exponential) - 1).long()
    weights = look_up(exponential, places).double()
    # The largest weight is 2**20: the reciprocal is at most 2**24, and products are below 2**53.
    room = (TOTAL - logits.shape[1]) << RECIPROCAL_BITS
    reciprocal = torch.div(room, weights.sum(1, keepdim=True).long(), rounding_mode="floor")
    result = weights.mul_(reciprocal.double().mul_(2.0**-RECIPROCAL_BITS)).floor_().add_(1)
    result[:, 0] += TOTAL - result.sum(1)
    return result


def code_lengths(frequencies: Tensor, indices: Tensor) -> Tensor:
    """Ideal code length of every index, in bits; 0 for codebooks left out.

    Args:
        frequencies: What `State.parallel` gave, int32 [N, G, P, K].
        indices: int64 [N, G, P].

    Returns:
        float64 [N, G, P].
    """
    chosen = frequencies.gather(-1, indices[..., None]).squeeze(-1).double()
    return TOTAL_BITS - chosen.masked_fill_(chosen == 0, TOTAL).log2()


def code_length(chosen: Sequence[npt.NDArray[np.float32]]) -> float:
    """Ideal code length in bits of symbols with these frequencies less 1, float32 [m] each."""
    each = np.concatenate(chosen).astype(np.float64) + 1
    return TOTAL_BITS * len(each) - float(np.log2(each).sum())


def expected_code_lengths(logits: Tensor) -> Tensor:
    """Code length of every symbol in bits, if it came: what `frequencies` say but for rounding.

    In float, and so for choices of the encoder alone.

    Args:
        logits: As of `frequencies`, [..., K].

    Returns:
        float32 [..., K], at most `TOTAL_BITS`.
    """
    bits = (logits.amax(-1, keepdim=True) - logits).float().mul_(BITS_OF_LOGIT)
    return bits.add_(torch.exp2(-bits).sum(-1, keepdim=True).log2_()).clamp_(max=TOTAL_BITS)


def look_up(table: Tensor, places: Tensor) -> Tensor:
    """`table[places]`, of a table in one dimension."""
    if table.device.type == "cpu":  # numpy takes a third of torch's time
        return torch.from_numpy(table.numpy().take(places.numpy()))
    return table[places]
