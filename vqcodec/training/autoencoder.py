"""Training of the hierarchical VQ autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vqcodec.errors import CodecError
from vqcodec.models.autoencoder import (
    PIXEL_SCALE,
    Autoencoder,
    AutoencoderConfig,
    Level,
    LevelConfig,
)
from vqcodec.models.layers import depth_to_space, space_to_depth
from vqcodec.models.quantizer import CodebookConfig
from vqcodec.photos import CropSampler
from vqcodec.training import vqvae
from vqcodec.training.loop import Processes, Training, fast_bfloat16, resume, run


def books(*codebooks: tuple[int, int]) -> tuple[CodebookConfig, ...]:
    """Codebooks (K, D) one after the other."""
    return tuple(CodebookConfig(*each) for each in codebooks)


def group(share: float, *slices: tuple[int, int]) -> tuple[CodebookConfig, ...]:
    """A group of codebooks of 128 codes for slices (D, start), used from that share on."""
    return tuple(
        CodebookConfig(128, dim, start, share, n > 0) for n, (dim, start) in enumerate(slices)
    )


PHOTO = AutoencoderConfig(
    levels=(
        LevelConfig(32, books((128, 1), (128, 2), (128, 4), (128, 8)), 160, 2, 2),
        LevelConfig(16, books((128, 2), (128, 4), (128, 8), (128, 8)), 192, 2, 3),
        LevelConfig(
            8,
            books((128, 2), (128, 2), (128, 4), (128, 4), (128, 8), (128, 8), (128, 16)),
            160,
            3,
            4,
        ),
    ),
    lmbdas=tuple(1280.0 * 2 ** (-5 * q / 7) for q in range(8)),
)
"""Of `hvq-photo-1`: photographs, 8 qualities."""

WIDE = AutoencoderConfig(
    levels=(
        LevelConfig(32, books((128, 1), (128, 2), (128, 4), (128, 8)), 160, 2, 2),
        LevelConfig(16, books((128, 2), (128, 4), (128, 8), (128, 8)), 192, 2, 3),
        LevelConfig(
            8,
            (
                *books(*((128, dim) for dim in (2, 2, 4, 4, 8, 8, 16))),
                # Each group adds latents, and refines those that run out of codes first.
                *group(0.30, (16, 44), (4, 12), (4, 16), (4, 20), (4, 24)),
                *group(0.43, (4, 4), (4, 8), (8, 28), (8, 36)),
                *group(0.56, (4, 0), (8, 44), (8, 52), (8, 60), (8, 68), (8, 76), (8, 84)),
                *group(
                    0.72,
                    *((4, start) for start in range(4, 44, 4)),
                    *((8, start) for start in range(44, 76, 8)),
                ),
            ),
            160,
            3,
            4,
            64,
        ),
    ),
    lmbdas=tuple(2048.0 * 2 ** (-1.05 * knot) for knot in range(9)),
    qualities=100,
    scaled_blocks=True,
)
"""Of `hvq-photo-2`: photographs, 100 qualities, lmbda 2048 to 6."""

IMAGENET64 = AutoencoderConfig(
    levels=(
        LevelConfig(16, books((128, 1), (128, 2), (128, 4), (128, 8)), 128, 2, 2),
        LevelConfig(8, books((128, 2), (128, 4), (128, 8), (128, 8)), 128, 2, 3),
        LevelConfig(4, books((128, 2), (128, 4), (128, 8)), 96, 2, 3),
    ),
    lmbdas=(300.0,),
    refine_stride=2,
    refine_channels=48,
)
"""Images of 64 x 64 pixels, for generation."""

TINY = AutoencoderConfig(
    levels=(
        LevelConfig(16, books((16, 2), (16, 4)), 16, 1, 1, 16),
        LevelConfig(8, books((16, 2), (16, 4)), 16, 1, 1, 16),
    ),
    lmbdas=(800.0, 200.0),
    refine_channels=8,
    refine_blocks=1,
)
"""Trains in seconds, to try things out."""

PRESETS = {"photo": PHOTO, "wide": WIDE, "imagenet64": IMAGENET64, "tiny": TINY}


@dataclass(kw_only=True)
class AutoencoderSettings(Training):
    """Settings of a run, besides those of every run.

    Attributes:
        sources: (folder or tar archive, weight) of the training images.
        preset: Name of the architecture, a key of `PRESETS` or of `vqvae.PRESETS`.
        crop: Side of a crop, in pixels; a multiple of the coarsest stride.
        commitment_cost: Weight of the commitment loss.
        coarse_weight: Weight of the MSE of decodes from the coarser levels alone.
        restart_every: Steps between restarts of unused codes.
        restart_until: Share of the run after which codes are no longer restarted.
        restart_threshold: Share of choices below which a code counts as unused.
        start_crops: Crops that the principal components and k-means of the start see.
        limit: At most this many images of each source, or None.
        short_side: Scale larger images until their shorter side has so many pixels, or None.
        split: Which images of a source: "all", "train" or "validation".
        mirror: Mirror half of the crops.
    """

    sources: list[tuple[Path, float]]
    preset: str = "photo"
    crop: int = 128
    commitment_cost: float = 0.25
    coarse_weight: float = 0.05
    restart_every: int = 250
    restart_until: float = 0.5
    restart_threshold: float = 2e-5
    start_crops: int = 2400
    limit: int | None = None
    short_side: int | None = None
    split: str = "all"
    mirror: bool = True


class AutoencoderTraining(AutoencoderSettings):
    """Settings of a run: what is given, then what a paper's preset says, then the defaults."""

    def __init__(self, **given: Any) -> None:
        paper = vqvae.PRESETS.get(given.get("preset", ""))
        super().__init__(**{**(paper.settings if paper else {}), **given})


