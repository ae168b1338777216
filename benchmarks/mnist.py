"""VQ-VAE, VQ-VAE-2 and HR-VQVAE on MNIST, trained for the same time and measured side by side.

Each trains from scratch at its paper's settings: the autoencoder, then a prior a level. What is in
the output folder already is not trained again.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

from vqcodec import files, image
from vqcodec.bench.command import Command, print_made, print_table
from vqcodec.bench.cost import timed
from vqcodec.drawing import sampling
from vqcodec.drawing.grid import grid
from vqcodec.metrics.classification_accuracy import accuracy
from vqcodec.metrics.classifier_training import ClassifierTraining, train_classifier
from vqcodec.metrics.likelihood import Likelihood, likelihood
from vqcodec.metrics.photo_sets import spread
from vqcodec.metrics.reconstruction import reconstruct
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
SAMPLES = 500  # of each digit, for the classification accuracy score
CLASSIFIER_STEPS = 600
TESTS = 10_000


@torch.inference_mode()
def usage(model: Model, pixels: Tensor) -> list[tuple[str, float]]:
    """How a level's code vectors are used by uint8 [N, S, S, 3].

    Returns:
        By level: used code vectors and all, of a linked level over all its codebooks; and two to
        the entropy in bits of the choices.
    """
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
        entropy = float(torch.special.entr(counts / counts.sum()).sum())
        found.append((f"{int((counts > 0).sum())}/{codebooks}", math.exp(entropy)))
    return found


def stacked(photos: list[Photo]) -> tuple[Tensor, Tensor]:
    pixels = torch.stack([torch.from_numpy(photo.pixels) for photo in photos])
    return pixels, torch.tensor([int(photo.label) for photo in photos])


def nll(found: Likelihood) -> str:
    return " ".join(f"{level.nll:.3f}" for level in found.levels)


def measure(
    weights: Path, training: list[Photo], testing: list[Photo], classifier: ClassifierTraining
) -> dict[str, object]:
    """A column of the table, row by row; a grid of samples goes beside the weights."""
    model = load(weights)
    draw = partial(sampling.sample, model=weights, classes=range(10), count=TIMED // 10 + 1)
    seconds = timed(draw, 1) * TIMED / (10 * (TIMED // 10 + 1))
    request = sampling.Request(classes=range(10), count=SAMPLES)
    drawn = list(sampling.draw(request, place=sampling.Place(weights)))
    sheet = [each.image for row in range(GRID_ROWS) for each in drawn[row::SAMPLES]]
    path = weights.with_suffix(".png")
    files.write_atomically(path, image.dump(grid(sheet, 10), "PNG"), force=True)
    train = likelihood(model, spread(training, len(testing)), side=SIDE)
    test = likelihood(model, testing, side=SIDE)
    pixels, labels = stacked(testing)
    used = usage(model, pixels)
    restored = torch.stack(list(reconstruct(model, testing, side=SIDE)))
    network = train_classifier(
        torch.stack([torch.from_numpy(each.image.pixels) for each in drawn]),
        torch.tensor([each.class_index for each in drawn]),
        10,
        classifier,
    )
    return {
        "MSE, train": f"{train.levels[-1].mse:.1f}",
        "MSE, test": f"{test.levels[-1].mse:.1f}",
        "nats a symbol, train": nll(train),
        "nats a symbol, test": nll(test),
        "bits a digit, test": f"{test.bpp * SIDE**2:.0f}",
        "comparisons a search": sum(
            level.codebooks[0][0] for level in model.autoencoder.config.levels
        ),
        "codes used": " ".join(of_all for of_all, _ in used),
        "perplexity": " ".join(f"{perplexity:.1f}" for _, perplexity in used),
        f"seconds for {TIMED} samples": f"{seconds:.2f}",
        "CAS": f"{accuracy(network, pixels, labels).top1:.2%}",
        "CAS, restored test digits": f"{accuracy(network, restored, labels).top1:.2%}",
    }


@click.command(cls=Command)
@click.argument("mnist", type=click.Path(path_type=Path))
@click.option("--out", "output", type=click.Path(path_type=Path), default=Path("runs/mnist"))
@click.option("--minutes", type=float, default=5.0, show_default=True, help="Of each system.")
def main(mnist: Path, output: Path, minutes: float) -> None:
    """Trains the three systems on MNIST and compares them."""
    training = read_photos(mnist, SIDE, split="train")
    testing = spread(read_photos(mnist, SIDE, split="validation"), TESTS)
    settings = ClassifierTraining(steps=CLASSIFIER_STEPS, mirror=False)
    real = train_classifier(*stacked(training), 10, settings)
    baseline = accuracy(real, *stacked(testing)).top1
    columns = []
    for preset in SYSTEMS:
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
        columns.append(measure(weights, training, testing, settings))
    print_table(
        f"MNIST, {minutes:g} minutes each; a classifier trained on the real digits for as many "
        f"steps: {baseline:.2%}",
        ["", *SYSTEMS],
        [[name, *(column[name] for column in columns)] for name in columns[0]],
    )
    print_made(None)


if __name__ == "__main__":
    main()
