"""Seconds to draw images: the packaged generator, and the papers' 256-pixel system.

    OMP_NUM_THREADS=2 python benchmarks/sampling_speed.py --threads 2

The second part draws the index maps (32 x 32, 64 x 64) of the preset `vqvae2-imagenet256` from
priors of random weights, through the wavefront; time does not depend on the weights' values. What
the usual way would take, a full pass of the prior for every position, is measured on a few passes
and multiplied.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
import common
import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from vqcodec.drawing import sampling
from vqcodec.entropy.frequencies import Tables
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
            PriorTraining,
            output=Path(),
            autoencoder=Path(),
            indices=[],
            level=level,
            preset=preset,
        )
        architecture = prior_config(settings, config, classes=1000)
        prior = trained.Prior(architecture, vectors[: level + 1])
        for part in prior.modules():
            if isinstance(part, trained.Activation):
                part.exponent.fill_(4)
        priors.append(
            Prior(
                architecture.to_dict(),
                integer_prior(prior),
                Tables(tables["tables.gate"], tables["tables.exponential"]),
            )
        )
    return priors


@torch.inference_mode()
def draw(priors: list[Prior], count: int) -> list[Tensor]:
    zeros = torch.zeros(count, dtype=torch.int64)
    indices: list[Tensor] = []
    for prior, shape in zip(priors, SHAPES, strict=True):
        state = prior.start(indices, zeros, zeros + 1, *shape)
        bits = [np.random.PCG64(n) for n in range(count)]
        indices.append(prior.wavefront(state, sampling.draw_with(prior, bits, sampling.Shaping())))
    return indices


@torch.inference_mode()
def usual_way(priors: list[Prior], indices: list[Tensor]) -> float:
    """Seconds if every position took a full pass, from a few of them; contexts once a level."""
    zero = torch.zeros(1, dtype=torch.int64)
    total = 0.0
    for level, (prior, (height, width)) in enumerate(zip(priors, SHAPES, strict=True)):
        before = indices[:level]
        states = [prior.start(before, zero, zero + 1, height, width) for _ in range(PASSES + 1)]
        passes = iter(states)

        def full_pass(prior: Prior = prior, level: int = level) -> None:
            prior.parallel(next(passes), indices[level])  # noqa: B023

        total += common.timed(full_pass, PASSES) * height * width
    return total


@click.command(cls=common.Benchmark)
@click.option("--model", metavar="ID|FILE", help="The packaged generator if not given.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
@common.json_option
def main(model: str | None, threads: int, runs: int, json_file: Path | None) -> None:
    """Measures how long samples take."""
    torch.set_num_threads(threads)
    model = model or default_generator()
    cases = [(1, 1.0), (64, 1.0), (1, 2.0), (64, 2.0)]
    results: dict[str, Any] = {"generator": [], "system": []}
    for count, guidance in track(cases, "generator", console=common.console):
        seconds = common.timed(
            partial(sampling.sample, model=model, classes=[97], count=count, guidance=guidance),
            runs,
        )
        results["generator"].append({"count": count, "guidance": guidance, "seconds": seconds})
    common.print_table(
        f"{model}, {threads} threads, median of {runs}",
        ["images at a time", "guidance", "seconds", "seconds an image"],
        [
            [
                each["count"],
                f"{each['guidance']:g}",
                f"{each['seconds']:.3f}",
                f"{each['seconds'] / each['count']:.4f}",
            ]
            for each in results["generator"]
        ],
    )
    for preset in track((None, SYSTEM), "256-pixel system", console=common.console):
        priors = random_priors(preset)
        one = common.timed(partial(draw, priors, 1), min(runs, 3))
        usual = usual_way(priors, draw(priors, 1))
        name = "default" if preset is None else "the paper's"
        results["system"].append({"sizes": name, "seconds": one, "usual_way": usual})
    common.print_table(
        f"Index maps of {SYSTEM}, 32 x 32 and 64 x 64, random weights, {threads} threads",
        ["priors' sizes", "seconds an image", "a full pass a position, extrapolated", "times"],
        [
            [
                each["sizes"],
                f"{each['seconds']:.2f}",
                f"{each['usual_way']:.0f}",
                f"{each['usual_way'] / each['seconds']:.0f}",
            ]
            for each in results["system"]
        ],
    )
    common.store(json_file, "sampling_speed", model, results)


if __name__ == "__main__":
    main()
