"""How much of the machine a step of the autoencoder's training uses.

    OMP_NUM_THREADS=2 python benchmarks/training_speed.py --images photos.tar --threads 2

FLOPs are those of matrix products and convolutions, as PyTorch counts them; everything else
(activations, choices of codes, norms, averages) is time without FLOPs. The FLOP/s of a step are
compared with the best matrix product here, and with 3x3 convolutions of the network's own shapes
alone, forward and backward, channels-last. Every time is that of the fastest run, which other
processes have disturbed least.
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

ARCHITECTURES = {
    name: preset.config
    for name, preset in PRESETS.items()
    if isinstance(preset.config, AutoencoderConfig)
}
OPTIMIZERS = ("adamw", "muon")
SIZES = (512, 1024, 2048)
PARTS = ("data", "forward", "backward", "optimizer")
WARM_UP = 2
RUNS = 7


class Clock:
    """Seconds between ticks, of the clock or of the processor.

    Args:
        busy: Whether other processes take the processor, so that its own seconds count.
    """

    def __init__(self, busy: bool) -> None:
        self.now = time.process_time if busy else time.perf_counter
        self.last = self.now()

    def tick(self) -> float:
        """Seconds since the last tick."""
        last, self.last = self.last, self.now()
        return self.last - last


def fastest(action: Callable[[], object], busy: bool) -> float:
    """Seconds of the fastest run, after one to warm up."""
    action()
    clock = Clock(busy)
    found = []
    for _ in range(RUNS):
        action()
        found.append(clock.tick())
    return min(found)


def matrix_speed(dtype: torch.dtype, busy: bool) -> float:
    """FLOP/s of the best square matrix product."""
    found = []
    for size in SIZES:
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        found.append(2 * size**3 / fastest(partial(torch.mm, a, b), busy))
    return max(found)


def convolution_speed(part: Part, batch: int, dtype: torch.dtype, busy: bool) -> float:
    """FLOP/s of a 3x3 convolution of a part's maps, forward and backward."""
    layer = nn.Conv2d(part.channels, part.channels, 3, padding=1)
    layer.to(dtype=dtype, memory_format=torch.channels_last)
    features = torch.randn(batch, part.channels, part.side, part.side)
    features = features.to(dtype, memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn_like(features)

    def both_ways() -> None:
        features.grad = None
        layer.zero_grad(set_to_none=True)
        layer(features).backward(gradient)

    return flops(both_ways) / fastest(both_ways, busy)


def flops(action: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        action()
    return int(counter.get_total_flops())


class Part(NamedTuple):
    """The residual blocks of a part of the network, for one crop.

    Attributes:
        channels: Width.
        side: Of the maps.
        flops: Of all blocks, forward and backward.
    """

    channels: int
    side: int
    flops: int


def parts(config: AutoencoderConfig, crop: int) -> dict[str, Part]:
    """The parts of a network."""
    found = {
        f"level {n}": (level.channels, level.stride, level.analysis_blocks + level.synthesis_blocks)
        for n, level in enumerate(config.levels)
    }
    if config.refine_channels:
        found["refinement"] = (config.refine_channels, config.refine_stride, config.refine_blocks)
    return {
        name: Part(channels, side, blocks * 3 * 2 * (9 + 1) * channels**2 * side**2)
        for name, (channels, stride, blocks) in found.items()
        for side in [crop // stride]
    }


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


def measure_steps(config: AutoencoderTraining, steps: int, busy: bool) -> Step:
    """Runs some steps of a training."""
    torch.manual_seed(config.seed)
    autoencoder = Autoencoder(ARCHITECTURES[config.preset]).train()
    objective = RateDistortion(autoencoder, config)
    average = Average(autoencoder, config.average_decay)
    sampler = CropSampler(config) if config.sources else None

    def draw(step: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng([config.seed, step])
        shape = (config.batch, config.crop, config.crop, 3)
        if sampler is None:
            crops = torch.from_numpy(rng.integers(256, size=shape, dtype=np.uint8))
        else:
            crops, _ = sampler.draw(config.batch, [config.seed, step])
        return (crops, *objective.conditions(config.batch, rng))

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
        clock = Clock(busy)
        batch = draw(step)
        times = [clock.tick()]
        loss, _ = objective(*batch)
        times.append(clock.tick())
        chosen.zero_grad(set_to_none=True)
        loss.backward()
        times.append(clock.tick())
        move(chosen, step)
        found.append([*times, clock.tick()])
    warm = found[WARM_UP:]
    best = min(range(steps), key=lambda n: sum(warm[n]))
    return Step(
        seconds=dict(zip(PARTS, warm[best], strict=True)),
        # Of the same batch: images of low qualities leave codebooks out, so steps differ a little.
        flops=flops(lambda: objective(*draw(best + WARM_UP))[0].backward()),
        optimizers={
            name: (fastest(partial(move, optimizer, steps), busy), flops(optimizer.step))
            for name, optimizer in optimizers.items()
        },
    )


@click.command(cls=Command)
@click.option(
    "--preset", type=click.Choice(sorted(ARCHITECTURES)), default="wide", show_default=True
)
@click.option(
    "--images", metavar="PATH", multiple=True, help="As of `vqcodec train`; random pixels if none."
)
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--crop", type=click.IntRange(min=1), default=128, show_default=True)
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="muon", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="PyTorch's choice if not given.")
@click.option(
    "--busy",
    is_flag=True,
    help="Other processes take the processor: count its seconds, of one thread.",
)
def main(
    preset: str,
    images: tuple[str, ...],
    batch: int,
    crop: int,
    optimizer: str,
    steps: int,
    threads: int | None,
    busy: bool,
) -> None:
    """Measures the seconds and the FLOP/s of a training step of the codec's own autoencoders."""
    if threads or busy:
        torch.set_num_threads(1 if busy else threads)
    architecture = ARCHITECTURES[preset]
    if crop % architecture.strides[0]:
        raise click.ClickException(f"the crop must be a multiple of {architecture.strides[0]}")
    config = AutoencoderTraining(
        output=Path(),
        sources=[parse_source(each) for each in images],
        preset=preset,
        batch=batch,
        crop=crop,
        optimizer=optimizer,
    )
    dtype = torch.bfloat16 if fast_bfloat16(torch.device("cpu")) else torch.float32
    step = measure_steps(config, steps, busy)
    total = sum(step.seconds.values())
    print_table(
        f"{preset}, {batch} crops of {crop} pixels, {name_of(dtype)}; "
        f"{'processor' if busy else 'clock'}'s seconds",
        ["part of a step", "ms", "share", "GFLOP"],
        [
            *(
                [part, f"{seconds * 1e3:.1f}", f"{seconds / total:.0%}", None]
                for part, seconds in step.seconds.items()
            ),
            ["all", f"{total * 1e3:.1f}", None, f"{step.flops / 1e9:.1f}"],
            *(
                [f"optimizer, if {name}", f"{seconds * 1e3:.1f}", None, f"{count / 1e9:.1f}"]
                for name, (seconds, count) in step.optimizers.items()
            ),
        ],
    )
    speeds = [(step.flops + more) / total for more in (0, step.optimizers[optimizer][1])]
    print_table(
        "A step does {:.1f} GFLOP/s, {:.1f} with those of the optimizer".format(
            *(speed / 1e9 for speed in speeds)
        ),
        ["against", "GFLOP/s", "reached", "with the optimizer's"],
        [
            [name, f"{each / 1e9:.1f}", *(f"{speed / each:.0%}" for speed in speeds)]
            for name, each in references(parts(architecture, crop), batch, dtype, busy).items()
        ],
    )
    print_made(None)


def references(
    found: dict[str, Part], batch: int, dtype: torch.dtype, busy: bool
) -> dict[str, float]:
    """FLOP/s that a network of these parts could reach, by what it is compared with."""
    speeds = [
        convolution_speed(part, batch, dtype, busy)
        for part in tracked(found.values(), "convolutions")
    ]
    return {
        **{
            f"matrix product, {name_of(each)}": matrix_speed(each, busy)
            for each in {torch.float32, dtype}
        },
        # All FLOPs in the time that the convolutions would take for their shares.
        "its 3x3 convolutions alone": statistics.harmonic_mean(
            speeds, [part.flops for part in found.values()]
        ),
        **{
            f"that of {name}: {part.channels} channels, {part.side} x {part.side}": speed
            for (name, part), speed in zip(found.items(), speeds, strict=True)
        },
    }


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main()
