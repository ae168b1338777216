"""Two sets of images, and a third of reconstructions, compared through a network's features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqcodec.metrics.classifiers import Classifier
from vqcodec.metrics.distances import (
    Score,
    classifier_score,
    frechet_distance,
    precision_and_recall,
)
from vqcodec.metrics.pictures import square
from vqcodec.photos import Photo
from vqcodec.progress import Progress

BATCH = 32


@dataclass(frozen=True)
class Comparison:
    """Fake images against real ones.

    Attributes:
        frechet: Frechet distance to the real images; FID if the network is FID's.
        frechet_reconstructions: Frechet distance to reconstructions of the real images, which
            leaves out what the autoencoder alone loses (FID*), or None.
        score: Of the fake images; Inception score if the network is its.
        precision: Share of the fake images that look real.
        recall: Share of the real images that could be fakes.
    """

    frechet: float
    frechet_reconstructions: float | None
    score: Score
    precision: float
    recall: float


def judged(
    classifier: Classifier,
    photos: Sequence[Photo],
    stage: str,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """A classifier's judgement of the middle squares of photos of any sizes.

    Args:
        classifier: With features.
        photos: N of them.
        stage: What to report.
        progress: Called with (stage, done, total).

    Returns:
        Probabilities float32 [N, classes] and features float32 [N, F], in the order of the photos.

    Raises:
        CodecError: the classifier gives no features.
    """
    by_side: dict[int, list[int]] = defaultdict(list)
    for n, photo in enumerate(photos):
        by_side[min(photo.pixels.shape[:2])].append(n)
    order, probabilities, features = [], [], []
    for numbers in by_side.values():
        for first in range(0, len(numbers), BATCH):
            some = numbers[first : first + BATCH]
            found = classifier.judge(torch.stack([square(photos[n]) for n in some]))
            probabilities.append(found.probabilities)
            features.append(found.required_features(classifier.name))
            order += some
            if progress is not None:
                progress(stage, len(order), len(photos))
    back = torch.tensor(order).argsort()
    return torch.cat(probabilities)[back], torch.cat(features)[back]


def compare(
    classifier: Classifier,
    real: Sequence[Photo],
    fake: Sequence[Photo],
    reconstructions: Sequence[Photo] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compares fake images with real ones.

    Args:
        classifier: Whose features to use.
        real: Real images.
        fake: Samples.
        reconstructions: The autoencoder's reconstructions of the real images.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: too few images, or a classifier without features.

    Source: Razavi et al. 2019, section 4.3 (FID and FID*, precision and recall).
    """
    probabilities, fakes = judged(classifier, fake, "fake images", progress)
    _, reals = judged(classifier, real, "real images", progress)
    restored = None
    if reconstructions is not None:
        _, restored = judged(classifier, reconstructions, "reconstructions", progress)
    precision, recall = precision_and_recall(reals, fakes)
    return Comparison(
        frechet=frechet_distance(reals, fakes),
        frechet_reconstructions=None if restored is None else frechet_distance(restored, fakes),
        score=classifier_score(probabilities),
        precision=precision,
        recall=recall,
    )
