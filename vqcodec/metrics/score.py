"""The classification accuracy score of sets of images, from their files to the numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vqcodec.errors import CodecError
from vqcodec.metrics.classification import (
    Accuracy,
    ClassifierTraining,
    SmallResNet,
    accuracy,
    steps_in,
    train_classifier,
)
from vqcodec.metrics.pictures import Labelled, check_apart, read, spread
from vqcodec.progress import Progress

TEST = "test images"
RECONSTRUCTIONS = "reconstructed test images"


@dataclass(frozen=True)
class Source:
    """Where images are.

    Attributes:
        path: A folder, a tar archive, or an `.npz` file; see `pictures.read`.
        split: Which of them.
    """

    path: Path
    split: str = "all"


@dataclass(frozen=True)
class Tested:
    """How a classifier does on a set of images.

    Attributes:
        accuracy: Of the images of classes that it was trained on.
        images: How many these are.
        left_out: How many images were of other classes.
    """

    accuracy: Accuracy
    images: int
    left_out: int


@dataclass(frozen=True)
class ClassificationScore:
    """What `classification_score` finds.

    Attributes:
        labels: Names of the classes.
        training_images: How many there were.
        settings: Of the training.
        network: The classifier.
        tests: By the name of the set: `TEST`, and `RECONSTRUCTIONS` if there are any.
        baseline: The same classifier, trained on real images, on the test images; or None.
        baseline_images: How many real images it was trained on.
    """

    labels: tuple[str, ...]
    training_images: int
    settings: ClassifierTraining
    network: SmallResNet
    tests: dict[str, Tested]
    baseline: Accuracy | None = None
    baseline_images: int = 0

    @property
    def shares(self) -> dict[str, float]:
        """By the name of the set, its top-1 accuracy as a share of the baseline's, if any."""
        if self.baseline is None:
            return {}
        best = max(self.baseline.top1, 1e-9)
        return {name: each.accuracy.top1 / best for name, each in self.tests.items()}


def classification_score(
    train: Source,
    test: Source,
    *,
    reconstructions: Path | None = None,
    baseline: Source | None = None,
    side: int = 64,
    limit: int | None = None,
    minutes: float = 8.0,
    steps: int | None = None,
    seed: int = 0,
    mirror: bool = True,
    device: str = "cpu",
    progress: Progress | None = None,
) -> ClassificationScore:
    """Trains a classifier on images and tests it on others.

    Args:
        train: What to train on, samples or real images; their labels are the classes.
        test: Real images.
        reconstructions: Reconstructions of the test images, tested with as well.
        baseline: Real images to train the same classifier on, for comparison.
        side: Pixels a side that images are scaled to, a multiple of 16.
        limit: Use at most so many images of each set, evenly spread; None for all.
        minutes: About how long to train; makes the number of steps.
        steps: Instead of `minutes`; see `ClassifierTraining`, as for the next three.
        seed: Of weights, order and crops.
        mirror: Mirror half of the images.
        device: Where to train.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: unusable images, sets that overlap, or test images of none of the classes.
    """
    check_apart(train.path, train.split, test.path, test.split)
    if baseline is not None:
        check_apart(baseline.path, baseline.split, test.path, test.split)

    def labelled(source: Source, labels: tuple[str, ...] | None = None) -> Labelled:
        photos = spread(read(source.path, side=side, split=source.split), limit)
        return Labelled.of(photos, side, labels)

    training = labelled(train)
    labels, count = training.labels, len(training.labels)
    tests = {TEST: labelled(test, labels)}
    if reconstructions is not None:
        tests[RECONSTRUCTIONS] = labelled(Source(reconstructions), labels)
    for name, each in tests.items():
        if not len(each.classes):
            raise CodecError(f"none of the {name} is of a class that is trained on")
    if steps is None:
        steps = steps_in(minutes, training.images, training.classes, count, device=device)
    settings = ClassifierTraining(steps=steps, seed=seed, mirror=mirror, device=device)

    def trained(images: Labelled) -> SmallResNet:
        return train_classifier(images.images, images.classes, count, settings, progress)

    network = trained(training)
    found = {
        name: Tested(accuracy(network, each.images, each.classes), len(each.classes), each.left_out)
        for name, each in tests.items()
    }
    score = ClassificationScore(labels, len(training.classes), settings, network, found)
    if baseline is None:
        return score
    real = labelled(baseline, labels)
    best = accuracy(trained(real), tests[TEST].images, tests[TEST].classes)
    return replace(score, baseline=best, baseline_images=len(real.classes))
