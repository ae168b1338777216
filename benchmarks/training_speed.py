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
from typing import Any, NamedTuple

import click
import common
import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

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


class Where(NamedTuple):
    """What is measured on.

    Attributes:
        device: Of the network.
        dtype: Of its layers there.
        busy: Whether other processes take the processor, so that its own seconds count.
    """

    device: torch.device
    dtype: torch.dtype
    busy: bool


class Clock:
    """Seconds between ticks, of the clock or of the processor."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.last = 0.0
        self.tick()

    def tick(self) -> float:
        """Seconds since the last tick; waits until the device has done what it was given."""
        if self.where.device.type == "cuda":
            torch.cuda.synchronize(self.where.device)
        now = time.process_time() if self.where.busy else time.perf_counter()
        elapsed, self.last = now - self.last, now
        return elapsed


def fastest(action: Callable[[], object], where: Where) -> float:
    """Seconds of the fastest run, after one to warm up."""
    clock = Clock(where)
    action()
    clock.tick()
    found = []
    for _ in range(RUNS):
        action()
        found.append(clock.tick())
    return min(found)


def matrix_speed(dtype: torch.dtype, where: Where) -> float:
    """FLOP/s of the best square matrix product."""
    found = []
    for size in SIZES:
        a, b = (torch.randn(size, size, device=where.device).to(dtype) for _ in range(2))
        found.append(2 * size**3 / fastest(partial(torch.mm, a, b), where))
    return max(found)


def convolution_speed(channels: int, batch: int, side: int, where: Where) -> float:
    """FLOP/s of a 3x3 convolution of [batch, channels, side, side], forward and backward."""
    layer = nn.Conv2d(channels, channels, 3, padding=1)
    layer.to(where.device, where.dtype, memory_format=torch.channels_last)
    features = torch.randn(batch, channels, side, side, device=where.device)
    features = features.to(where.dtype, memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn_like(features)

    def both_ways() -> None:
        features.grad = None
        layer.zero_grad(set_to_none=True)
        layer(features).backward(gradient)

    return flops(both_ways) / fastest(both_ways, where)


def flops(action: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        action()
    return int(counter.get_total_flops())


def parts(config: AutoencoderConfig, crop: int) -> dict[str, dict[str, int]]:
    """Width, side of the maps and FLOPs of the residual blocks of one crop, by part."""
    found = {}
    for n, level in enumerate(config.levels):
        found[f"level {n}"] = (
            level.channels,
            level.stride,
            level.analysis_blocks + level.synthesis_blocks,
        )
    if config.refine_channels:
        found["refinement"] = (config.refine_channels, config.refine_stride, config.refine_blocks)
    return {
        name: {
            "channels": channels,
            "side": crop // stride,
            "flops": blocks * 3 * 2 * (9 + 1) * channels**2 * (crop // stride) ** 2,
        }
        for name, (channels, stride, blocks) in found.items()
    }


def measure_steps(config: AutoencoderTraining, steps: int, where: Where) -> dict[str, Any]:
    """Seconds of the parts of the fastest step, and its FLOPs."""
    device = where.device
    torch.manual_seed(config.seed)
    autoencoder = Autoencoder(ARCHITECTURES[config.preset]).to(device).train()
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
        parts = (crops, *objective.conditions(config.batch, rng))
        return tuple(part.to(device) for part in parts)

    def move(optimizer: torch.optim.Optimizer, step: int) -> None:
        nn.utils.clip_grad_norm_(autoencoder.parameters(), config.largest_gradient)
        optimizer.step()
        average.update(autoencoder, step)

    optimizers = {
        name: make_optimizer(replace(config, optimizer=name), autoencoder) for name in OPTIMIZERS
    }
    chosen = optimizers[config.optimizer]
    found = []
    for step in track(range(steps + WARM_UP), "steps", console=common.console):
        clock = Clock(where)
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
    totals = [sum(times) for times in warm]
    best = min(range(steps), key=totals.__getitem__)
    # Of the same batch: images of low qualities leave codebooks out, so steps differ a little.
    counted = flops(lambda: objective(*draw(best + WARM_UP))[0].backward())
    return {
        "parameters": sum(each.numel() for each in autoencoder.parameters()),
        "seconds": dict(zip(PARTS, warm[best], strict=True)),
        "step": totals[best],
        "median_step": statistics.median(totals),
        "flops": counted,
        "optimizers": {
            name: {
                "seconds": fastest(partial(move, optimizer, steps), where),
                "flops": flops(optimizer.step),
            }
            for name, optimizer in optimizers.items()
        },
    }


@click.command(cls=common.Benchmark)
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
@click.option("--device", default="cpu", show_default=True, metavar="cpu|cuda")
@click.option(
    "--busy",
    is_flag=True,
    help="Other processes take the processor: count its seconds, of one thread.",
)
@common.json_option
def main(
    preset: str,
    images: tuple[str, ...],
    batch: int,
    crop: int,
    optimizer: str,
    steps: int,
    threads: int | None,
    device: str,
    busy: bool,
    json_file: Path | None,
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
    dtype = torch.bfloat16 if fast_bfloat16(torch.device(device)) else torch.float32
    where = Where(torch.device(device), dtype, busy)
    step = measure_steps(config, steps, where)
    convolutions = parts(architecture, crop)
    for part in track(convolutions.values(), "convolutions", console=common.console):
        part["speed"] = convolution_speed(part["channels"], batch, part["side"], where)
    results = {
        "preset": preset,
        "batch": batch,
        "crop": crop,
        "device": device,
        "dtype": name_of(dtype),
        "seconds_of": "processor" if busy else "clock",
        "optimizer": optimizer,
        **step,
        "speed": step["flops"] / step["step"],
        "speed_with_optimizer": (step["flops"] + step["optimizers"][optimizer]["flops"])
        / step["step"],
        "convolutions": convolutions,
        # All FLOPs in the time that the convolutions would take for their shares.
        "convolution_speed": statistics.harmonic_mean(
            [part["speed"] for part in convolutions.values()],
            [part["flops"] for part in convolutions.values()],
        ),
        "matrix_speed": {
            name_of(each): matrix_speed(each, where) for each in {torch.float32, dtype}
        },
    }
    show(results)
    common.store(json_file, "training_speed", None, results)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def show(results: dict[str, Any]) -> None:
    step, batch, crop = results["step"], results["batch"], results["crop"]
    rows = [
        [part, f"{seconds * 1e3:.1f}", f"{seconds / step:.0%}", ""]
        for part, seconds in results["seconds"].items()
    ]
    rows.append(["all", f"{step * 1e3:.1f}", "", f"{results['flops'] / 1e9:.1f}"])
    for name, each in results["optimizers"].items():
        rows.append(
            [
                f"optimizer, if {name}",
                f"{each['seconds'] * 1e3:.1f}",
                "",
                f"{each['flops'] / 1e9:.1f}",
            ]
        )
    common.print_table(
        f"{results['preset']}, {batch} crops of {crop} pixels, {results['device']}, "
        f"{torch.get_num_threads()} threads, {results['dtype']}; {results['seconds_of']}'s seconds",
        ["part of a step", "ms", "share", "GFLOP"],
        rows,
    )
    references = {f"matrix product, {name}": each for name, each in results["matrix_speed"].items()}
    references["its 3x3 convolutions alone"] = results["convolution_speed"]
    for name, part in results["convolutions"].items():
        shape = f"{part['channels']} channels, {part['side']} x {part['side']}"
        references[f"that of {name}: {shape}"] = part["speed"]
    speeds = (results["speed"], results["speed_with_optimizer"])
    common.print_table(
        "A step does {:.1f} GFLOP/s, {:.1f} with those of the optimizer".format(
            *(speed / 1e9 for speed in speeds)
        ),
        ["against", "GFLOP/s", "reached", "with the optimizer's"],
        [
            [name, f"{each / 1e9:.1f}", *(f"{speed / each:.0%}" for speed in speeds)]
            for name, each in references.items()
        ],
    )


if __name__ == "__main__":
    main()
