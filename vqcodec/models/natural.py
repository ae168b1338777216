"""Another synthesis for the same indices: what looks like a photograph, not what is nearest to it.

    the finest level's synthesis and the refinement, tuned  ->  blocks at the refinement's stride
        ->  blocks at half of it  ->  pixels

Files do not know it: the indices are the same. What it adds fades with the quality, from all of it
up to `full_until` to none at `none_from`, where enough is coded; so do the tuned weights, towards
those of the autoencoder. What leaves the last blocks overlaps, as blocks side by side would weave.

Source: texture from a perceptual and an adversarial loss at low rates, Mentzer et al. 2020; behind
frozen indices, Muckley et al. 2023.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vqcodec.models.autoencoder import Autoencoder, Decoded, Level, Refinement, to_uint8
from vqcodec.models.layers import ResidualBlocks, depth_to_space, space_to_depth
from vqcodec.spec import declared

TUNED = ("level.upsample.", "level.synthesis_", "refinement.")
KEPT = "level.synthesis_quality."


@dataclass(frozen=True)
class NaturalConfig:
    """Shape of a natural synthesis.

    Attributes:
        blocks: Residual blocks at the refinement's stride.
        fine_blocks: At half of it.
        fine_channels: Their width.
        full_until: Share of the range of qualities up to which all of it counts.
        none_from: From which on none of it does.
    """

    blocks: int = 4
    fine_blocks: int = 3
    fine_channels: int = 32
    full_until: float = 0.2
    none_from: float = 0.7

    def __post_init__(self) -> None:
        declared.check(self, positive=("fine_channels",), parts=("blocks", "fine_blocks"))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NaturalConfig:
        """Inverse of `to_dict`.

        Raises:
            TypeError: other attributes than there are.
            ValueError: values that cannot be.
        """
        return cls(**values)


class Texture(nn.Module):
    """Residual blocks after the refinement; zero at the start.

    Args:
        config: Of the synthesis.
        channels: Of the refinement.
        stride: Of the refinement.
        knots: Of each block's scale by quality.
    """

    def __init__(self, config: NaturalConfig, channels: int, stride: int, knots: int) -> None:
        super().__init__()
        narrow = config.fine_channels
        self.blocks = ResidualBlocks(channels, config.blocks, knots)
        self.spread = nn.Conv2d(channels, narrow * 4, 3, padding=1)
        self.stride = stride // 2
        values = 3 * self.stride**2
        self.pixels_in = nn.Linear(values, narrow)
        self.fine_blocks = ResidualBlocks(narrow, config.fine_blocks, knots)
        self.pixels_out = nn.Conv2d(narrow, values, 3, padding=1)
        nn.init.zeros_(self.pixels_out.weight)
        assert self.pixels_out.bias is not None
        nn.init.zeros_(self.pixels_out.bias)

    def forward(self, pixels: Tensor, hidden: Tensor, position: Tensor) -> Tensor:
        """Pixels [B, H, W, 3] and what the refinement made of them [B, H/s, W/s, C] to changes."""
        wide = _convolved(self.spread, self.blocks(hidden, position))
        fine = depth_to_space(wide, 2) + self.pixels_in(space_to_depth(pixels, self.stride))
        fine = torch.relu(self.fine_blocks(fine, position))
        return depth_to_space(_convolved(self.pixels_out, fine), self.stride)


class _Trunk(nn.Module):
    """The finest level's synthesis and the refinement."""

    def __init__(self, level: Level, refinement: Refinement) -> None:
        super().__init__()
        self.level = level
        self.refinement = refinement

    def forward(self, vectors: Tensor, position: Tensor, before: Decoded) -> tuple[Tensor, Tensor]:
        """Pixels [B, H, W, 3], and what the refinement made of them."""
        context = self.level.context(before.state, position, before.pixels.shape[1:3])
        state, correction = self.level.synthesis(vectors, context, position)
        prediction = before.pixels + correction
        hidden = self.refinement.features(prediction, state, position)
        return self.refinement.refined(prediction, hidden), hidden


class Natural(nn.Module):
    """The natural synthesis of an autoencoder.

    Args:
        autoencoder: With two levels or more and a refinement of stride 2 or 4; it is not changed.
        config: The shape.

    Raises:
        ValueError: the autoencoder is not so.
    """

    def __init__(self, autoencoder: Autoencoder, config: NaturalConfig) -> None:
        super().__init__()
        refinement, whole = autoencoder.refinement, autoencoder.config
        if refinement is None or refinement.stride not in (2, 4) or len(autoencoder.levels) < 2:
            raise ValueError("only autoencoders that refine at stride 2 or 4 can have one")
        self.config = config
        self.last_knot = max(1, whole.last_knot)
        self._autoencoder = [autoencoder]  # in a list, as it is no part of this
        self.trunk = copy.deepcopy(_Trunk(autoencoder.levels[-1], refinement)).requires_grad_(False)
        sizes = (whole.refine_channels, refinement.stride, len(whole.lmbdas))
        self.texture = Texture(config, *sizes)
        self.tuned = {  # by their names in the trunk
            name: parameter.requires_grad_()
            for name, parameter in self.trunk.named_parameters()
            if name.startswith(TUNED) and not name.startswith(KEPT)
        }
        self._given = {name: each.detach().clone() for name, each in self.tuned.items()}
        self._mixed: tuple[tuple[float, ...], dict[str, Tensor]] | None = None

    def share(self, position: Tensor) -> Tensor:
        """How much of it counts at a position among the knots: 0 to 1."""
        first, last = self.config.full_until, self.config.none_from
        return ((last - position / self.last_knot) / (last - first)).clamp(0.0, 1.0)

    def forward(self, vectors: Tensor, position: Tensor, before: Decoded) -> Tensor:
        """What the finest level's indices stand for to the image.

        Args:
            vectors: float32 [B, H/s, W/s, size].
            position: Among the knots, float32 [B], all of them equal.
            before: What the coarser levels gave.

        Returns:
            Pixels in network units, [B, H, W, 3].
        """
        share = self.share(position[:1])
        given = (vectors, position, before)
        pixels, hidden = functional_call(self.trunk, self._weights(share), given)
        changed: Tensor = pixels + share * self.texture(pixels, hidden, position)
        return changed

    def _weights(self, share: Tensor) -> dict[str, Tensor]:
        """Between the autoencoder's own weights and those tuned; kept where none is trained."""
        known = (float(share), *(each._version for each in self.tuned.values()))
        if not torch.is_grad_enabled() and self._mixed is not None and self._mixed[0] == known:
            return self._mixed[1]
        mixed = {
            name: torch.lerp(own.to(share.device), self.tuned[name], share)
            for name, own in self._given.items()
        }
        if not torch.is_grad_enabled():
            self._mixed = known, mixed
        return mixed

    @torch.no_grad()
    def synthesize(self, indices: Sequence[Tensor], quality: Tensor) -> Tensor:
        """As `Family.synthesize`; all qualities are equal, and all levels are there."""
        (autoencoder,) = self._autoencoder
        position = autoencoder.position(quality)
        vectors = autoencoder.lookup(indices, position)
        before = autoencoder.decode(vectors[:-1], position)
        return to_uint8(self(vectors[-1], position, before))


def _convolved(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution over [B, H, W, C]."""
    found: Tensor = convolution(x.permute(0, 3, 1, 2))
    return found.permute(0, 2, 3, 1)
