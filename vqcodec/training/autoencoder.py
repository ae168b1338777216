"""Training of the hierarchical VQ autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vqcodec.errors import CodecError
from vqcodec.models.autoencoder import (
    PIXEL_SCALE,
    Autoencoder,
    AutoencoderConfig,
    Level,
    LevelConfig,
)
from vqcodec.models.layers import depth_to_space, space_to_depth
from vqcodec.training import checkpoint
from vqcodec.training.loop import Log, Processes, Schedule, fast_bfloat16
from vqcodec.training.photos import CropSampler

PHOTO = AutoencoderConfig(
    levels=(
        LevelConfig(32, ((128, 1), (128, 2), (128, 4), (128, 8)), 160, 2, 2),
        LevelConfig(16, ((128, 2), (128, 4), (128, 8), (128, 8)), 192, 2, 3),
        LevelConfig(
            8,
            ((128, 2), (128, 2), (128, 4), (128, 4), (128, 8), (128, 8), (128, 16)),
            160,
            3,
            4,
        ),
    ),
    lmbdas=tuple(1280.0 * 2 ** (-5 * q / 7) for q in range(8)),
)
"""The codec's own model: photographs, 8 qualities."""

PRESETS = {"photo": PHOTO}

START_PIXELS = 40_000_000  # seen by the principal components and k-means of the start


