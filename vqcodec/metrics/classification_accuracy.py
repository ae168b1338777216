"""The classification accuracy score: how well a classifier does that saw only these images.

A small residual network is trained from scratch, on samples or on real images, and tested on real
images it has not seen.

Source: Ravuri and Vinyals 2019 (there a ResNet-50 at 256 pixels a side).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.metrics.classifier_training import (
    BATCH,
    ClassifierTraining,
    SmallResNet,
    steps_in,
    train_classifier,
)
from vqcodec.metrics.photo_sets import Source, squares
from vqcodec.photos import Photo
from vqcodec.progress import Progress

TEST = "test images"
RECONSTRUCTIONS = "reconstructed test images"


@dataclass(frozen=True)
class Accuracy:
    """Shares of images, 0..1, whose class is the most probable, or among the five that are."""

    top1: float
    top5: float


@torch.inference_mode()
def accuracy(network: SmallResNet, images: Tensor, labels: Tensor) -> Accuracy:
    """How often a classifier is right.

    Args:
        network: The classifier.
        images: uint8 [N, side, side, 3].
        labels: int64 [N].

    Raises:
        CodecError: there are no images.
    """
    if not len(images):
        raise CodecError("there are no images of the classes that were trained on to test with")
    device = next(network.parameters()).device
    hits = []
    for some, own in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        logits = network(some.to(device).permute(0, 3, 1, 2).float() / 255).cpu()
        hits.append(logits.topk(min(5, logits.shape[1])).indices == own[:, None])
    hit = torch.cat(hits).double()
    return Accuracy(float(hit[:, 0].mean()), float(hit.sum(1).mean()))


@dataclass(frozen=True)
class Labelled:
    """Images of known classes.

    Attributes:
        images: uint8 [N, side, side, 3].
        classes: int64 [N], numbers of labels.
        labels: Names of the classes.
        left_out: How many images were of other classes.
    """

    images: Tensor
    classes: Tensor
    labels: tuple[str, ...]
    left_out: int

    @classmethod
    def of(
        cls, photos: Sequence[Photo], side: int, labels: tuple[str, ...] | None = None
    ) -> Labelled:
        """Photos whose labels are among the given ones; None for all, sorted."""
        if labels is None:
            labels = tuple(sorted({photo.label for photo in photos}))
        number = {label: n for n, label in enumerate(labels)}
        known = [photo for photo in photos if photo.label in number]
        classes = torch.tensor([number[photo.label] for photo in known], dtype=torch.int64)
        return cls(squares(known, side), classes, labels, len(photos) - len(known))

    @classmethod
    def read(cls, source: Source, side: int, labels: tuple[str, ...] | None = None) -> Labelled:
        """Those of a source; larger images are scaled first, their shorter side to `side`.

        Raises:
            CodecError: there are none, or they cannot be read.
        """
        # Digits are extended to the side, as the priors see them.
        least = side if source.path.suffix == ".npz" else 1
        return cls.of(source.read(least, side), side, labels)


def check_apart(one: Source, other: Source) -> None:
    """Checks that two sets of images do not overlap by a choice of splits.

    Raises:
        CodecError: they are of one source, and not its train and its validation images.
    """
    splits = {one.split, other.split}
    if one.path.resolve() == other.path.resolve() and splits != {"train", "validation"}:
        reason = "is trained on and tested on; give the splits train and validation"
        raise CodecError(reason).in_file(other.path)


@dataclass(frozen=True)
class ClassificationScore:
    """What `classification_score` finds.

    Attributes:
        training: What was trained on.
        settings: Of the training.
        network: The classifier.
        tests: By the name of the set, what was tested with: `TEST`, and `RECONSTRUCTIONS` if any.
        accuracies: By the name of the set.
        baseline: The same classifier, trained on real images, on the test images; or None.
        baseline_images: How many real images it was trained on.
    """

    training: Labelled
    settings: ClassifierTraining
    network: SmallResNet
    tests: dict[str, Labelled]
    accuracies: dict[str, Accuracy]
    baseline: Accuracy | None = None
    baseline_images: int = 0

    @property
    def shares(self) -> dict[str, float]:
        """By the name of the set, its top-1 accuracy as a share of the baseline's, if any."""
        if self.baseline is None:
            return {}
        best = max(self.baseline.top1, 1e-9)
        return {name: each.top1 / best for name, each in self.accuracies.items()}


def classification_score(
    train: Source,
    test: Source,
    *,
    reconstructions: Source | None = None,
    baseline: Source | None = None,
    side: int = 64,
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
        minutes: About how long to train; makes the number of steps.
        steps: Instead of `minutes`; see `ClassifierTraining`, as for the next three.
        seed: Of weights, order and crops.
        mirror: Mirror half of the images.
        device: Where to train.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: unusable images, sets that overlap, or test images of none of the classes.
    """
    check_apart(train, test)
    if baseline is not None:
        check_apart(baseline, test)

    training = Labelled.read(train, side)
    labels, count = training.labels, len(training.labels)
    tests = {TEST: Labelled.read(test, side, labels)}
    if reconstructions is not None:
        tests[RECONSTRUCTIONS] = Labelled.read(reconstructions, side, labels)
    for name, each in tests.items():
        if not len(each.classes):
            raise CodecError(f"none of the {name} is of a class that is trained on")
    if steps is None:
        steps = steps_in(minutes, training.images, training.classes, count, device=device)
    settings = ClassifierTraining(steps=steps, seed=seed, mirror=mirror, device=device)

    def trained(images: Labelled) -> SmallResNet:
        return train_classifier(images.images, images.classes, count, settings, progress)

    network = trained(training)
    found = {name: accuracy(network, each.images, each.classes) for name, each in tests.items()}
    score = ClassificationScore(training, settings, network, tests, found)
    if baseline is None:
        return score
    real = Labelled.read(baseline, side, labels)
    best = accuracy(trained(real), tests[TEST].images, tests[TEST].classes)
    return replace(score, baseline=best, baseline_images=len(real.classes))
