"""The hierarchical VQ autoencoder: one family, described by a config.

    pixels [B,H,W,3] -> for each level, coarse to fine:
        residual = pixels - prediction of the coarser levels
        latents  = analysis(residual | context)            [B, H/s, W/s, size]
        indices  = quantize(latents | context)             [B, G, H/s, W/s]
        state, prediction = synthesis(lookup(indices) | context)
    -> prediction of the last level, refined

Level 0 is the coarsest (the `top` of VQ-VAE-2, layer 1 of HR-VQVAE). The context of a level is the
synthesis state of the one before, so decoding needs indices only and never runs `analysis`.

The linear parts of analysis and synthesis are one orthonormal basis per level (the principal
components of its residual blocks) and its transpose; the networks are added on top and start as
zero. Squared distance between latents is therefore squared pixel error from the first step on,
which is what makes a choice by distance + lmbda * bits meaningful at every level.

Source: Razavi et al. 2019 (hierarchy), Adiban et al. 2022 (each level codes what the coarser ones
left), van den Oord et al. 2017 (quantization, commitment).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.models.family import Family
from vqcodec.models.layers import (
    Knots,
    ListOf,
    ResidualBlocks,
    ZeroLinear,
    depth_to_space,
    interpolation,
    space_to_depth,
    square_means,
)
from vqcodec.models.quantizer import Choice, CodebookConfig, ProductQuantizer, groups, slices
from vqcodec.spec import declared

PIXEL_MEAN = 127.5
MAX_NUM_EMBEDDINGS = 1 << 16  # a file's checksum of indices takes them as u16
PIXEL_SCALE = 32.0  # networks see (pixel - mean) / scale


@dataclass(frozen=True)
class LevelConfig:
    """One level.

    Attributes:
        stride: Pixels per position, each way; divides the stride of the level before.
        codebooks: Of each position, in coding order.
        channels: Width of the level's networks.
        analysis_blocks: Residual blocks of the analysis.
        synthesis_blocks: Residual blocks of the synthesis.
        rate_channels: Hidden width of the rate model, per codebook.
    """

    stride: int
    codebooks: tuple[CodebookConfig, ...]
    channels: int
    analysis_blocks: int
    synthesis_blocks: int
    rate_channels: int = 96

    def __post_init__(self) -> None:
        declared.check(
            self,
            positive=("stride", "channels", "rate_channels"),
            parts=("analysis_blocks", "synthesis_blocks"),
        )
        books = self.codebooks
        if not all(2 <= size <= MAX_NUM_EMBEDDINGS and dim >= 1 for size, dim, *_ in books):
            raise ValueError(f"codebooks need 2 to {MAX_NUM_EMBEDDINGS} codes: {books}")
        alike = [
            {(books[g].num_embeddings, books[g].share) for g in same} for same in groups(books)
        ]
        if not books or any(len(each) > 1 for each in alike):
            raise ValueError(f"codebooks of one group have one size and one share: {books}")
        shares = [each.share for each in books]
        if shares != sorted(shares) or shares[0] != 0 or shares[-1] > 1:
            raise ValueError(f"codebooks of all qualities come first, shares are 0 to 1: {books}")
        ends = itertools.accumulate((part.stop for part in slices(books)), max)
        starts = [part.start for part in slices(books)]
        if any(not 0 <= start <= end for start, end in zip(starts, (0, *ends), strict=False)):
            raise ValueError(f"slices leave no latents between them: {books}")


@dataclass(frozen=True)
class AutoencoderConfig:
    """The whole autoencoder.

    Attributes:
        levels: Coarse to fine.
        lmbdas: The rate weights of the knots, lowest quality first: training minimizes
            MSE (8-bit units) + lmbda * bits per pixel. Between knots everything that depends on
            the quality is interpolated, lmbda geometrically.
        refine_stride: Pixels per position of the refinement after the last level.
        refine_channels: Its width; 0 for none.
        refine_blocks: Its residual blocks.
        choice_weight: How much more the rate counts when an index is chosen than in the loss.
        qualities: Of files, evenly spaced from the first knot to the last; None for one at each
            knot, where training stays at the knots too.
        scaled_blocks: Whether the quality scales the channels of every residual block.
    """

    levels: tuple[LevelConfig, ...]
    lmbdas: tuple[float, ...]
    refine_stride: int = 4
    refine_channels: int = 64
    refine_blocks: int = 2
    choice_weight: float = 2.5
    qualities: int | None = None
    scaled_blocks: bool = False

    def __post_init__(self) -> None:
        declared.check(self, positive=("refine_stride",), parts=("refine_blocks",))
        strides = [*self.strides, *([self.refine_stride] if self.refine_channels else [])]
        if not self.levels or any(coarse % fine for coarse, fine in itertools.pairwise(strides)):
            raise ValueError(f"every stride divides the one before: {strides}")
        many = len(self.lmbdas) > 1 and self.num_qualities > 1
        if self.qualities is not None and not many:
            raise ValueError("qualities between knots need two knots and two qualities at least")
        if not many and any(book.share for level in self.levels for book in level.codebooks):
            raise ValueError("one quality leaves no codebook out")

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> AutoencoderConfig:
        """Rebuilds a config from `to_dict`'s JSON-ready form."""
        levels = tuple(
            LevelConfig(
                **{**level, "codebooks": tuple(CodebookConfig(*b) for b in level["codebooks"])}
            )
            for level in fields["levels"]
        )
        return cls(**{**fields, "levels": levels, "lmbdas": tuple(fields["lmbdas"])})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form of the config."""
        return asdict(self)

    @property
    def last_knot(self) -> int:
        """The position of the highest quality among the knots."""
        return len(self.lmbdas) - 1

    @property
    def num_qualities(self) -> int:
        """Number of qualities of files."""
        return self.qualities or len(self.lmbdas)

    def position(self, quality: Tensor) -> Tensor:
        """Where among the knots a file's quality is: int64 [B], from 0, to float32 [B]."""
        if self.qualities is None:
            return quality.float()
        return quality * self.last_knot / (self.qualities - 1)

    def first_quality(self, share: float) -> int:
        """The lowest quality, from 1, at or above a share of the range."""
        if share <= 0:
            return 1
        shares = self.position(torch.arange(self.num_qualities)) / self.last_knot
        return int((shares < share).sum()) + 1

    def groups_of(self, level: int) -> tuple[tuple[int, int], ...]:
        """For each group of a level's codebooks how many there are, and the first quality."""
        books = self.levels[level].codebooks
        firsts = [self.first_quality(books[group.start].share) for group in groups(books)]
        return tuple(
            (len(group), first) for group, first in zip(groups(books), firsts, strict=True)
        )

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per position of every level, coarse to fine."""
        return tuple(level.stride for level in self.levels)


@dataclass
class Reconstruction:
    """What one training pass gives.

    Attributes:
        predictions: Per level, the decode of the levels so far: [B, H, W, 3] in network units;
            the last one is the refined image.
        bits: Per level, bits of each image under the rate model: [B].
        commitment: Squared distance of latents to their code vectors, summed over the image and
            all levels, in network units: [B].
    """

    predictions: list[Tensor]
    bits: list[Tensor]
    commitment: Tensor


@dataclass(frozen=True)
class Decoded:
    """What the first levels give.

    Attributes:
        pixels: float32 [B, H, W, 3] in network units; refined if they are all levels.
        state: Of the last of them, float32 [B, H/s, W/s, C].
        levels: How many they are.
    """

    pixels: Tensor
    state: Tensor
    levels: int


class Level(nn.Module):
    """Analysis, quantizer and synthesis of one level."""

    latent_scale: Tensor

    def __init__(
        self, config: LevelConfig, whole: AutoencoderConfig, coarser: LevelConfig | None
    ) -> None:
        super().__init__()
        self.config = config
        knots = len(whole.lmbdas)
        scales = knots if whole.scaled_blocks else 0
        self.stride = config.stride
        self.last_knot = max(1, knots - 1)
        block_size = 3 * config.stride**2
        channels = config.channels
        self.quantizer = ProductQuantizer(config.codebooks, channels, config.rate_channels)
        latent_size = self.quantizer.latent_size
        self.basis = nn.Parameter(torch.empty(block_size, latent_size))
        nn.init.orthogonal_(self.basis)
        self.register_buffer("latent_scale", torch.ones(latent_size))
        self.upsample: nn.Linear | None = None
        self.upsample_factor = 1
        if coarser is not None:
            self.upsample_factor = coarser.stride // config.stride
            self.upsample = nn.Linear(coarser.channels, channels * self.upsample_factor**2)
        self.analysis_quality = Knots(knots, channels)
        self.synthesis_quality = Knots(knots, channels)
        self.analysis_in = nn.Linear(block_size, channels)
        self.analysis_blocks = ResidualBlocks(channels, config.analysis_blocks, scales)
        self.analysis_out = ZeroLinear(channels, latent_size)
        self.synthesis_in = nn.Linear(latent_size, channels)
        self.synthesis_blocks = ResidualBlocks(channels, config.synthesis_blocks, scales)
        self.synthesis_out = ZeroLinear(channels, block_size)

    def context(self, state: Tensor | None, quality: Tensor, shape: Sequence[int]) -> Tensor:
        """What the coarser levels know about this one: [B, H/s, W/s, C]."""
        embedded: Tensor = self.synthesis_quality(quality)[:, None, None, :]
        if self.upsample is None or state is None:
            return embedded.expand(-1, shape[0] // self.stride, shape[1] // self.stride, -1)
        return depth_to_space(self.upsample(state), self.upsample_factor) + embedded

    def analysis(self, residual: Tensor, context: Tensor, quality: Tensor) -> Tensor:
        """Residual pixels [B, H, W, 3] to latents [B, H/s, W/s, size], float32."""
        blocks = space_to_depth(residual, self.stride)
        embedded = self.analysis_quality(quality)[:, None, None, :]
        hidden = self.analysis_in(blocks) + context + embedded
        correction: Tensor = self.analysis_out(self.analysis_blocks(hidden, quality))
        with torch.autocast(residual.device.type, enabled=False):
            return blocks @ self.basis + correction.float() * self.latent_scale

    def quantize(self, latents: Tensor, context: Tensor, quality: Tensor, lmbda: Tensor) -> Choice:
        """The choice of indices for latents [B, H/s, W/s, size]; see `ProductQuantizer`."""
        share = quality / self.last_knot
        choice: Choice = self.quantizer(latents, context, lmbda, self.latent_scale, share)
        return choice

    def lookup(self, indices: Tensor, quality: Tensor) -> Tensor:
        """int64 [B, H/s, W/s, G] to what they stand for, [B, H/s, W/s, size]."""
        return self.quantizer.lookup(indices, quality / self.last_knot)

    def synthesis(
        self, vectors: Tensor, context: Tensor, quality: Tensor, factor: int = 1
    ) -> tuple[Tensor, Tensor]:
        """What indices stand for to (state [B, H/s, W/s, C], pixels [B, H, W, 3]).

        Pixels are linear in both of their sources, so that with a factor, a divisor of the stride,
        means of its squares of pixels take no more work than there are of them.
        """
        state = self.synthesis_in(vectors / self.latent_scale) + context
        state = self.synthesis_blocks(state, quality)
        basis, out = self.basis, self.synthesis_out
        weight, bias = (square_means(each, self.stride, factor) for each in (out.weight, out.bias))
        correction = F.linear(state, weight, bias)
        with torch.autocast(vectors.device.type, enabled=False):
            blocks = vectors @ square_means(basis, self.stride, factor).T + correction.float()
        return state, depth_to_space(blocks, self.stride // factor)


class Refinement(nn.Module):
    """Residual blocks at a fine stride on top of the last prediction."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.stride = config.refine_stride
        self.factor = config.levels[-1].stride // config.refine_stride
        channels = config.refine_channels
        self.pixels_in = nn.Linear(3 * self.stride**2, channels)
        self.state_in = nn.Linear(config.levels[-1].channels, channels * self.factor**2)
        scales = len(config.lmbdas) if config.scaled_blocks else 0
        self.blocks = ResidualBlocks(channels, config.refine_blocks, scales)
        self.pixels_out = ZeroLinear(channels, 3 * self.stride**2)

    def forward(self, prediction: Tensor, state: Tensor, quality: Tensor) -> Tensor:
        """Prediction [B, H, W, 3] and state [B, H/s, W/s, C] of the last level to [B, H, W, 3]."""
        return self.refined(prediction, self.features(prediction, state, quality))

    def features(self, prediction: Tensor, state: Tensor, quality: Tensor) -> Tensor:
        """What the blocks make of the same: [B, H/s, W/s, C]."""
        hidden = self.pixels_in(space_to_depth(prediction, self.stride))
        hidden = hidden + depth_to_space(self.state_in(state), self.factor)
        found: Tensor = self.blocks(hidden, quality)
        return found

    def refined(self, prediction: Tensor, features: Tensor) -> Tensor:
        """The prediction with what the features change: [B, H, W, 3]."""
        return prediction + depth_to_space(self.pixels_out(features), self.stride)


