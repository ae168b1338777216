from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pictures import as_jpeg

from vqcodec.choosing.ms_ssim import MsSsim
from vqcodec.image import load
from vqcodec.metrics.distortion import ms_ssim


@pytest.mark.parametrize("size", [(300, 451), (161, 203), (170, 162), (178, 177)])
@pytest.mark.parametrize("quality", [5, 30, 90])
def test_it_is_the_packages(coffee: Path, size: tuple[int, int], quality: int) -> None:
    height, width = size
    original = load(coffee).pixels[:height, :width]
    restored = as_jpeg(original, quality)
    expected = ms_ssim(original, restored)
    tensors = torch.from_numpy(original.copy()), torch.from_numpy(restored)
    for dtype in (torch.float64, torch.float32):
        found = 1 - MsSsim(tensors[0], dtype).error(tensors[1])
        assert float(found) == pytest.approx(expected, abs=3e-5)


@pytest.mark.parametrize("size", [(200, 180), (60, 47), (11, 30)])
def test_equal_images(coffee: Path, size: tuple[int, int]) -> None:
    height, width = size
    pixels = torch.from_numpy(load(coffee).pixels[:height, :width].copy())
    restored = pixels.float().requires_grad_()
    error = MsSsim(pixels).error(restored)
    error.backward()
    assert float(error.detach()) == pytest.approx(0, abs=1e-4)
    assert restored.grad is not None
    assert restored.grad.isfinite().all()


def test_its_gradient_is_that_of_the_error(coffee: Path) -> None:
    original = torch.from_numpy(load(coffee).pixels[:60, :48].copy())
    generator = torch.Generator().manual_seed(0)
    noise, step = torch.randn(2, 60, 48, 3, generator=generator, dtype=torch.float64)
    restored = original + 20 * noise
    judge = MsSsim(original, torch.float64)
    at = restored.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(judge.error(at), at)
    there, back = (judge.error(restored + sign * 1e-3 * step) for sign in (1, -1))
    assert float((gradient * step).sum()) == pytest.approx(float(there - back) / 2e-3, rel=1e-4)


def test_the_opposite_has_a_finite_gradient(coffee: Path) -> None:
    original = torch.from_numpy(load(coffee).pixels[:64, :64].copy())
    restored = (255 - original.float()).requires_grad_()
    error = MsSsim(original).error(restored)
    error.backward()
    assert float(error.detach()) > 0.5
    assert restored.grad is not None
    assert restored.grad.isfinite().all()
