from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vqcodec.choosing.distortion import Distortion
from vqcodec.choosing.ms_ssim import MsSsim
from vqcodec.choosing.ssimulacra2 import Ssimulacra2
from vqcodec.choosing.tunes import Tune
from vqcodec.models.autoencoder import PIXEL_MEAN, PIXEL_SCALE

WHOLE = (32, 32)


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


def test_every_measure_has_its_share_of_the_gradient(original: Tensor, restored: Tensor) -> None:
    at = restored.clone().requires_grad_()
    tune = Tune(score=0.3, structure=0.1)
    (all_of_it,) = torch.autograd.grad(Distortion(original, WHOLE, tune)(at), at)
    (squared,) = torch.autograd.grad(Distortion(original, WHOLE)(at), at)
    expected = 0.6 * squared
    for share, judge in ((0.3, Ssimulacra2(original[0])), (0.1, MsSsim(original[0]))):
        (error,) = torch.autograd.grad(judge.error(at[0] * PIXEL_SCALE + PIXEL_MEAN), at)
        expected = expected + share * error * squared.norm() / error.norm()
    torch.testing.assert_close(all_of_it, expected, rtol=1e-4, atol=1e-4)


def test_its_units_stay(original: Tensor, restored: Tensor) -> None:
    distortion = Distortion(original, WHOLE, Tune(score=0.3, structure=0.2))
    first = restored.clone().requires_grad_()
    before = distortion(first)
    target = (original.float() - PIXEL_MEAN) / PIXEL_SCALE
    nearer = (0.1 * restored + 0.9 * target).requires_grad_()
    assert float(distortion(nearer).detach()) < 0.5 * float(before.detach())
    torch.testing.assert_close(distortion(first), before)


@pytest.mark.parametrize(("side", "tune"), [(7, Tune(score=0.5)), (10, Tune(structure=0.5))])
def test_images_too_small_for_a_measure(
    original: Tensor, restored: Tensor, side: int, tune: Tune
) -> None:
    squared = Distortion(original, (side, 32))(restored)
    at = restored.clone().requires_grad_()
    torch.testing.assert_close(Distortion(original, (side, 32), tune)(at).detach(), squared)
