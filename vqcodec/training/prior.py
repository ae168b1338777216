"""Training of one level's prior, in float and then on the integer prior's grids."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vqcodec.entropy.layers import under
from vqcodec.errors import CodecError
from vqcodec.models.family import FamilyConfig
from vqcodec.models.prior import Prior, calibrated, set_mode
from vqcodec.spec.prior import PriorConfig
from vqcodec.training import checkpoint
from vqcodec.training.export import fingerprint, load_autoencoder
from vqcodec.training.indices import IndexSampler
from vqcodec.training.loop import Batches, run
from vqcodec.training.processes import Processes, chosen_bfloat16
from vqcodec.training.settings import PriorTraining

QUALITY_KNOTS = 17
CALIBRATION_EXAMPLES = 32  # enough to have all groups of codebooks among them


class BitsPerPosition(nn.Module):
    """The training objective: ideal code length of a level's indices."""

    def __init__(self, prior: Prior, level: int, bfloat16: bool) -> None:
        super().__init__()
        self.prior = prior
        self.level = level
        self.use_bfloat16 = bfloat16

    def forward(
        self, quality: Tensor, label: Tensor, *levels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """int64 [B] twice and per level [B, G, h, w] to nats per index, and bits per position."""
        own = levels[self.level]
        with torch.autocast(own.device.type, torch.bfloat16, enabled=self.use_bfloat16):
            bits = self.prior.bits(own, levels[: self.level], quality, label)
        positions = own.shape[0] * own.shape[2] * own.shape[3]
        each = bits.sum(0) / positions
        means = {"bits": each.sum()} | {f"bits_{g}": mean for g, mean in enumerate(each)}
        return each.mean() * 0.6931471805599453, means


def groups_of(autoencoder: FamilyConfig, level: int) -> tuple[tuple[int, int], ...]:
    """`PriorConfig.groups` of an autoencoder's level; empty if there is nothing to say."""
    found = autoencoder.groups_of(level)
    return found if set(found) != {(1, 1)} else ()


def prior_config(config: PriorTraining, autoencoder: FamilyConfig, classes: int) -> PriorConfig:
    """The prior's architecture: the autoencoder's codebooks, the classes and the run's sizes.

    Raises:
        CodecError: the autoencoder has no such level, or the sizes do not fit together.
    """
    levels = autoencoder.levels
    if not 0 <= config.level < len(levels):
        raise CodecError(f"no level {config.level}; the autoencoder has 0 to {len(levels) - 1}")
    strides = [level.stride for level in levels]
    sizes = tuple(
        tuple((size, dim) for size, dim, *_ in level.codebooks)
        for level in levels[: config.level + 1]
    )
    heads = config.attention_heads
    try:
        return PriorConfig(
            codebooks=sizes[-1],
            coarser=sizes[:-1],
            factors=tuple(strides[m] // strides[m + 1] for m in range(config.level)),
            channels=config.channels,
            blocks=config.blocks,
            context_blocks=config.context_blocks,
            attention_heads=(4 if config.level == 0 else 0) if heads is None else heads,
            attention_layers=config.attention_layers,
            head_channels=config.head_channels,
            qualities=autoencoder.num_qualities,
            quality_knots=QUALITY_KNOTS if autoencoder.num_qualities > QUALITY_KNOTS else 0,
            groups=groups_of(autoencoder, config.level),
            classes=classes,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
    except ValueError as error:
        raise CodecError(str(error)) from error


@torch.no_grad()
def start_from_shares(prior: Prior, indices: Tensor, quality: Tensor) -> None:
    """Lets the heads start from how often each index occurs where it is coded.

    Args:
        prior: Freshly made.
        indices: Integers [N, G, h, w].
        quality: int64 [N].
    """
    used = prior.used(quality)
    for g, head in enumerate(prior.heads):
        own = indices[used[:, g], g].flatten().long()
        counts = torch.bincount(own, minlength=len(head.bias)) + 1.0
        head.bias.copy_((counts / counts.sum()).log())


@torch.no_grad()
def start_from_checkpoint(prior: Prior, path: Path) -> None:
    """Takes the averaged weights of another run's checkpoint.

    Raises:
        CodecError: it is of another architecture.
    """
    tensors, state = checkpoint.load(path)
    drops = {"dropout": 0.0, "attention_dropout": 0.0}
    theirs = PriorConfig.from_dict({**state["config"], **drops})
    if theirs != replace(prior.config, dropout=0.0, attention_dropout=0.0):
        raise CodecError("is of a prior of another shape, and cannot be started from").in_file(path)
    average = under("average", tensors)
    for name, parameter in prior.named_parameters():
        parameter.copy_(average[name])


def train(config: PriorTraining) -> Path:
    """Trains, or goes on from the checkpoint in `config.output`; returns the checkpoint.

    Raises:
        CodecError: unusable checkpoint or indices, no such level, or indices or a checkpoint in
            `config.output` of another autoencoder.
    """
    autoencoder = load_autoencoder(config.autoencoder)
    mark = fingerprint(autoencoder)
    sampler = IndexSampler(config.indices, mark, config.class_power)
    architecture = prior_config(config, autoencoder.config, len(sampler.classes))
    with Processes(config.device) as processes:
        torch.manual_seed(config.seed)
        if len(sampler.levels) <= config.level:
            raise CodecError(f"the files of indices end before level {config.level}")
        prior = Prior(architecture, autoencoder.code_vectors()[: config.level + 1])
        start_from_shares(prior, sampler.levels[config.level], sampler.quality)
        if config.start is not None and not config.checkpoint.exists():
            start_from_checkpoint(prior, config.start)
        prior.to(processes.device)
        prior.train()
        bfloat16 = chosen_bfloat16(config.bfloat16, processes.device)
        objective = BitsPerPosition(prior, config.level, bfloat16)

        def draw(step: int, examples: int) -> tuple[Tensor, ...]:
            seed = [config.seed, processes.rank, step]
            quality, label, levels = sampler.draw(examples, seed)
            hidden = np.random.default_rng([*seed, 1]).random(examples) < config.label_dropout
            label = label.masked_fill(torch.from_numpy(hidden), 0)
            parts = (quality, label, *levels[: config.level + 1])
            return tuple(part.to(processes.device) for part in parts)

        def batches(first: int) -> Batches:
            for step in count(first):
                yield draw(step, config.batch)

        def quantize(step: int, progress: float, batch: tuple[Tensor, ...]) -> None:
            if progress >= config.quantized_from and not prior.embedding.quantized:
                if not calibrated(prior):  # a resumed run may be
                    set_mode(prior, "calibrate")
                    prior.eval()  # the integer prior drops nothing
                    with torch.no_grad():
                        many = CALIBRATION_EXAMPLES if architecture.groups else config.batch
                        objective(*draw(step, many))
                    prior.train()
                set_mode(prior, "quantized")

        about = {
            "classes": sampler.classes,
            "side": sampler.side,
            "autoencoder_sha256": mark,
        }
        return run(
            config,
            processes,
            prior,
            objective,
            architecture.to_dict(),
            batches,
            quantize,
            about,
            config.at_once,
        )
