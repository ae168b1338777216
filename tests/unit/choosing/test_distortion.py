from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vqcodec.choosing.distortion import Distortion
from vqcodec.choosing.ssimulacra2 import Ssimulacra2
from vqcodec.models.autoencoder import PIXEL_MEAN, PIXEL_SCALE


@pytest.fixture
def original() -> Tensor:
    """uint8 [1, 32, 32, 3]."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(40, 216, (1, 8, 8, 3), dtype=np.uint8)
    return torch.from_numpy(coarse.repeat(4, 1).repeat(4, 2))


@pytest.fixture
def restored(original: Tensor) -> Tensor:
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(1))
    return (original + 9 * noise - PIXEL_MEAN) / PIXEL_SCALE


def test_squared_error(original: Tensor, restored: Tensor) -> None:
    target = (original.float() - PIXEL_MEAN) / PIXEL_SCALE
    expected = (restored - target)[:, :20, :30].square().sum()
    torch.testing.assert_close(Distortion(original, (20, 30))(restored), expected)
    for nothing in ((0, 30), (20, -5)):
        assert Distortion(original, nothing)(restored) == 0


def test_the_score_has_its_share_of_the_gradient(original: Tensor, restored: Tensor) -> None:
    at = restored.clone().requires_grad_()
    (both,) = torch.autograd.grad(Distortion(original, (32, 32), 0.3)(at), at)
    (squared,) = torch.autograd.grad(Distortion(original, (32, 32))(at), at)
    judge = Ssimulacra2(original[0])
    (error,) = torch.autograd.grad(judge.error(at[0] * PIXEL_SCALE + PIXEL_MEAN), at)
    expected = 0.7 * squared + 0.3 * error * squared.norm() / error.norm()
    torch.testing.assert_close(both, expected)


def test_its_unit_stays(original: Tensor, restored: Tensor) -> None:
    distortion = Distortion(original, (32, 32), 0.5)
    first = restored.clone().requires_grad_()
    before = distortion(first)
    target = (original.float() - PIXEL_MEAN) / PIXEL_SCALE
    nearer = (0.1 * restored + 0.9 * target).requires_grad_()
    assert float(distortion(nearer).detach()) < 0.5 * float(before.detach())
    torch.testing.assert_close(distortion(first), before)


def test_images_too_small_for_the_score(original: Tensor, restored: Tensor) -> None:
    squared = Distortion(original, (7, 32))(restored)
    torch.testing.assert_close(Distortion(original, (7, 32), 0.5)(restored), squared)