@dataclass
class AutoencoderTraining:
    """Settings of a run.

    Attributes:
        sources: (folder or tar archive, weight) of the training images.
        output: Folder for checkpoint, log and config.
        preset: Name of the architecture, a key of `PRESETS`.
        steps: Steps at most.
        minutes: Minutes at most, or None.
        batch: Crops a step and process.
        crop: Side of a crop, in pixels; a multiple of the coarsest stride.
        learning_rate: Peak of the schedule.
        decay: Share of the run over which the learning rate falls to zero.
        commitment_cost: Weight of the commitment loss.
        coarse_weight: Weight of the MSE of decodes from the coarser levels alone.
        average_decay: Decay of the weights' moving average.
        restart_every: Steps between restarts of unused codes.
        restart_until: Share of the run after which codes are no longer restarted.
        restart_threshold: Share of choices below which a code counts as unused.
        checkpoint_minutes: Minutes between checkpoints.
        bfloat16: Run the networks' layers in bfloat16; None means where the device is fast at it.
        seed: Of initial weights and crops.
        limit: At most this many images of each source, or None.
        device: "cpu", "cuda", or None for whichever there is.
        log_every: Steps between rows of the log.
    """

    sources: list[tuple[Path, float]]
    output: Path
    preset: str = "photo"
    steps: int = 100_000
    minutes: float | None = None
    batch: int = 8
    crop: int = 128
    learning_rate: float = 1.2e-3
    decay: float = 0.6
    commitment_cost: float = 0.25
    coarse_weight: float = 0.05
    average_decay: float = 0.999
    restart_every: int = 250
    restart_until: float = 0.5
    restart_threshold: float = 2e-5
    checkpoint_minutes: float = 4.0
    bfloat16: bool | None = None
    seed: int = 0
    limit: int | None = None
    device: str | None = None
    log_every: int = 25

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


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
    return basis[:, -count:].flip(1).float()


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
        sample = latents[torch.randperm(len(latents), generator=generator)[:40_000]]
        vectors = []
        columns = sample.split(module.quantizer.dims, 1)
        for g, book in enumerate(module.quantizer.codebooks):
            book.vectors.copy_(k_means(columns[g], len(book.vectors), 8, generator))
        for column, book in zip(
            latents.split(module.quantizer.dims, 1), module.quantizer.codebooks, strict=True
        ):
            nearest = (book.vectors.square().sum(1) - 2 * column @ book.vectors.T).argmin(1)
            share = torch.bincount(nearest, minlength=len(book.vectors)).float() + 1
            book.counts.copy_(share / share.sum() * 1000)
            vectors.append(book.vectors[nearest])
        for g, book in enumerate(module.quantizer.codebooks):
            module.quantizer.rate_logits[g].bias.copy_((book.counts / book.counts.sum()).log())
        shape = [len(pixels), *(side // module.stride for side in pixels.shape[1:3]), -1]
        coded = (torch.cat(vectors, 1) @ module.basis.T).view(shape)
        residual = residual - depth_to_space(coded, module.stride)


@dataclass
class Losses:
    """Per-image terms of one step, float32 [B] each (`coarse` and `bpp` sum over levels)."""

    mse: Tensor
    coarse: Tensor
    bpp: Tensor
    level_bpp: list[Tensor]
    commitment: Tensor


class RateDistortion(nn.Module):
    """The training objective: MSE + lmbda * bpp, with the side terms of `AutoencoderTraining`."""

    def __init__(self, autoencoder: Autoencoder, config: AutoencoderTraining) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.config = config
        device = autoencoder.lmbdas.device
        self.bfloat16 = fast_bfloat16(device) if config.bfloat16 is None else config.bfloat16

    def forward(self, pixels: Tensor, quality: Tensor) -> tuple[Tensor, Losses]:
        """uint8 [B, H, W, 3] and int64 [B] to the loss (a scalar) and its terms."""
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.bfloat16):
            result = self.autoencoder(pixels, quality)
        target = self.autoencoder.normalize(pixels)
        errors = [
            (prediction.float() - target).square().mean((1, 2, 3)) * PIXEL_SCALE**2
            for prediction in result.predictions
        ]
        area = pixels.shape[1] * pixels.shape[2]
        level_bpp = [bits / area for bits in result.bits]
        terms = Losses(
            mse=errors[-1],
            coarse=torch.stack(errors[:-1]).sum(0) if errors[:-1] else errors[-1] * 0,
            bpp=torch.stack(level_bpp).sum(0),
            level_bpp=level_bpp,
            commitment=result.commitment * PIXEL_SCALE**2 / (3 * area),
        )
        lmbda = self.autoencoder.lmbdas[quality]
        # Distortion grows about as the root of lmbda: this keeps all qualities equally heard.
        weight = (lmbda / 200.0).rsqrt() / 50.0
        loss = weight * (
            terms.mse
            + lmbda * terms.bpp
            + self.config.coarse_weight * terms.coarse
            + self.config.commitment_cost * terms.commitment
        )
        return loss.mean(), terms


def _restart(
    autoencoder: Autoencoder,
    crops: Tensor,
    quality: Tensor,
    processes: Processes,
    threshold: float,
    step: int,
) -> int:
    """Moves unused codes onto badly coded sub-vectors of a batch; returns how many."""
    moved = 0
    generator = torch.Generator().manual_seed(step)
    autoencoder.eval()
    target = autoencoder.normalize(crops)
    prediction = torch.zeros_like(target)
    state = None
    with torch.no_grad():
        for level in autoencoder.levels:
            assert isinstance(level, Level)
            context = level.context(state, quality, target.shape[1:3])
            latents = level.analysis(target - prediction, context, quality)
            choice = level.quantizer(
                latents, context, autoencoder.choice_lmbda(quality), level.latent_scale
            )
            state, correction = level.synthesis(choice.vectors, context)
            prediction = prediction + correction
            dims = level.quantizer.dims
            wanted = latents.flatten(0, 2).split(dims, 1)
            coded = choice.vectors.flatten(0, 2).split(dims, 1)
            for g, book in enumerate(level.quantizer.codebooks):
                error = (wanted[g] - coded[g]).square().sum(1) + 1e-12
                count = min(len(book.vectors), len(error))
                picked = torch.multinomial(error.cpu(), count, generator=generator)
                candidates = processes.broadcast(wanted[g][picked.to(error.device)].contiguous())
                moved += level.quantizer.restart_unused(g, candidates, threshold)
    autoencoder.train()
    return moved


def train(config: AutoencoderTraining) -> Path:
    """Trains, or goes on from the checkpoint in `config.output`.

    Returns:
        The checkpoint: tensors `model.*` (as trained), `average.*` (to use), `optimizer.*`.

    Raises:
        CodecError: unknown preset, unusable sources, or a checkpoint of another architecture.
    """
    if config.preset not in PRESETS:
        raise CodecError(f"unknown preset {config.preset!r}; there are: {', '.join(PRESETS)}")
    architecture = PRESETS[config.preset]
    processes = Processes(config.device)
    path = config.output / "checkpoint.safetensors"
    torch.manual_seed(config.seed)
    sampler = CropSampler(config.sources, config.crop, config.limit)
    autoencoder = Autoencoder(architecture)
    step, spent = 0, 0.0
    tensors: dict[str, Tensor] = {}
    if path.exists():
        tensors, state = checkpoint.load(path)
        if AutoencoderConfig.from_dict(state["config"]) != architecture:
            raise CodecError(f"{path}: a checkpoint of another architecture; use another folder")
        autoencoder.load_state_dict(checkpoint.under("model", tensors))
        step, spent = state["step"], state["seconds"]
    else:
        crops = START_PIXELS // config.crop**2
        start_from_data(autoencoder, sampler.draw(crops, [config.seed, 1 << 30]), config.seed)
    autoencoder.to(processes.device, memory_format=torch.channels_last)
    objective: nn.Module = RateDistortion(autoencoder, config)
    if processes.count > 1:
        objective = DistributedDataParallel(objective, broadcast_buffers=False)
    optimizer = torch.optim.AdamW(
        autoencoder.parameters(), config.learning_rate, (0.9, 0.95), weight_decay=1e-4
    )
    average = checkpoint.Average(autoencoder, config.average_decay)
    if tensors:
        checkpoint.load_optimizer(optimizer, checkpoint.under("optimizer", tensors))
        average.tensors = {
            name: tensor.to(processes.device)
            for name, tensor in checkpoint.under("average", tensors).items()
        }

    def save() -> None:
        named = {f"model.{name}": value for name, value in autoencoder.state_dict().items()}
        named |= {f"average.{name}": value for name, value in average.tensors.items()}
        optimizing = checkpoint.optimizer_tensors(optimizer)
        named |= {f"optimizer.{name}": value for name, value in optimizing.items()}
        state = {"step": step, "seconds": schedule.elapsed, "config": architecture.to_dict()}
        checkpoint.save(path, named, state)

    schedule = Schedule(config.steps, config.minutes, config.decay, spent)
    saved = schedule.elapsed
    moved = 0
    autoencoder.train()
    with Log(config.output, config.to_dict(), processes.leads) as log:
        while (progress := processes.agree(schedule.progress(step))) < 1.0:
            crops = sampler.draw(config.batch, [config.seed, processes.rank, step])
            crops = crops.to(processes.device, non_blocking=True)
            generator = torch.Generator().manual_seed(config.seed + 977 * step + processes.rank)
            quality = torch.randint(len(architecture.lmbdas), (len(crops),), generator=generator)
            quality = quality.to(processes.device)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * schedule.factor(step, progress)
            loss, terms = objective(crops, quality)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(autoencoder.parameters(), 2.0)
            optimizer.step()
            average.update(autoencoder, step)
            step += 1
            if step % config.restart_every == 0 and progress < config.restart_until:
                moved = _restart(
                    autoencoder, crops, quality, processes, config.restart_threshold, step
                )
            if step % config.log_every == 0:
                row = _row(step, schedule.elapsed, loss, norm, terms)
                row["lr"] = optimizer.param_groups[0]["lr"]
                row["restarted"] = moved
                log.write(row)
                log.advance(progress, f"step {step} mse {row['mse']:.1f} bpp {row['bpp']:.3f}")
            due = processes.agree(schedule.elapsed) - saved > config.checkpoint_minutes * 60
            if due:
                saved = schedule.elapsed
                if processes.leads:
                    save()
        if processes.leads:
            save()
    processes.close()
    return path


def _row(
    step: int, seconds: float, loss: Tensor, norm: Tensor, terms: Losses
) -> dict[str, float]:
    row = {"step": step, "seconds": seconds, "loss": float(loss.detach()), "gradient": float(norm)}
    means: Sequence[tuple[str, Tensor]] = (
        ("mse", terms.mse),
        ("coarse", terms.coarse),
        ("bpp", terms.bpp),
        ("commitment", terms.commitment),
        *((f"bpp_{n}", bpp) for n, bpp in enumerate(terms.level_bpp)),
    )
    return row | {name: float(value.detach().mean()) for name, value in means}