def principal_components(vectors: Tensor, count: int) -> Tensor:
    """Orthonormal basis of the directions of largest second moment, largest first.

    Args:
        vectors: float32 [P, N].
        count: How many.

    Returns:
        float32 [N, count].
    """
    moments = (vectors.T @ vectors) / len(vectors)
    _, basis = torch.linalg.eigh(moments.double())
    leading: Tensor = basis[:, -count:].flip(1).float()
    return leading


def k_means(vectors: Tensor, count: int, rounds: int, generator: torch.Generator) -> Tensor:
    """Lloyd's algorithm with one centre that starts at zero.

    Args:
        vectors: float32 [P, D].
        count: Number of centres K.
        rounds: Iterations.
        generator: For the start.

    Returns:
        float32 [K, D].
    """
    start = torch.randperm(len(vectors), generator=generator)[: count - 1]
    centres = torch.cat([torch.zeros(1, vectors.shape[1]), vectors[start]])
    for _ in range(rounds):
        nearest = (centres.square().sum(1) - 2 * vectors @ centres.T).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        counts = torch.bincount(nearest, minlength=len(centres)).float()[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


@torch.no_grad()
def start_from_data(autoencoder: Autoencoder, pixels: Tensor, seed: int) -> None:
    """Sets every level's basis, latent scale and codebooks from crops.

    Level by level: the principal components of what the coarser levels leave, then k-means of each
    sub-vector. The networks on top start as zero, so this is the model's exact starting point.

    Args:
        autoencoder: Freshly made, on the CPU.
        pixels: uint8 [B, H, W, 3].
        seed: For k-means.
    """
    generator = torch.Generator().manual_seed(seed)
    residual = autoencoder.normalize(pixels)
    for module in autoencoder.levels:
        assert isinstance(module, Level)
        blocks = space_to_depth(residual, module.stride).flatten(0, 2)
        module.basis.copy_(principal_components(blocks, module.basis.shape[1]))
        latents = blocks @ module.basis
        module.latent_scale.copy_(latents.std(0).clamp(min=1e-3))
        sample = torch.randperm(len(latents), generator=generator)[:40_000]
        coded = torch.zeros_like(latents)
        for g, book in enumerate(module.quantizer.codebooks):
            part = module.quantizer.slices[g]
            column = latents[:, part] - coded[:, part]
            size = len(book.vectors)
            book.vectors.copy_(k_means(column[sample], size, 8, generator))
            nearest = (book.vectors.square().sum(1) - 2 * column @ book.vectors.T).argmin(1)
            share = torch.bincount(nearest, minlength=size).float() + 1
            share /= share.sum()
            book.counts.copy_(share * 1000)
            module.quantizer.rate_logits[g].bias.copy_(share.log())
            coded[:, part] += book.vectors[nearest]
        shape = [len(pixels), *(side // module.stride for side in pixels.shape[1:3]), -1]
        coded = (coded @ module.basis.T).view(shape)
        residual = residual - depth_to_space(coded, module.stride)


class RateDistortion(nn.Module):
    """The training objective: MSE + lmbda * bpp, with the side terms of `AutoencoderTraining`."""

    def __init__(self, autoencoder: Autoencoder, config: AutoencoderTraining) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.config = config
        device = autoencoder.knot_lmbdas.device
        self.use_bfloat16 = fast_bfloat16(device) if config.bfloat16 is None else config.bfloat16

    def forward(self, pixels: Tensor, position: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """uint8 [B, H, W, 3] and positions [B] to the loss and the means of its terms."""
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            result = self.autoencoder(pixels, position)
        target = self.autoencoder.normalize(pixels)
        errors = [
            (prediction.float() - target).square().mean((1, 2, 3)) * PIXEL_SCALE**2
            for prediction in result.predictions
        ]
        area = pixels.shape[1] * pixels.shape[2]
        level_bpp = [bits / area for bits in result.bits]
        mse, bpp = errors[-1], torch.stack(level_bpp).sum(0)
        coarse = torch.stack([torch.zeros_like(mse), *errors[:-1]]).sum(0)
        commitment = result.commitment * PIXEL_SCALE**2 / (3 * area)
        lmbda = self.autoencoder.lmbda(position)
        # Distortion grows about as the root of lmbda: this keeps all qualities equally heard.
        weight = (lmbda / 200.0).rsqrt() / 50.0
        loss = weight * (
            mse
            + lmbda * bpp
            + self.config.coarse_weight * coarse
            + self.config.commitment_cost * commitment
        )
        means = {"mse": mse, "coarse": coarse, "bpp": bpp, "commitment": commitment}
        means |= {f"bpp_{n}": bits for n, bits in enumerate(level_bpp)}
        return loss.mean(), {name: values.mean() for name, values in means.items()}


def _restart(
    autoencoder: Autoencoder,
    crops: Tensor,
    position: Tensor,
    processes: Processes,
    threshold: float,
    step: int,
) -> None:
    """Moves unused codes onto badly coded sub-vectors of a batch."""
    generator = torch.Generator().manual_seed(step)
    autoencoder.eval()
    target = autoencoder.normalize(crops)
    prediction = torch.zeros_like(target)
    state = None
    lmbda = autoencoder.choice_lmbda(position)
    with torch.no_grad():
        for level in autoencoder.levels:
            context = level.context(state, position, target.shape[1:3])
            latents = level.analysis(target - prediction, context, position)
            choice = level.quantize(latents, context, position, lmbda)
            state, correction = level.synthesis(choice.vectors, context, position)
            prediction = prediction + correction
            quantizer, share = level.quantizer, position / level.last_knot
            coded = torch.zeros_like(latents)
            for g, book in enumerate(quantizer.codebooks):
                part = quantizer.slices[g]
                used = quantizer.used(g, share)[:, None, None, None]
                wanted = latents[..., part] - coded[..., part]
                vectors = book.vectors[choice.indices[..., g]] * used
                coded[..., part] += vectors
                error = ((wanted - vectors) * used).square().sum(-1).flatten() + 1e-12
                count = min(len(book.vectors), len(error))
                picked = torch.multinomial(error.cpu(), count, generator=generator)
                candidates = wanted.flatten(0, 2)[picked.to(error.device)].contiguous()
                quantizer.restart_unused(g, processes.broadcast(candidates), threshold)
    autoencoder.train()


def draw_positions(architecture: AutoencoderConfig, count: int, rng: np.random.Generator) -> Tensor:
    """Positions among the knots, spread evenly over the range (lmbda log-uniformly): [count]."""
    if architecture.qualities is None:
        return torch.from_numpy(rng.integers(len(architecture.lmbdas), size=count)).float()
    shares = (rng.permutation(count) + rng.random(count)) / count
    return torch.from_numpy(shares * architecture.last_knot).float()


def train(config: AutoencoderTraining) -> Path:
    """Trains, or goes on from the checkpoint in `config.output`; returns the checkpoint.

    Raises:
        CodecError: unknown preset, unusable sources, or a checkpoint of another architecture.
    """
    if config.preset in vqvae.PRESETS:
        return vqvae.train(config)
    if config.preset not in PRESETS:
        known = ", ".join([*PRESETS, *vqvae.PRESETS])
        raise CodecError(f"unknown preset {config.preset!r}; there are: {known}")
    architecture = PRESETS[config.preset]
    if config.crop % architecture.strides[0]:
        raise CodecError(f"the crop must be a multiple of {architecture.strides[0]} pixels")
    with Processes(config.device) as processes:
        torch.manual_seed(config.seed)
        sampler = CropSampler(
            config.sources,
            config.crop,
            config.limit,
            short_side=config.short_side,
            split=config.split,
            mirror=config.mirror,
        )
        autoencoder = Autoencoder(architecture)
        if not resume(config, architecture.to_dict()):
            crops = sampler.draw(config.start_crops, [config.seed, 1 << 30])
            start_from_data(autoencoder, crops, config.seed)
        autoencoder.to(processes.device)
        autoencoder.train()

        def draw(step: int) -> tuple[Tensor, Tensor]:
            seed = [config.seed, processes.rank, step]
            crops = sampler.draw(config.batch, seed)
            rng = np.random.default_rng([*seed, 1])
            position = draw_positions(architecture, len(crops), rng)
            return crops.to(processes.device), position.to(processes.device)

        def restart(step: int, progress: float, batch: tuple[Tensor, ...]) -> None:
            due = step > 0 and step % config.restart_every == 0
            if due and progress < config.restart_until:
                crops, position = batch
                _restart(autoencoder, crops, position, processes, config.restart_threshold, step)

        objective = RateDistortion(autoencoder, config)
        return run(config, processes, autoencoder, objective, architecture.to_dict(), draw, restart)
