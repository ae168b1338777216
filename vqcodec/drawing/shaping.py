"""What happens to an index's probabilities before it is drawn, in integers alone.

Temperature, guidance, top-k and top-p work in fixed point on a prior's logits and frequencies.

Source: top-p is Holtzman et al. 2020; guidance is that of Ho and Salimans 2022, on the logits of an
index as in Gafni et al. 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.entropy.frequencies import TEMPERATURE_ONE
from vqcodec.entropy.payload import Choose
from vqcodec.entropy.prior import Prior
from vqcodec.entropy.state import State
from vqcodec.errors import CodecError
from vqcodec.spec.prior import TOTAL, TOTAL_BITS
from vqcodec.weights_file import Model

MAX_TEMPERATURE = 100.0
MAX_GUIDANCE = 100.0
GUIDANCE_BITS = 8


@dataclass(frozen=True)
class Shaping:
    """What happens to an index's probabilities before it is drawn.

    Attributes:
        temperature: Below 1 nearer to the likeliest indices, above 1 more varied.
        top_k: Draw from so many of the likeliest indices; None for all.
        top_p: Draw from the fewest of the likeliest indices whose probabilities reach this sum,
            above 0 up to 1; None for all.
        guidance: How far to go from the logits without a class (0) to those of the class (1) and
            beyond.

    Raises:
        CodecError: a value is out of its limits.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= MAX_TEMPERATURE:
            limits = f"above 0, up to {MAX_TEMPERATURE:g}"
            raise CodecError(f"cannot sample at temperature {self.temperature}; give one {limits}")
        if self.top_k is not None and self.top_k < 1:
            raise CodecError(f"cannot sample from the {self.top_k} likeliest; give 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise CodecError(f"cannot sample with top-p {self.top_p}; give one above 0, up to 1")
        if not 0 <= self.guidance <= MAX_GUIDANCE:
            limits = f"0 to {MAX_GUIDANCE:g}"
            raise CodecError(f"cannot sample with guidance {self.guidance}; give one from {limits}")

    @property
    def guided(self) -> bool:
        """Whether logits without a class are needed, too."""
        return self.guidance != 1.0

    def guide(self, given: Tensor, without: Tensor) -> Tensor:
        """Logits of the class and logits without it to guided logits, all int64 [N, p, K]."""
        weight = round(self.guidance * (1 << GUIDANCE_BITS))
        return without + ((given - without) * weight >> GUIDANCE_BITS)

    def frequencies(self, prior: Prior, logits: Tensor) -> Tensor:
        """Frequencies to draw with, 0 for what is not drawn.

        Args:
            prior: The prior that gave the logits.
            logits: int64 [N, p, K], in 1/16 nat.

        Returns:
            int64 [N, p, K]; without top-k and top-p their sum is 2**24, else it may be less.
        """
        temperature = max(1, round(self.temperature * TEMPERATURE_ONE))
        result = prior.frequencies(logits, temperature).long()
        if self.top_k is None and self.top_p is None:
            return result
        # Stable: of equally likely indices the smaller ones come first, on every machine.
        ranked, order = result.sort(dim=-1, descending=True, stable=True)
        kept = torch.ones_like(ranked, dtype=torch.bool)
        if self.top_k is not None:
            kept[..., self.top_k :] = False
        if self.top_p is not None:
            kept &= ranked.cumsum(-1) - ranked < max(1, round(self.top_p * TOTAL))
        return result * torch.zeros_like(kept).scatter(-1, order, kept)


UNSHAPED = Shaping()
"""Every index at its own probability."""


def shapings(model: Model, *, of_classes: bool, **given: float | None) -> tuple[Shaping, ...]:
    """How to draw every level of a model.

    Args:
        model: Whose own values are taken for what is not given.
        of_classes: Whether images of classes are drawn; others are guided only if that is given.
        given: Fields of `Shaping`, for all levels; None for what is not given.

    Raises:
        CodecError: a value is out of its limits.
    """
    wanted = {name: value for name, value in given.items() if value is not None}
    if not of_classes:
        wanted.setdefault("guidance", 1.0)
    own = model.shapings or ({},) * len(model.strides)
    fields: list[dict[str, Any]] = [{**each, **wanted} for each in own]
    return tuple(Shaping(**each) for each in fields)


def draw_with(
    prior: Prior, generators: Sequence[np.random.BitGenerator], shaping: Shaping
) -> Choose:
    """Symbols at random.

    Args:
        prior: The prior whose wavefront will ask.
        generators: One per map. If `shaping` is guided, the wavefront runs twice as many maps: the
            same ones again, without their class.
        shaping: How probabilities are changed.
    """

    def frequencies(state: State, step: int, group: int) -> npt.NDArray[np.int64]:
        if shaping == UNSHAPED and not shaping.guided:
            return state.read(step, group).astype(np.int64) + 1
        logits = state.logits(step, group).long()
        if shaping.guided:
            logits = shaping.guide(*logits.chunk(2))
        return shaping.frequencies(prior, logits).cpu().numpy()

    def draw(state: State, step: int, group: int) -> npt.NDArray[np.int32]:
        cumulative = frequencies(state, step, group).cumsum(-1)
        # Raw bits, as numpy keeps these the same for ever, and not what it makes of them.
        raw = np.stack([bits.random_raw(cumulative.shape[1]) for bits in generators])
        points = (raw >> np.uint64(64 - TOTAL_BITS)).astype(np.int64)[..., None]
        scaled = points * cumulative[..., -1:] >> TOTAL_BITS
        symbols = (cumulative <= scaled).sum(-1, dtype=np.int32)
        return np.tile(symbols, (2, 1)) if shaping.guided else symbols

    return draw
