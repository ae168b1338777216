"""Seconds to draw images: the packaged generator, and the papers' 256-pixel system.

The second part draws index maps from priors of random weights; time does not depend on the weights'
values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.cost import timed
from vqcodec.drawing import sampling
from vqcodec.drawing.shaping import Shaping, draw_with
from vqcodec.entropy import payload
from vqcodec.entropy.prior import Prior
from vqcodec.models import prior as trained
from vqcodec.registry import default_generator
from vqcodec.training.export import integer_prior, shared_tables
from vqcodec.training.presets import PRESETS
from vqcodec.training.prior import prior_config
from vqcodec.training.settings import PriorTraining, resolve

SYSTEM = "vqvae2-imagenet256"
SHAPES = ((32, 32), (64, 64))
PASSES = 2


def random_priors(preset: str | None) -> list[Prior]:
    """Integer priors of random weights for the system's levels; sizes of a preset, or default."""
    torch.manual_seed(0)
    config = PRESETS[SYSTEM].config
    vectors = [[torch.randn(size) for size in level.codebooks] for level in config.levels]
    tables = shared_tables()
    priors = []
    for level in range(len(vectors)):
        settings = resolve(
            PriorTraining, output=Path(), autoencoder=Path(), indices=[], level=level, preset=preset
        )
        architecture = prior_config(settings, config, classes=1000)
        prior = trained.Prior(architecture, vectors[: level + 1])
        for part in prior.modules():
            if isinstance(part, trained.Activation):
                part.exponent.fill_(4)
        priors.append(Prior(architecture, integer_prior(prior), tables))
    return priors


@torch.inference_mode()
def draw(priors: Sequence[Prior]) -> list[Tensor]:
    """Indices of a new image, as the sampler draws them: int64 [1, 1, h, w] a level."""
    zero = torch.zeros(1, dtype=torch.int64)
    indices: list[Tensor] = []
    for prior, shape in zip(priors, SHAPES, strict=True):
        state = prior.start(indices, zero, zero + 1, *shape)
        chosen = draw_with(prior, [np.random.PCG64(0)], Shaping())
        indices.append(payload.find(state, chosen))
    return indices


@torch.inference_mode()
def usual_way(priors: list[Prior], indices: list[Tensor]) -> float:
    """Seconds if every position took a full pass, from a few of them; contexts once a level."""
    zero = torch.zeros(1, dtype=torch.int64)
    total = 0.0
    for level, (prior, (height, width)) in enumerate(zip(priors, SHAPES, strict=True)):
        state = prior.start(indices[:level], zero, zero + 1, height, width)
        seconds = timed(partial(state.parallel, indices[level]), PASSES)
        total += seconds * height * width
    return total


@click.command(cls=Command)
@click.option("--model", metavar="ID|FILE", help="The packaged generator if not given.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
def main(model: str | None, threads: int, runs: int) -> None:
    """Measures how long samples take."""
    torch.set_num_threads(threads)
    model = model or default_generator()
    rows = []
    for count, guidance in tracked([(1, 1.0), (64, 1.0), (1, 2.0), (64, 2.0)], "generator"):
        drawn = partial(sampling.sample, model=model, classes=[97], count=count, guidance=guidance)
        seconds = timed(drawn, runs)
        rows.append([count, f"{guidance:g}", f"{seconds:.3f}", f"{seconds / count:.4f}"])
    columns = ["images at a time", "guidance", "seconds", "seconds an image"]
    print_table(f"{model}, {threads} threads, median of {runs}", columns, rows)
    rows = []
    for preset in tracked((None, SYSTEM), "256-pixel system"):
        priors = random_priors(preset)
        one = partial(draw, priors)
        seconds, usual = timed(one, min(runs, 3)), usual_way(priors, one())
        sizes = "default" if preset is None else "the paper's"
        rows.append([sizes, f"{seconds:.2f}", f"{usual:.0f}", f"{usual / seconds:.0f}"])
    print_table(
        f"Index maps of {SYSTEM}, 32 x 32 and 64 x 64, random weights, {threads} threads",
        ["priors' sizes", "seconds an image", "a full pass a position, extrapolated", "times"],
        rows,
    )
    print_made(model)


if __name__ == "__main__":
    main()
