"""VQ-VAE, VQ-VAE-2 and HR-VQVAE on MNIST, trained for the same time and measured side by side.

    python benchmarks/mnist.py mnist.npz --minutes 5 --out runs/mnist

Each system trains from scratch at its paper's settings: the autoencoder, then a prior a level. The
classification accuracy score trains a small classifier on samples alone and tests it on the real
test digits. What is in the output folder already is not trained again.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import common
import torch
from torch import Tensor

from vqcodec import files, image
from vqcodec.drawing import sampling
from vqcodec.drawing.grid import grid
from vqcodec.metrics.classification import ClassifierTraining, accuracy, train_classifier
from vqcodec.metrics.likelihood import Likelihood, likelihood
from vqcodec.metrics.pictures import spread
from vqcodec.models.vqvae import VQVAEConfig
from vqcodec.photos import Photo, read_photos
from vqcodec.training.settings import SystemTraining, resolve
from vqcodec.training.system import train
from vqcodec.weights_file import Model, load

SYSTEMS = ("vqvae-mnist", "vqvae2-mnist", "hrvqvae-mnist")
SIDE = 32
GRID_ROWS = 8
TIMED = 64
AT_ONCE = 500


@dataclass(frozen=True)
class Usage:
    """How a level's code vectors are used.

    Attributes:
        vectors: Code vectors there are; of a linked level, over all its codebooks.
        used: Those that the test digits use.
        perplexity: Two to the entropy in bits of the choices.
    """

    vectors: int
    used: int
    perplexity: float


@dataclass(frozen=True)
class Result:
    """What was measured of a system.

    Attributes:
        preset: Its name.
        bytes: Of its weights file.
        train: On training digits.
        test: On test digits.
        usage: Per level, on test digits.
        comparisons: Distances computed to find a position's codes.
        seconds: To draw 64 digits, warm.
        cas: Share of the real test digits that a classifier trained on samples alone gets right.
        cas_restored: The same of the test digits' reconstructions.
    """

    preset: str
    bytes: int
    train: Likelihood
    test: Likelihood
    usage: list[Usage]
    comparisons: int
    seconds: float
    cas: float
    cas_restored: float


@torch.inference_mode()
def usage(model: Model, pixels: Tensor) -> list[Usage]:
    config = model.autoencoder.config
    assert isinstance(config, VQVAEConfig)
    parts = [
        model.autoencoder.quantize(some, torch.zeros(len(some), dtype=torch.int64))[0]
        for some in pixels.split(AT_ONCE)
    ]
    indices = [torch.cat(maps) for maps in zip(*parts, strict=True)]
    found = []
    path = torch.zeros(1, dtype=torch.int64)
    codebooks = 1
    for level, maps in zip(config.levels, indices, strict=True):
        size = level.codebooks[0][0]
        # In a linked codebook the codes of the coarser levels are part of what is chosen.
        path = path * size + maps if config.linked else maps
        codebooks = codebooks * size if config.linked else size
        counts = torch.bincount(path.flatten(), minlength=codebooks).double()
        share = counts[counts > 0] / counts.sum()
        entropy = float(-(share * share.log()).sum())
        found.append(Usage(codebooks, len(share), math.exp(entropy)))
    return found


def stacked(photos: list[Photo]) -> tuple[Tensor, Tensor]:
    pixels = torch.stack([torch.from_numpy(photo.pixels) for photo in photos])
    return pixels, torch.tensor([int(photo.label) for photo in photos])


def measure(
    preset: str,
    weights: Path,
    training: list[Photo],
    testing: list[Photo],
    samples: int,
    classifier: ClassifierTraining,
) -> Result:
    model = load(weights)
    sampling.sample(model=weights, classes=range(2), count=1)
    start = time.perf_counter()
    sampling.sample(model=weights, classes=range(10), count=TIMED // 10 + 1)
    seconds = (time.perf_counter() - start) * TIMED / (10 * (TIMED // 10 + 1))
    drawn = list(sampling.draw(model=weights, classes=range(10), count=samples))
    sheet = [each.image for row in range(GRID_ROWS) for each in drawn[row::samples]]
    path = weights.with_name(f"{preset}.png")
    files.write_atomically(path, image.dump(grid(sheet, 10), "PNG"), force=True)
    pixels, labels = stacked(testing)
    fake = torch.stack([torch.from_numpy(each.image.pixels) for each in drawn])
    fake_labels = torch.tensor([each.class_index for each in drawn])
    network = train_classifier(fake, fake_labels, 10, classifier)
    config = model.autoencoder.config
    return Result(
        preset=preset,
        bytes=weights.stat().st_size,
        train=likelihood(model, spread(training, len(testing)), side=SIDE),
        test=likelihood(model, testing, side=SIDE),
        usage=usage(model, pixels),
        comparisons=sum(level.codebooks[0][0] for level in config.levels),
        seconds=seconds,
        cas=accuracy(network, pixels, labels).top1,
        cas_restored=accuracy(network, common.restored(model, testing, SIDE), labels).top1,
    )


@click.command(cls=common.Benchmark)
@click.argument("mnist", type=click.Path(path_type=Path))
@click.option("--out", "output", type=click.Path(path_type=Path), default=Path("runs/mnist"))
@click.option("--minutes", type=float, default=5.0, show_default=True, help="Of each system.")
@click.option("--samples", default=500, show_default=True, help="Of each digit, for CAS.")
@click.option("--steps", default=600, show_default=True, help="Of the classifiers of CAS.")
@click.option("--tests", default=10_000, show_default=True, help="Test digits.")
@click.option("--system", "systems", multiple=True, type=click.Choice(SYSTEMS), default=SYSTEMS)
@common.json_option
def main(
    mnist: Path,
    output: Path,
    minutes: float,
    samples: int,
    steps: int,
    tests: int,
    systems: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Trains the three systems on MNIST and compares them."""
    training = read_photos(mnist, SIDE, split="train")
    testing = spread(read_photos(mnist, SIDE, split="validation"), tests)
    settings = ClassifierTraining(steps=steps, mirror=False)
    real = train_classifier(*stacked(training), 10, settings)
    baseline = accuracy(real, *stacked(testing)).top1
    results = []
    for preset in systems:
        weights = train(
            resolve(
                SystemTraining,
                output=output / preset,
                sources=[(mnist, 1.0)],
                model_id=preset,
                preset=preset,
                crop=SIDE,
                minutes=minutes,
                classes="folders",
                mirror=False,
            )
        )
        results.append(measure(preset, weights, training, testing, samples, settings))
    common.print_table(
        f"MNIST, {minutes:g} minutes each; a classifier trained on the real digits for as many "
        f"steps: {baseline:.2%}",
        ["", *systems],
        [
            ["MSE, train", *(f"{each.train.levels[-1].mse:.1f}" for each in results)],
            ["MSE, test", *(f"{each.test.levels[-1].mse:.1f}" for each in results)],
            ["nats a symbol, train", *(nll(each.train) for each in results)],
            ["nats a symbol, test", *(nll(each.test) for each in results)],
            ["bits a digit, test", *(f"{each.test.bpp * SIDE**2:.0f}" for each in results)],
            ["comparisons a search", *(each.comparisons for each in results)],
            ["codes used", *(" ".join(f"{u.used}/{u.vectors}" for u in r.usage) for r in results)],
            ["perplexity", *(" ".join(f"{u.perplexity:.1f}" for u in r.usage) for r in results)],
            [f"seconds for {TIMED} samples", *(f"{each.seconds:.2f}" for each in results)],
            ["CAS", *(f"{each.cas:.2%}" for each in results)],
            ["CAS, restored test digits", *(f"{each.cas_restored:.2%}" for each in results)],
        ],
    )
    found = {"baseline": baseline, "systems": [asdict(each) for each in results]}
    common.store(json_file, "mnist", str(weights), found)


def nll(found: Likelihood) -> str:
    return " ".join(f"{level.nll:.3f}" for level in found.levels)


if __name__ == "__main__":
    main()
