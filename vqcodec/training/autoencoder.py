"""Training of an autoencoder, of any family."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.models.autoencoder import AutoencoderConfig
from vqcodec.models.families import from_config
from vqcodec.models.family import Family
from vqcodec.models.vqvae import VQVAEConfig
from vqcodec.progress import bar
from vqcodec.training import presets
from vqcodec.training.crops import CropSampler, Draw
from vqcodec.training.hvq import RateDistortion
from vqcodec.training.loop import Batches, resume, run
from vqcodec.training.objective import Objective
from vqcodec.training.processes import Processes
from vqcodec.training.settings import AutoencoderTraining
from vqcodec.training.vqvae import ReconstructionCommitment

OBJECTIVES: dict[type, type[Objective[Any]]] = {
    AutoencoderConfig: RateDistortion,
    VQVAEConfig: ReconstructionCommitment,
}
"""What each family has of its own, by the class of its configs."""
START = 1 << 30  # in a seed, where the steps of a run do not come to


def objective_of(autoencoder: Family, config: AutoencoderTraining) -> Objective[Any]:
    """The training objective of an autoencoder, by its family."""
    return OBJECTIVES[type(autoencoder.config)](autoencoder, config)


def train(config: AutoencoderTraining) -> Path:
    """Trains, or goes on from the checkpoint in `config.output`; returns the checkpoint.

    Raises:
        CodecError: unknown preset, unusable sources, or a checkpoint of another architecture.
    """
    architecture = presets.autoencoder(config.preset).config
    if config.crop % architecture.strides[0]:
        raise CodecError(f"the crop must be a multiple of {architecture.strides[0]} pixels")
    with Processes(config.device) as processes:
        with bar("images", shown=processes.leads) as progress:
            sampler = CropSampler(config, progress)
        torch.manual_seed(config.seed)
        autoencoder = from_config(architecture.to_dict()).to(processes.device)
        objective = objective_of(autoencoder, config)
        if not resume(config, architecture.to_dict()):
            crops, _ = sampler.draw(config.start_crops, [config.seed, START])
            sampler.recent.forget()  # the start takes the room
            objective.start(crops)
            del crops  # thousands
        autoencoder.train()

        def batches(first: int) -> Batches:
            seeds = ([config.seed, processes.rank, step] for step in count(first))
            draws = (Draw(config.batch, seed) for seed in seeds)
            for step, (crops, _) in enumerate(sampler.batches(draws), first):
                rng = np.random.default_rng([config.seed, processes.rank, step, 1])
                parts = (crops, *objective.conditions(len(crops), rng))
                yield tuple(part.to(processes.device) for part in parts)

        def restart(step: int, progress: float, batch: tuple[Tensor, ...]) -> None:
            due = step > 0 and step % config.restart_every == 0
            if due and progress < config.restart_until:
                objective.restart(batch, processes, step)

        return run(
            config, processes, autoencoder, objective, architecture.to_dict(), batches, restart
        )
