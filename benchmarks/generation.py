"""How good a class-conditional generator is: the measurements of Razavi et al. 2019, section 4.

    python benchmarks/generation.py tiny-imagenet.tar.xz --out runs/generation

Images lie in a folder for each class, named by the model's keys; every eleventh is kept apart for
validation, as in training. Measured: likelihoods and errors on both parts (table 1), the
classification accuracy score (table 2), and what keeping only the samples that a classifier likes
best does to precision and recall (figure 7). Samples are kept in the output folder, and not drawn
again if they are there.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.cli.console import progress
from vqcodec.drawing import sampling
from vqcodec.errors import CodecError
from vqcodec.metrics.classification_accuracy import Accuracy, accuracy
from vqcodec.metrics.classifier_training import ClassifierTraining, train_classifier
from vqcodec.metrics.classifiers import Classifier, load_classifier
from vqcodec.metrics.likelihood import likelihood
from vqcodec.metrics.photo_sets import spread, squares
from vqcodec.metrics.realism import (
    classifier_score,
    frechet_distance,
    judged,
    precision_and_recall,
)
from vqcodec.metrics.reconstruction import reconstruct
from vqcodec.photos import Photo, in_split, read_photos
from vqcodec.registry import default_generator
from vqcodec.weights_file import Model, load

KEEPS = (1.0, 0.5, 0.25)
PARTS = ("likelihood", "cas", "keep")


def samples(
    path: Path, model: str, classes: Sequence[int], count: int, guidance: float, temperature: float
) -> tuple[Tensor, Tensor, float]:
    """Samples uint8 [N, S, S, 3], class by class, their classes, and the seconds they took."""
    if not path.exists():
        start = time.perf_counter()
        drawn = sampling.draw(
            sampling.Request(classes=classes, count=count),
            sampling.Shaping(temperature, guidance=guidance),
            sampling.Place(model),
        )
        found = [
            (each.image.pixels, each.class_index)
            for each in tracked(drawn, "samples", len(classes) * count)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {
            "pixels": torch.from_numpy(np.stack([pixels for pixels, _ in found])),
            "classes": torch.tensor([label for _, label in found]),
            "seconds": torch.tensor(time.perf_counter() - start),
        }
        save_file(tensors, path)
    tensors = load_file(path)
    return tensors["pixels"], tensors["classes"], float(tensors["seconds"])


@dataclass
class Data:
    """Images of the classes that a model and a source share.

    Attributes:
        classes: The model's indices of them.
        train: Photos of the training split.
        validation: uint8 [N, S, S, 3].
        photos: The validation split, as photos.
        truth: Places in `classes` of the validation images, int64 [N].
        restored: The validation images after a way through the autoencoder.
    """

    classes: list[int]
    train: list[Photo]
    photos: list[Photo]
    validation: Tensor
    truth: Tensor
    restored: Tensor


def read(source: Path, model: Model, side: int) -> Data:
    by_label: dict[str, list[Photo]] = defaultdict(list)
    for photo in read_photos(source, side, short_side=side):
        by_label[photo.label].append(photo)
    shared = [n for n, each in enumerate(model.classes) if each.key in by_label]

    def split(name: str) -> list[Photo]:
        return [
            photo
            for n in shared
            for place, photo in enumerate(by_label[model.classes[n].key])
            if in_split(place, name)
        ]

    photos = split("validation")
    found = tracked(reconstruct(model, photos, side=side), "reconstructions", len(photos))
    return Data(
        classes=shared,
        train=split("train"),
        photos=photos,
        validation=squares(photos, side),
        truth=places(photos, model, shared),
        restored=torch.stack([after for *_, after in found]),
    )


def places(photos: Sequence[Photo], model: Model, classes: Sequence[int]) -> Tensor:
    """Places in `classes` of photos, int64 [N]."""
    place = {model.classes[n].key: k for k, n in enumerate(classes)}
    return torch.tensor([place[photo.label] for photo in photos])


def measure_likelihood(model: Model, data: Data, side: int, count: int) -> None:
    train = likelihood(model, spread(data.train, count), side=side)
    validation = likelihood(model, spread(data.photos, count), side=side)
    rows: list[list[object]] = []
    for n, (a, b) in enumerate(zip(train.levels, validation.levels, strict=True)):
        gap = b.nll / a.nll - 1
        rows.append(
            [n, f"{a.nll:.4f}", f"{b.nll:.4f}", f"{gap:+.2%}", f"{a.mse:.1f}", f"{b.mse:.1f}"]
        )
    gap = validation.bpp / train.bpp - 1
    rows.append(["all, bpp", f"{train.bpp:.4f}", f"{validation.bpp:.4f}", f"{gap:+.2%}", "", ""])
    print_table(
        f"Nats a symbol, and MSE from this and all coarser levels: {train.images} training and "
        f"{validation.images} validation images",
        ["level", "nats, train", "validation", "gap", "MSE, train", "validation"],
        rows,
    )


def measure_cas(
    model: Model, data: Data, side: int, fake: Tensor, labels: Tensor, steps: int
) -> None:
    sets = {
        "real images": (squares(data.train, side), places(data.train, model, data.classes)),
        "samples": (fake, torch.searchsorted(torch.tensor(data.classes), labels)),
    }
    found: dict[str, tuple[int, Accuracy, Accuracy]] = {}
    for what, (pixels, own) in sets.items():
        with progress(f"classifier on {what}") as advance:
            network = train_classifier(
                pixels, own, len(data.classes), ClassifierTraining(steps=steps), advance
            )
        found[what] = (
            len(pixels),
            accuracy(network, data.validation, data.truth),
            accuracy(network, data.restored, data.truth),
        )
    real = found["real images"][1].top1

    def cells(score: Accuracy) -> list[str]:
        return [f"{score.top1:.2%} / {score.top5:.2%}", f"{score.top1 / real:.1%}"]

    print_table(
        f"CAS: classifiers trained for {steps} steps, top-1 / top-5 on {len(data.truth)} "
        "validation images of the same classes",
        ["trained on", "images", "real", "share", "reconstructed", "share"],
        [[what, count, *cells(a), *cells(b)] for what, (count, a, b) in found.items()],
    )


def kept(probabilities: Tensor, candidates: int, wanted: int) -> Tensor:
    """Of the first candidates of every class, the likeliest: numbers of rows.

    Args:
        probabilities: Of the own class, [classes, samples of each].
        candidates: How many to choose from.
        wanted: How many to choose.
    """
    best = probabilities[:, :candidates].topk(wanted, 1).indices.sort(1).values
    first = torch.arange(len(probabilities))[:, None] * probabilities.shape[1]
    return (first + best).flatten()


def columns(classifier: Classifier, model: Model, classes: Sequence[int]) -> Tensor:
    """Columns of a classifier for classes of a model, int64 [N].

    Raises:
        CodecError: it does not know them.
    """
    if classifier.labels is not None:
        keys = [model.classes[n].key for n in classes]
        if not set(keys) <= set(classifier.labels):
            lacking = len(set(keys) - set(classifier.labels))
            raise CodecError(f"{classifier.name} does not know {lacking} classes; use another")
        return torch.tensor([classifier.labels.index(key) for key in keys])
    if classifier.classes != len(model.classes):
        counts = f"{classifier.classes} classes, {model.model_id} has {len(model.classes)}"
        raise CodecError(f"{classifier.name} has {counts}; use one of the same classes")
    return torch.tensor(classes)


def measure_keep(model: Model, data: Data, fake: Tensor, candidates: int, features: str) -> None:
    classifier = load_classifier(features)
    column = columns(classifier, model, data.classes)
    some = fake.view(len(data.classes), -1, *fake.shape[1:])[:, :candidates].flatten(0, 1)
    wanted = round(candidates * min(KEEPS))
    with progress("judging") as advance:
        (fakes, fake_rows), (reals, real_rows), (agains, again_rows) = (
            judged(classifier, [Photo(each.numpy(), "") for each in pixels], stage, advance)
            for stage, pixels in (
                ("samples", some),
                ("real images", data.validation),
                ("reconstructions", data.restored),
            )
        )
    own = column.repeat_interleave(candidates)
    probabilities = fakes.gather(1, own[:, None]).view(-1, candidates)
    right = fakes.argmax(1) == own

    def compared(keep: float) -> list[object]:
        chosen = kept(probabilities, round(wanted / keep), wanted)
        distances = [frechet_distance(rows, fake_rows[chosen]) for rows in (real_rows, again_rows)]
        shares = [
            *precision_and_recall(real_rows, fake_rows[chosen]),
            float(right[chosen].double().mean()),
        ]
        score = classifier_score(fakes[chosen]).mean
        return [
            f"{keep:g}",
            len(chosen),
            *(f"{each:.1f}" for each in distances),
            f"{score:.2f}",
            *(f"{each:.3f}" for each in shares),
        ]

    truth = column[data.truth]
    known, again = (float((each.argmax(1) == truth).double().mean()) for each in (reals, agains))
    print_table(
        f"Samples against {len(truth)} validation images, by the features of {features}; it "
        f"recognizes {known:.1%} of these, {again:.1%} of their reconstructions, whose Frechet "
        f"distance is {frechet_distance(real_rows, again_rows):.1f}",
        ["keep", "samples", "Frechet", "Frechet*", "score", "precision", "recall", "recognized"],
        [compared(keep) for keep in KEEPS],
    )


@click.command(cls=Command)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--model", metavar="ID|FILE", help="The packaged generator if not given.")
@click.option("--out", "output", type=click.Path(path_type=Path), default=Path("runs/generation"))
@click.option("--count", default=200, show_default=True, help="Samples of each class, for CAS.")
@click.option("--judged", "candidates", default=40, show_default=True, help="Of each, for keep.")
@click.option("--likelihoods", default=4000, show_default=True, help="Images of either split.")
@click.option("--steps", default=2000, show_default=True, help="Of CAS's classifiers.")
@click.option("--guidance", default=1.0, show_default=True)
@click.option("--temperature", default=1.0, show_default=True)
@click.option("--features", default="efficientnet-lite0", show_default=True)
@click.option("--part", "parts", multiple=True, default=PARTS, type=click.Choice(PARTS))
def main(
    source: Path,
    model: str | None,
    output: Path,
    count: int,
    candidates: int,
    likelihoods: int,
    steps: int,
    guidance: float,
    temperature: float,
    features: str,
    parts: tuple[str, ...],
) -> None:
    """Measures the generator on the classes of SOURCE, a folder or archive of class folders."""
    model = model or default_generator()
    loaded = load(model)
    if loaded.side is None:
        raise CodecError(f"{loaded.model_id} draws no classes; name a model that does")
    data = read(source, loaded, loaded.side)
    if "likelihood" in parts:
        measure_likelihood(loaded, data, loaded.side, likelihoods)
    if "cas" in parts or "keep" in parts:
        name = f"samples-{loaded.sha256[:8]}-{count}-{guidance:g}-{temperature:g}.safetensors"
        fake, labels, seconds = samples(
            output / name, model, data.classes, count, guidance, temperature
        )
        click.echo(f"{len(fake)} samples: {1000 * seconds / len(fake):.1f} ms each")
    if "cas" in parts:
        measure_cas(loaded, data, loaded.side, fake, labels, steps)
    if "keep" in parts:
        measure_keep(loaded, data, fake, min(candidates, count), features)
    print_made(model)


if __name__ == "__main__":
    main()
