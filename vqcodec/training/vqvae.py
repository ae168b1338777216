"""Training of the papers' autoencoders, and the papers' hyper-parameters as presets.

`PRESETS.md` beside this file says where each value comes from and which are in doubt.

Source: van den Oord et al. 2017, equation 3 and section 4; Razavi et al. 2019, algorithm 1 and
tables 4 and 5; Adiban et al. 2022, section 3 and tables 6 to 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vqcodec.errors import CodecError
from vqcodec.models.vqvae import PIXEL_SCALE, VQVAE, Quantizer, VQVAEConfig, VQVAELevel
from vqcodec.photos import CropSampler
from vqcodec.training.loop import Processes, fast_bfloat16, resume, run

if TYPE_CHECKING:  # it imports this module
    from vqcodec.training.autoencoder import AutoencoderSettings


@dataclass(frozen=True)
class Preset:
    """An architecture and how it is trained.

    Attributes:
        config: The architecture.
        settings: Fields of `vqcodec.training.autoencoder.AutoencoderTraining`; those that a user
            gives win.
    """

    config: VQVAEConfig
    settings: dict[str, Any]


_EVERY: dict[str, Any] = {
    "betas": (0.9, 0.999),
    "weight_decay": 0.0,  # AdamW without it is Adam
    "commitment_cost": 0.25,
    "restart_every": 20,
    "restart_threshold": 3e-4,
}
_OORD = {**_EVERY, "batch": 128, "learning_rate": 2e-4, "average_decay": 0.999}
_RAZAVI = {**_EVERY, "batch": 128, "learning_rate": 2e-4, "average_decay": 0.9999}
_ADIBAN = {**_EVERY, "batch": 32, "learning_rate": 3e-3, "average_decay": 0.9}


def _pyramid(strides: tuple[int, ...], k: int, d: int, **networks: Any) -> VQVAEConfig:
    return VQVAEConfig(tuple(VQVAELevel(stride, k, d) for stride in strides), **networks)


def _linked(stride: int, branching: int, d: int) -> VQVAEConfig:
    return VQVAEConfig((VQVAELevel(stride, branching, d),) * 3, linked=True)


_WIDE = {"channels": 256, "residual_channels": 256}

PRESETS = {
    "vqvae-mnist": Preset(_pyramid((2,), 64, 8), {**_ADIBAN, "crop": 32}),
    "vqvae-cifar10": Preset(_pyramid((4,), 512, 64, **_WIDE), {**_OORD, "crop": 32}),
    "vqvae-imagenet128": Preset(_pyramid((4,), 512, 64, **_WIDE), {**_OORD, "crop": 128}),
    "vqvae2-imagenet256": Preset(_pyramid((8, 4), 512, 64), {**_RAZAVI, "crop": 256}),
    "vqvae2-ffhq1024": Preset(_pyramid((32, 16, 8), 512, 64), {**_RAZAVI, "crop": 1024}),
    "vqvae2-ffhq256": Preset(_pyramid((32, 16, 8), 512, 32), {**_ADIBAN, "crop": 256}),
    "vqvae2-imagenet128": Preset(_pyramid((16, 8, 4), 512, 32), {**_ADIBAN, "crop": 128}),
    "vqvae2-cifar10": Preset(_pyramid((8, 4, 2), 512, 16), {**_ADIBAN, "crop": 32}),
    "vqvae2-mnist": Preset(_pyramid((8, 4, 2), 64, 8), {**_ADIBAN, "crop": 32}),
    "hrvqvae-ffhq256": Preset(_linked(8, 8, 32), {**_ADIBAN, "crop": 256}),
    "hrvqvae-imagenet128": Preset(_linked(4, 8, 32), {**_ADIBAN, "crop": 128}),
    "hrvqvae-cifar10": Preset(_linked(2, 8, 16), {**_ADIBAN, "crop": 32}),
    "hrvqvae-mnist": Preset(_linked(2, 4, 8), {**_ADIBAN, "crop": 32}),
}
"""By name; the crop is the whole image, `mnist` extended to 32 x 32."""


def _prior(
    channels: int, blocks: int, batch: int, dropout: float, **fields: Any
) -> dict[str, float | int]:
    defaults = {
        "context_blocks": 0,
        "attention_heads": 0,
        "attention_layers": 1,
        "attention_dropout": 0.0,
        "learning_rate": 2e-4,
        "average_decay": 0.9999,
    }
    sizes = {"channels": channels, "blocks": blocks, "batch": batch, "dropout": dropout}
    return {**defaults, **sizes, **fields}


def _priors(
    levels: int, channels: int, blocks: int, context_blocks: int, batch: int
) -> tuple[dict[str, float | int], ...]:
    """Attention at the top alone, the conditioning stack below it."""
    size = (channels, blocks, batch, 0.1)
    top = _prior(*size, attention_heads=8, attention_layers=4, attention_dropout=0.1)
    return (top, *[_prior(*size, context_blocks=context_blocks)] * (levels - 1))


def _digits(levels: int) -> tuple[dict[str, float | int], ...]:
    """Small enough to be trained in minutes on a CPU; too few steps for dropout to help."""
    fast: dict[str, Any] = {"learning_rate": 3e-3, "average_decay": 0.998}
    top = _prior(48, 4, 32, 0.0, attention_heads=4, **fast)
    return (top, *[_prior(48, 4, 32, 0.0, context_blocks=1, **fast)] * (levels - 1))


_LARGE, _MIDDLE = (256, 20, 20, 128), (128, 12, 8, 128)

PRIOR_PRESETS: dict[str, tuple[dict[str, float | int], ...]] = {
    "vqvae-mnist": _digits(1),
    "vqvae-cifar10": _priors(1, *_MIDDLE),
    "vqvae-imagenet128": _priors(1, *_LARGE),
    "vqvae2-imagenet256": (
        _prior(512, 20, 1024, 0.1, attention_heads=8, attention_layers=4, attention_dropout=0.1),
        _prior(512, 20, 512, 0.1, context_blocks=20),
    ),
    "vqvae2-ffhq1024": (
        _prior(512, 20, 1024, 0.5, attention_heads=8, attention_layers=4, attention_dropout=0.5),
        _prior(512, 20, 512, 0.3, attention_heads=8, attention_dropout=0.3, context_blocks=8),
        _prior(512, 10, 256, 0.25, context_blocks=8),
    ),
    "vqvae2-ffhq256": _priors(3, *_LARGE),
    "vqvae2-imagenet128": _priors(3, *_LARGE),
    "vqvae2-cifar10": _priors(3, *_MIDDLE),
    "vqvae2-mnist": _digits(3),
    "hrvqvae-ffhq256": _priors(3, *_LARGE),
    "hrvqvae-imagenet128": _priors(3, *_LARGE),
    "hrvqvae-cifar10": _priors(3, *_MIDDLE),
    "hrvqvae-mnist": _digits(3),
}
"""By name and level: fields of `vqcodec.training.prior.PriorTraining`."""


class ReconstructionCommitment(nn.Module):
    """The training objective: MSE + commitment_cost * commitment, both in network units.

    The commitment is the mean squared distance of latents to their code vectors, summed over the
    levels. The code vectors follow by their averages and have no term.
    """

    def __init__(self, autoencoder: VQVAE, commitment_cost: float, bfloat16: bool) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.commitment_cost = commitment_cost
        self.use_bfloat16 = bfloat16

    def forward(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """uint8 [B, H, W, 3] to the loss and what to log: the MSE in 8-bit units, and so on."""
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            prediction, levels = self.autoencoder(pixels)
        target = self.autoencoder.normalize(pixels)
        mse = (prediction.float() - target).square().mean()
        commitments = [(each.latents.float() - each.vectors).square().mean() for each in levels]
        commitment = torch.stack(commitments).sum()
        means = {"mse": mse * PIXEL_SCALE**2, "commitment": commitment}
        for n, each in enumerate(levels):
            means[f"perplexity_{n}"] = perplexity(each.rows)
        return mse + self.commitment_cost * commitment, means


def perplexity(rows: Tensor) -> Tensor:
    """Two to the entropy in bits of the choices, int64 [...]: how many codes are in use."""
    counts = torch.bincount(rows.flatten())
    share = counts[counts > 0] / rows.numel()
    return torch.exp(-(share * share.log()).sum())


@torch.no_grad()
def start_from_latents(autoencoder: VQVAE, pixels: Tensor, seed: int) -> None:
    """Lets all codes start at random latents of a batch, uint8 [B, H, W, 3]."""
    autoencoder.eval()
    generator = torch.Generator().manual_seed(seed)
    autoencoder.walk(pixels, before=partial(Quantizer.start, generator=generator))


@torch.no_grad()
def restart_unused(
    autoencoder: VQVAE, pixels: Tensor, processes: Processes, threshold: float, seed: int
) -> None:
    """Moves unused codes to badly coded latents of a batch, uint8 [B, H, W, 3]."""
    autoencoder.eval()
    generator = torch.Generator().manual_seed(seed)

    def restart(quantizer: Quantizer, latents: Tensor, path: Tensor | None) -> None:
        quantizer.restart_unused(latents, path, threshold, generator)
        processes.broadcast(quantizer.codebook.vectors)
        processes.broadcast(quantizer.codebook.counts)

    autoencoder.walk(pixels, before=restart)
    autoencoder.train()


def train(config: AutoencoderSettings) -> Path:
    """Trains, or goes on from the checkpoint in `config.output`; returns the checkpoint.

    Raises:
        CodecError: unusable sources, or a checkpoint of another architecture.
    """
    architecture = PRESETS[config.preset].config
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
        autoencoder = VQVAE(architecture).to(processes.device)
        if not resume(config, architecture.to_dict()):
            first = sampler.draw(config.batch, [config.seed, 0, 0])
            start_from_latents(autoencoder, first.to(processes.device), config.seed)
        autoencoder.train()

        def draw(step: int) -> tuple[Tensor, ...]:
            crops = sampler.draw(config.batch, [config.seed, processes.rank, step])
            return (crops.to(processes.device),)

        def restart(step: int, progress: float, batch: tuple[Tensor, ...]) -> None:
            due = step > 0 and step % config.restart_every == 0
            if due and progress < config.restart_until:
                restart_unused(autoencoder, batch[0], processes, config.restart_threshold, step)

        bfloat16 = fast_bfloat16(processes.device) if config.bfloat16 is None else config.bfloat16
        objective = ReconstructionCommitment(autoencoder, config.commitment_cost, bfloat16)
        return run(config, processes, autoencoder, objective, architecture.to_dict(), draw, restart)