class Autoencoder(Family):
    """The hierarchical VQ autoencoder of the module's docstring."""

    config: AutoencoderConfig
    knot_lmbdas: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        coarser = (None, *config.levels[:-1])
        self.levels = ListOf[Level](
            Level(level, config, before)
            for level, before in zip(config.levels, coarser, strict=True)
        )
        self.refinement = Refinement(config) if config.refine_channels else None
        # It is in no file, and so never among what is read on the meta device.
        lmbdas = torch.tensor(config.lmbdas, dtype=torch.float32, device="cpu")
        self.register_buffer("knot_lmbdas", lmbdas, persistent=False)

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] to float32 network units."""
        return (pixels.float() - PIXEL_MEAN) / PIXEL_SCALE

    def position(self, quality: Tensor) -> Tensor:
        """See `AutoencoderConfig.position`."""
        return self.config.position(quality)

    def lmbda(self, position: Tensor) -> Tensor:
        """The rate weight at positions among the knots: [B]."""
        weights = interpolation(position, len(self.knot_lmbdas))
        return torch.exp((weights * self.knot_lmbdas.log()).sum(1))

    def lmbdas(self) -> list[float]:
        """The rate weight of every quality, lowest quality first."""
        device = self.knot_lmbdas.device
        every = torch.arange(self.config.num_qualities, device=device)
        found: list[float] = self.lmbda(self.position(every)).tolist()
        return found

    def code_vectors(self) -> list[list[Tensor]]:
        """Code vectors of every level and codebook, float32 [K, D]."""
        return [[book.vectors for book in level.quantizer.codebooks] for level in self.levels]

    def choice_lmbda(self, position: Tensor) -> Tensor:
        """Weight of one bit against squared latent distance, network units: [B]."""
        # MSE averages over 3 components a pixel, bpp over pixels: one bit is worth 3 * lmbda.
        return 3.0 * self.config.choice_weight * self.lmbda(position) / PIXEL_SCALE**2

    def forward(self, pixels: Tensor, position: Tensor) -> Reconstruction:
        """One training pass.

        Args:
            pixels: uint8 [B, H, W, 3]; H and W are multiples of the coarsest stride.
            position: Among the knots `config.lmbdas`, float32 [B].
        """
        target = self.normalize(pixels)
        prediction = torch.zeros_like(target)
        state: Tensor | None = None
        predictions, bits = [], []
        commitment = torch.zeros(len(pixels), device=pixels.device)
        lmbda = self.choice_lmbda(position)
        for level in self.levels:
            context = level.context(state, position, target.shape[1:3])
            latents = level.analysis(target - prediction, context, position)
            choice = level.quantize(latents, context, position, lmbda)
            bits.append(choice.bits.flatten(1).sum(1))
            commitment = commitment + (latents - choice.vectors).square().flatten(1).sum(1)
            straight_through = latents + (choice.vectors - latents).detach()
            state, correction = level.synthesis(straight_through, context, position)
            prediction = prediction + correction
            predictions.append(prediction)
        if self.refinement is not None:
            predictions[-1] = self.refinement(prediction, state, position)
        return Reconstruction(predictions, bits, commitment)

    @torch.inference_mode()
    def quantize(
        self,
        pixels: Tensor,
        quality: Tensor,
        levels: int | None = None,
        rate_weight: float = 1.0,
        coarser_weight: float = 1.0,
    ) -> tuple[list[Tensor], Tensor]:
        """See `Family.quantize`; the bits are those of the rate model."""
        target = self.normalize(pixels)
        prediction = torch.zeros_like(target)
        state: Tensor | None = None
        indices, bits = [], []
        position = self.position(quality)
        lmbda = rate_weight * self.choice_lmbda(position)
        finest = self.levels[-1]
        wanted = list(self.levels)[:levels]
        for level in wanted:
            context = level.context(state, position, target.shape[1:3])
            latents = level.analysis(target - prediction, context, position)
            weight = 1.0 if level is finest else coarser_weight
            choice = level.quantize(latents, context, position, weight * lmbda)
            indices.append(choice.indices.permute(0, 3, 1, 2))
            bits.append(choice.bits.flatten(1).sum(1))
            if level is not wanted[-1]:
                state, correction = level.synthesis(choice.vectors, context, position)
                prediction = prediction + correction
        return indices, torch.stack(bits, 1)

    @torch.inference_mode()
    def synthesize(self, indices: Sequence[Tensor], quality: Tensor) -> Tensor:
        """See `Family.synthesize`."""
        position = self.position(quality)
        return to_uint8(self.decode(self.lookup(indices, position), position).pixels)

    @torch.inference_mode()
    def preview(self, indices: Sequence[Tensor], quality: Tensor, factor: int) -> Tensor:
        """See `Family.preview`; of some levels only, the means alone are computed."""
        if factor == 1 or len(indices) == len(self.levels):
            return super().preview(indices, quality, factor)
        position = self.position(quality)
        return to_uint8(self.decode(self.lookup(indices, position), position, factor=factor).pixels)

    def lookup(self, indices: Sequence[Tensor], position: Tensor) -> list[Tensor]:
        """Indices of the first levels, int64 [B, G, H/s, W/s], to vectors as of `decode`."""
        return [
            level.lookup(chosen.permute(0, 2, 3, 1), position)
            for level, chosen in zip(self.levels, indices, strict=False)
        ]

    def decode(
        self,
        vectors: Sequence[Tensor],
        position: Tensor,
        after: Decoded | None = None,
        factor: int = 1,
    ) -> Decoded:
        """What indices stand for to the image; differentiable.

        Args:
            vectors: Per level float32 [B, H/s, W/s, size], one level at least, coarse to fine.
            position: Among the knots `config.lmbdas`, float32 [B].
            after: What the levels before these gave; None if there are none.
            factor: Side of the squares whose means the pixels are; above 1 they are not refined.
        """
        first = after.levels if after else 0
        state = after.state if after else None
        levels = list(self.levels)[first : first + len(vectors)]
        b, h, w, _ = vectors[0].shape
        shape = (h * levels[0].stride, w * levels[0].stride)
        size = (b, *(side // factor for side in shape), 3)
        pixels = after.pixels if after else torch.zeros(size, device=vectors[0].device)
        for level, coded in zip(levels, vectors, strict=True):
            context = level.context(state, position, shape)
            state, correction = level.synthesis(coded, context, position, factor)
            pixels = pixels + correction
        assert state is not None
        whole = factor == 1 and first + len(levels) == len(self.levels)
        if self.refinement is not None and whole:
            pixels = self.refinement(pixels, state, position)
        return Decoded(pixels, state, first + len(levels))


def to_uint8(pixels: Tensor) -> Tensor:
    """Pixels in network units to uint8."""
    return (pixels * PIXEL_SCALE + PIXEL_MEAN).round_().clamp_(0, 255).to(torch.uint8)
