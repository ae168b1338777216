"""How real a set of images looks, by what a network makes of it and of a set of real images.

Libraries that have these measures bring torchvision, whose builds must match torch's; the formulas
are short, so they stand here and are tested against closed forms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.metrics.classifiers import Classifier, inception_weights, load_classifier
from vqcodec.metrics.photo_sets import Source, square
from vqcodec.photos import Photo
from vqcodec.progress import Progress

BATCH = 32
NEIGHBOURS = 3  # k of the paper
ROWS_PER_CALL = 1024  # bounds the memory of pairwise distances
PARTS = 10  # of the classifier score, where there are images enough: small parts score low
IMAGES_FOR_PARTS = 5000


def _two_rows(features: Tensor) -> Tensor:
    if len(features) < 2:
        raise CodecError("a set of images holds fewer than 2; give more")
    return features.double()


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets of features.

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)); the last trace is the sum of the square
    roots of the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2), which are the same.

    Args:
        real: float [N, F].
        fake: float [M, F].

    Raises:
        CodecError: one of the sets has fewer than 2 rows.

    Source: Heusel et al. 2017, eq. 6.
    """
    real, fake = _two_rows(real), _two_rows(fake)
    one, other = torch.atleast_2d(real.T.cov()), torch.atleast_2d(fake.T.cov())
    values, vectors = torch.linalg.eigh(one)
    root = vectors * values.clamp(min=0).sqrt()
    # Rounding makes eigenvalues of singular covariances slightly negative.
    shared = torch.linalg.eigvalsh(root.T @ other @ root).clamp(min=0).sqrt().sum()
    apart = (real.mean(0) - fake.mean(0)).square().sum()
    return max(0.0, float(apart + one.trace() + other.trace() - 2 * shared))


@dataclass(frozen=True)
class Score:
    """A classifier score.

    Attributes:
        mean: Over the parts; 1 to the number of classes.
        deviation: Standard deviation over the parts, 0 for one.
        parts: In how many the images were divided.
    """

    mean: float
    deviation: float
    parts: int


def classifier_score(probabilities: Tensor) -> Score:
    """How sure a classifier is of each image, and how many classes it sees in all of them.

    Exp of the mean divergence of an image's probabilities from their mean over all images, of the
    images in a fixed random order and divided in parts, if they are enough.

    Args:
        probabilities: float [N, classes].

    Source: Salimans et al. 2016, section 4 (there with the Inception network).
    """
    parts = PARTS if len(probabilities) >= IMAGES_FOR_PARTS else 1
    order = torch.randperm(len(probabilities), generator=torch.Generator().manual_seed(0))
    scores = []
    for part in probabilities[order].double().tensor_split(parts):
        entropy = torch.special.entr(part).sum(1).mean()
        scores.append((torch.special.entr(part.mean(0)).sum() - entropy).exp())
    found = torch.stack(scores)
    return Score(float(found.mean()), float(found.std(correction=0)), parts)


def precision_and_recall(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Share of the fake images within the real ones' manifold, and of the real within the fake's.

    The manifold of a set is the union of balls around its members that reach their k-th nearest
    neighbour.

    Args:
        real: float [N, F].
        fake: float [M, F].

    Raises:
        CodecError: one of the sets has not more than k rows.

    Source: Kynkaanniemi et al. 2019, eq. 1 and 2.
    """
    if min(len(real), len(fake)) <= NEIGHBOURS:
        reason = f"precision and recall need more than {NEIGHBOURS} images on either side"
        raise CodecError(f"{reason}; give more")
    real, fake = real.double(), fake.double()
    return _share_within(fake, real), _share_within(real, fake)


def _share_within(rows: Tensor, members: Tensor) -> float:
    radii = torch.cat(
        [
            # The nearest is the row itself.
            torch.cdist(some, members).kthvalue(NEIGHBOURS + 1).values
            for some in members.split(ROWS_PER_CALL)
        ]
    )
    within = [
        (torch.cdist(some, members) <= radii).any(1).double() for some in rows.split(ROWS_PER_CALL)
    ]
    return float(torch.cat(within).mean())


def judged(
    classifier: Classifier, photos: Sequence[Photo], stage: str, progress: Progress | None = None
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
            if found.features is None:
                raise CodecError(f"{classifier.name} gives no features; choose another classifier")
            features.append(found.features)
            order += some
            if progress is not None:
                progress(stage, len(order), len(photos))
    back = torch.tensor(order).argsort()
    return torch.cat(probabilities)[back], torch.cat(features)[back]


@dataclass(frozen=True)
class Comparison:
    """Fake images against real ones.

    Attributes:
        network: Name of the network whose features were compared.
        standard: Whether it is the one that FID and Inception score mean.
        real_images: How many.
        fake_images: How many.
        reconstructions: How many reconstructions of the real images.
        frechet: Frechet distance to the real images; FID if the network is FID's.
        frechet_reconstructions: Frechet distance to reconstructions of the real images, which
            leaves out what the autoencoder alone loses (FID*), or None.
        score: Of the fake images; Inception score if the network is its.
        precision: Share of the fake images that look real.
        recall: Share of the real images that could be fakes.
    """

    network: str
    standard: bool
    real_images: int
    fake_images: int
    reconstructions: int
    frechet: float
    frechet_reconstructions: float | None
    score: Score
    precision: float
    recall: float


def compare(
    real: Source,
    fake: Source,
    reconstructions: Source | None = None,
    *,
    features: str | None = None,
    weights: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Comparison:
    """Compares fake images with real ones.

    Args:
        real: Real images.
        fake: Samples.
        reconstructions: The autoencoder's reconstructions of the real images.
        features: The network, see `load_classifier`; None for inception where its weights are here,
            else efficientnet-lite0.
        weights: File of inception's weights.
        device: Where to run the network.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: too few images, or a classifier without features.

    Source: Razavi et al. 2019, section 4.3 (FID and FID*, precision and recall).
    """
    if features is None:
        features = "efficientnet-lite0" if inception_weights(weights) is None else "inception"
    classifier = load_classifier(features, weights=weights, device=device)
    reals, fakes = real.read(), fake.read()
    restored = [] if reconstructions is None else reconstructions.read()
    probabilities, fake_rows = judged(classifier, fakes, "fake images", progress)
    _, real_rows = judged(classifier, reals, "real images", progress)
    starred = None
    if restored:
        _, rows = judged(classifier, restored, "reconstructions", progress)
        starred = frechet_distance(rows, fake_rows)
    precision, recall = precision_and_recall(real_rows, fake_rows)
    return Comparison(
        network=classifier.name,
        standard=classifier.standard,
        real_images=len(reals),
        fake_images=len(fakes),
        reconstructions=len(restored),
        frechet=frechet_distance(real_rows, fake_rows),
        frechet_reconstructions=starred,
        score=classifier_score(probabilities),
        precision=precision,
        recall=recall,
    )
