"""How many images a classifier recognizes: of samples, of real images and of their reconstructions.

    python benchmarks/recognized.py drawn/ --features efficientnet-lite0

Images lie in a folder for each class, named by the model's keys.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from vqcodec.bench.command import Command, print_made, print_table
from vqcodec.cli.console import progress
from vqcodec.errors import CodecError
from vqcodec.metrics.classifiers import load_classifier
from vqcodec.metrics.photo_sets import Source
from vqcodec.metrics.realism import judged
from vqcodec.photos import SPLITS
from vqcodec.registry import default_generator
from vqcodec.weights_file import load


@click.command(cls=Command)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", metavar="ID|FILE", help="The packaged generator if not given.")
@click.option("--features", default="efficientnet-lite0", show_default=True)
@click.option("--split", type=click.Choice(SPLITS), default="all", show_default=True)
def main(folders: tuple[Path, ...], model: str | None, features: str, split: str) -> None:
    """The share of the images in each of FOLDERS whose own class is the most probable one."""
    model = model or default_generator()
    classifier = load_classifier(features)
    # Without names of its own, its classes are in the order of the model's.
    labels = classifier.labels or tuple(each.key for each in load(model).classes)
    if classifier.classes != len(labels):
        raise CodecError(f"{classifier.name} has {classifier.classes} classes, not {len(labels)}")
    rows = []
    for folder in folders:
        photos = Source(folder, split).read()
        if unknown := {photo.label for photo in photos} - set(labels):
            raise CodecError(f"{classifier.name} does not know {min(unknown)}; use another")
        with progress("judging") as advance:
            probabilities, _ = judged(classifier, photos, str(folder), advance)
        own = torch.tensor([labels.index(photo.label) for photo in photos])
        share = float((probabilities.argmax(1) == own).double().mean())
        rows.append([folder, len(photos), f"{share:.1%}"])
    print_table(f"Recognized by {classifier.name}", ["folder", "images", "recognized"], rows)
    print_made(model)


if __name__ == "__main__":
    main()
