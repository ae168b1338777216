"""What training the codec's own family of autoencoders has of its own: `models.autoencoder`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vqcodec.models.autoencoder import PIXEL_SCALE, Autoencoder, AutoencoderConfig, Level
from vqcodec.models.layers import depth_to_space, space_to_depth
from vqcodec.training.objective import Objective
from vqcodec.training.processes import Processes

# The start sees thousands of crops: pieces of them, and of their sub-vectors, keep it small.
CHUNK = 64
ROWS = 1 << 16


def principal_components(moments: Tensor, count: int) -> Tensor:
    """Orthonormal basis of the directions of largest second moment, largest first.

    Args:
        moments: Second moments of vectors, float32 [N, N].
        count: How many.

    Returns:
        float32 [N, count].
    """
    _, basis = torch.linalg.eigh(moments.double())
    leading: Tensor = basis[:, -count:].flip(1).float()
    return leading


def nearest_centres(vectors: Tensor, centres: Tensor) -> Tensor:
    """Which of the centres [K, D] each vector of [P, D] is nearest to: int64 [P]."""
    sizes = centres.square().sum(1)
    return torch.cat([(sizes - 2 * some @ centres.T).argmin(1) for some in vectors.split(ROWS)])


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
        nearest = nearest_centres(vectors, centres)
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
    residual = torch.empty(pixels.shape)
    for some, normalized in zip(pixels.split(CHUNK), residual.split(CHUNK), strict=True):
        normalized.copy_(autoencoder.normalize(some))
    for module in autoencoder.levels:
        assert isinstance(module, Level)

        def blocks(stride: int = module.stride) -> Iterator[Tensor]:
            for some in residual.split(CHUNK):
                yield space_to_depth(some, stride).flatten(0, 2)

        moments = torch.stack([some.T @ some for some in blocks()]).sum(0)
        positions = residual.numel() / len(moments)
        module.basis.copy_(principal_components(moments / positions, module.basis.shape[1]))
        latents = torch.cat([some @ module.basis for some in blocks()])
        module.latent_scale.copy_(latents.std(0).clamp(min=1e-3))
        sample = torch.randperm(len(latents), generator=generator)[:40_000]
        coded = torch.zeros_like(latents)
        for g, book in enumerate(module.quantizer.codebooks):
            part = module.quantizer.slices[g]
            column = latents[:, part] - coded[:, part]
            size = len(book.vectors)
            book.vectors.copy_(k_means(column[sample], size, 8, generator))
            nearest = nearest_centres(column, book.vectors)
            share = torch.bincount(nearest, minlength=size).float() + 1
            share /= share.sum()
            book.counts.copy_(share * 1000)
            module.quantizer.rate_logits[g].bias.copy_(share.log())
            coded[:, part] += book.vectors[nearest]
        shape = [len(pixels), *(side // module.stride for side in pixels.shape[1:3]), -1]
        for left, some in zip(residual.split(CHUNK), coded.view(shape).split(CHUNK), strict=True):
            left -= depth_to_space(some @ module.basis.T, module.stride)


def draw_positions(architecture: AutoencoderConfig, count: int, rng: np.random.Generator) -> Tensor:
    """Positions among the knots, spread evenly over the range (lmbda log-uniformly): [count]."""
    if architecture.qualities is None:
        return torch.from_numpy(rng.integers(len(architecture.lmbdas), size=count)).float()
    shares = (rng.permutation(count) + rng.random(count)) / count
    return torch.from_numpy(shares * architecture.last_knot).float()


@torch.no_grad()
def restart_unused(
    autoencoder: Autoencoder,
    pixels: Tensor,
    position: Tensor,
    processes: Processes,
    threshold: float,
    seed: int,
) -> None:
    """Moves unused codes onto badly coded sub-vectors of a batch.

    Args:
        autoencoder: In training; it is so again afterwards.
        pixels: uint8 [B, H, W, 3].
        position: Among the knots, float32 [B].
        processes: All processes of the run.
        threshold: Share of choices below which a code counts as unused.
        seed: For the choice of sub-vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    autoencoder.eval()
    target = autoencoder.normalize(pixels)
    prediction = torch.zeros_like(target)
    state = None
    lmbda = autoencoder.choice_lmbda(position)
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


class RateDistortion(Objective[Autoencoder]):
    """MSE + lmbda * bpp, with the side terms of `AutoencoderTraining`."""

    def conditions(self, count: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Positions among the knots, float32 [count]."""
        return (draw_positions(self.autoencoder.config, count, rng),)

    def start(self, crops: Tensor) -> None:
        """Sets bases, scales and codebooks from crops."""
        device = self.autoencoder.knot_lmbdas.device
        # On the CPU, where one seed gives the same start whatever the run's device is.
        start_from_data(self.autoencoder.cpu(), crops, self.config.seed)
        self.autoencoder.to(device)

    def restart(self, batch: tuple[Tensor, ...], processes: Processes, step: int) -> None:
        """Moves unused codes onto badly coded sub-vectors."""
        crops, position = batch
        threshold = self.config.restart_threshold
        restart_unused(self.autoencoder, crops, position, processes, threshold, step)

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
