"""How much of the machine a step of the autoencoder's training uses; see README.md beside it.

    OMP_NUM_THREADS=2 python benchmarks/training_speed.py --images photos.tar

Every time is that of the fastest run, which other processes have disturbed least.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.models.autoencoder import Autoencoder, AutoencoderConfig
from vqcodec.photos import parse_source
from vqcodec.training.checkpoint import Average
from vqcodec.training.crops import CropSampler
from vqcodec.training.hvq import RateDistortion
from vqcodec.training.optimizer import make_optimizer
from vqcodec.training.presets import PRESETS
from vqcodec.training.processes import fast_bfloat16
from vqcodec.training.settings import AutoencoderTraining

PRESET, BATCH, CROP = "wide", 8, 128
OPTIMIZERS = ("muon", "adamw")  # the first one trains
SIZES = (512, 1024, 2048)
PARTS = ("data", "forward", "backward", "optimizer")
WARM_UP = 2
RUNS = 7

Clock = Callable[[], float]
"""Seconds now, of the clock or of the processor."""


def fastest(action: Callable[[], object], clock: Clock) -> float:
    """Seconds of the fastest run, after one to warm up."""
    action()
    found = []
    for _ in range(RUNS):
        start = clock()
        action()
        found.append(clock() - start)
    return min(found)


def matrix_speed(dtype: torch.dtype, clock: Clock) -> float:
    """FLOP/s of the best square matrix product."""
    found = []
    for size in SIZES:
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        found.append(2 * size**3 / fastest(partial(torch.mm, a, b), clock))
    return max(found)


def convolution_speed(channels: int, side: int, dtype: torch.dtype, clock: Clock) -> float:
    """FLOP/s of a 3x3 convolution of [BATCH, channels, side, side], forward and backward."""
    layer = nn.Conv2d(channels, channels, 3, padding=1)
    layer.to(dtype=dtype, memory_format=torch.channels_last)
    features = torch.randn(BATCH, channels, side, side)
    features = features.to(dtype, memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn_like(features)

    def both_ways() -> None:
        features.grad = None
        layer.zero_grad(set_to_none=True)
        layer(features).backward(gradient)

    return flops(both_ways) / fastest(both_ways, clock)


def convolutions_speed(config: AutoencoderConfig, dtype: torch.dtype, clock: Clock) -> float:
    """FLOP/s of 3x3 convolutions of a network's shapes, by the FLOPs of its residual blocks."""
    parts = [
        (level.channels, level.stride, level.analysis_blocks + level.synthesis_blocks)
        for level in config.levels
    ]
    if config.refine_channels:
        parts.append((config.refine_channels, config.refine_stride, config.refine_blocks))
    speeds = [
        convolution_speed(channels, CROP // stride, dtype, clock)
        for channels, stride, _ in tracked(parts, "convolutions")
    ]
    weights = [blocks * (channels * (CROP // stride)) ** 2 for channels, stride, blocks in parts]
    # All FLOPs in the time that the convolutions would take for their shares.
    return statistics.harmonic_mean(speeds, weights)


def flops(action: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        action()
    return int(counter.get_total_flops())


class Step(NamedTuple):
    """What a training step takes.

    Attributes:
        seconds: Of the fastest one, by part.
        flops: Of its forward and backward pass.
        optimizers: Name -> seconds and FLOPs of an optimizer's part.
    """

    seconds: dict[str, float]
    flops: int
    optimizers: dict[str, tuple[float, int]]


def measure_steps(
    architecture: AutoencoderConfig, config: AutoencoderTraining, steps: int, clock: Clock
) -> Step:
    """Runs some steps of a training."""
    torch.manual_seed(config.seed)
    autoencoder = Autoencoder(architecture).train()
    objective = RateDistortion(autoencoder, config)
    average = Average(autoencoder, config.average_decay)
    sampler = CropSampler(config)

    def draw(step: int) -> tuple[Tensor, ...]:
        seed = [config.seed, step]
        crops, _ = sampler.draw(config.batch, seed)
        return (crops, *objective.conditions(config.batch, np.random.default_rng(seed)))

    def move(optimizer: torch.optim.Optimizer, step: int) -> None:
        nn.utils.clip_grad_norm_(autoencoder.parameters(), config.largest_gradient)
        optimizer.step()
        average.update(autoencoder, step)

    optimizers = {
        name: make_optimizer(replace(config, optimizer=name), autoencoder) for name in OPTIMIZERS
    }
    chosen = optimizers[config.optimizer]
    found = []
    for step in tracked(range(steps + WARM_UP), "steps"):
        times = [clock()]
        batch = draw(step)
        times.append(clock())
        loss, _ = objective(*batch)
        times.append(clock())
        chosen.zero_grad(set_to_none=True)
        loss.backward()
        times.append(clock())
        move(chosen, step)
        found.append(np.diff([*times, clock()]).tolist())
    warm = found[WARM_UP:]
    best = min(range(steps), key=lambda n: sum(warm[n]))
    return Step(
        seconds=dict(zip(PARTS, warm[best], strict=True)),
        # Of the same batch: images of low qualities leave codebooks out, so steps differ a little.
        flops=flops(lambda: objective(*draw(best + WARM_UP))[0].backward()),
        optimizers={
            name: (fastest(partial(move, optimizer, steps), clock), flops(optimizer.step))
            for name, optimizer in optimizers.items()
        },
    )


@click.command(cls=Command)
@click.option("--images", metavar="PATH", multiple=True, required=True, help="Of `vqcodec train`.")
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--busy",
    is_flag=True,
    help="Other processes take the processor: count its seconds, of one thread.",
)
def main(images: tuple[str, ...], steps: int, busy: bool) -> None:
    """Measures the seconds and the FLOP/s of a training step of the codec's own autoencoder."""
    clock = time.process_time if busy else time.perf_counter
    if busy:
        torch.set_num_threads(1)
    architecture = PRESETS[PRESET].config
    assert isinstance(architecture, AutoencoderConfig)
    config = AutoencoderTraining(
        output=Path(),
        sources=[parse_source(each) for each in images],
        preset=PRESET,
        batch=BATCH,
        crop=CROP,
        optimizer=OPTIMIZERS[0],
    )
    dtype = torch.bfloat16 if fast_bfloat16(torch.device("cpu")) else torch.float32
    step = measure_steps(architecture, config, steps, clock)
    total = sum(step.seconds.values())
    print_table(
        f"{PRESET}, {BATCH} crops of {CROP} pixels, {dtype}; "
        f"{'processor' if busy else 'clock'}'s seconds",
        ["part of a step", "ms", "GFLOP"],
        [
            *([part, f"{seconds * 1e3:.1f}", None] for part, seconds in step.seconds.items()),
            ["all", f"{total * 1e3:.1f}", f"{step.flops / 1e9:.1f}"],
            *(
                [f"optimizer, if {name}", f"{seconds * 1e3:.1f}", f"{count / 1e9:.1f}"]
                for name, (seconds, count) in step.optimizers.items()
            ),
        ],
    )
    speeds = [(step.flops + more) / total for more in (0, step.optimizers[config.optimizer][1])]
    references = {
        f"matrix product, {each}": matrix_speed(each, clock) for each in {dtype, torch.float32}
    }
    references["its 3x3 convolutions alone"] = convolutions_speed(architecture, dtype, clock)
    print_table(
        "A step does {:.1f} GFLOP/s, {:.1f} with those of the optimizer".format(
            *(speed / 1e9 for speed in speeds)
        ),
        ["against", "GFLOP/s", "reached", "with the optimizer's"],
        [
            [name, f"{each / 1e9:.1f}", *(f"{speed / each:.0%}" for speed in speeds)]
            for name, each in references.items()
        ],
    )
    print_made(None)


if __name__ == "__main__":
    main()
