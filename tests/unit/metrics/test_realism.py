"""Measures between sets of images, against closed forms and other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vqcodec.errors import CodecError
from vqcodec.metrics import realism
from vqcodec.metrics.realism import classifier_score, frechet_distance, precision_and_recall

RNG = np.random.default_rng(3)


def cloud(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Correlated points."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(count, size)) @ rng.normal(size=(size, size)))


def whitened(count: int, size: int) -> torch.Tensor:
    """Points whose mean is exactly 0 and whose covariance is exactly the identity."""
    points = cloud(count, size)
    points = points - points.mean(0)
    return points @ torch.linalg.inv(torch.linalg.cholesky(points.T.cov())).T


def test_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    points = whitened(200, 6)
    scales = torch.arange(1, 7, dtype=torch.float64)
    shift = torch.linspace(-2, 3, 6, dtype=torch.float64)
    # Diagonal covariances 1 and s^2: |shift|^2 + sum (1 - s)^2.
    expected = float(shift.square().sum() + (scales - 1).square().sum())
    moved = points * scales + shift
    assert frechet_distance(points, moved) == pytest.approx(expected)
    assert frechet_distance(moved, points) == pytest.approx(expected)


def test_frechet_distance_is_that_of_matrix_square_roots() -> None:
    linalg = pytest.importorskip("scipy.linalg", reason="extra benchmarks")
    one, other = cloud(60, 5, 1), cloud(80, 5, 2) + 1
    first, second = np.cov(one.numpy().T), np.cov(other.numpy().T)
    root = linalg.sqrtm(first @ second).real
    apart = np.square(one.numpy().mean(0) - other.numpy().mean(0)).sum()
    expected = apart + np.trace(first + second - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(expected)


def test_frechet_distance_of_fewer_rows_than_features() -> None:
    one = cloud(5, 20)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(one, one + 1) == pytest.approx(20, abs=1e-4)
    with pytest.raises(CodecError, match="fewer than 2"):
        frechet_distance(one, one[:1])


def test_classifier_score_has_its_bounds() -> None:
    sure = torch.eye(7).repeat(10, 1)
    assert classifier_score(sure).mean == pytest.approx(7)
    assert classifier_score(torch.full((30, 7), 1 / 7)).mean == pytest.approx(1)
    assert classifier_score(sure[:1].repeat(20, 1)).mean == pytest.approx(1)


def test_classifier_score_of_a_known_mixture() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).repeat(50, 1)
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    score = classifier_score(probabilities)
    assert score.mean == pytest.approx(2 * math.exp(-entropy))
    assert (score.deviation, score.parts) == (0.0, 1)


def test_classifier_score_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = torch.from_numpy(RNG.dirichlet(np.ones(5), 100))
    assert classifier_score(probabilities).parts == 1
    monkeypatch.setattr(realism, "IMAGES_FOR_PARTS", 100)
    score = classifier_score(probabilities)
    assert score.parts == realism.PARTS
    assert score.deviation > 0
    assert 1 <= score.mean <= 5


def test_precision_and_recall_of_equal_and_of_distant_sets() -> None:
    points = cloud(50, 4)
    assert precision_and_recall(points, points) == (1, 1)
    assert precision_and_recall(points, points + 1000) == (0, 0)


def test_few_modes_are_precise_and_miss_the_rest() -> None:
    modes = [cloud(30, 4, seed) + 1000 * seed for seed in range(1, 4)]
    assert precision_and_recall(torch.cat(modes), modes[0]) == (1, pytest.approx(1 / 3))
    assert precision_and_recall(modes[0], torch.cat(modes)) == (pytest.approx(1 / 3), 1)


def test_precision_and_recall_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realism, "ROWS_PER_CALL", 7)
    real, fake = cloud(40, 3, 1), cloud(25, 3, 1)[:25] + 0.7

    def share(rows: torch.Tensor, members: torch.Tensor) -> float:
        radii = [sorted(math.dist(one, other) for other in members)[3] for one in members]
        inside = [
            any(math.dist(row, member) <= r for member, r in zip(members, radii, strict=True))
            for row in rows
        ]
        return sum(inside) / len(inside)

    found = precision_and_recall(real, fake)
    assert found == (pytest.approx(share(fake, real)), pytest.approx(share(real, fake)))
    assert min(found) > 0
    assert min(found) < 1
    with pytest.raises(CodecError, match="more than 3 images"):
        precision_and_recall(real, fake[:3])
