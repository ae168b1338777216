from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pictures import as_jpeg

from vqcodec.choosing.ssimulacra2 import Ssimulacra2
from vqcodec.image import load
from vqcodec.metrics.distortion import ssimulacra2


@pytest.mark.parametrize("size", [(300, 451), (97, 130), (50, 71), (8, 9), (16, 200)])
@pytest.mark.parametrize("quality", [5, 30, 90])
def test_it_is_the_packages(coffee: Path, size: tuple[int, int], quality: int) -> None:
    height, width = size
    original = load(coffee).pixels[:height, :width]
    restored = as_jpeg(original, quality)
    expected = ssimulacra2(original, restored)
    tensors = torch.from_numpy(original.copy()), torch.from_numpy(restored)
    for dtype, error in ((torch.float64, 1e-4), (torch.float32, 0.05)):
        found = Ssimulacra2(tensors[0], dtype).score(tensors[1])
        assert float(found) == pytest.approx(expected, abs=error)


def test_equal_images(coffee: Path) -> None:
    pixels = torch.from_numpy(load(coffee).pixels[:64, :64].copy())
    restored = pixels.float().requires_grad_()
    score = Ssimulacra2(pixels).score(restored)
    score.backward()
    assert float(score.detach()) == pytest.approx(100, abs=0.02)
    assert restored.grad is not None
    assert restored.grad.isfinite().all()


def test_its_gradient_is_that_of_the_score(coffee: Path) -> None:
    original = torch.from_numpy(load(coffee).pixels[:40, :48].copy())
    generator = torch.Generator().manual_seed(0)
    noise, step = torch.randn(2, 40, 48, 3, generator=generator, dtype=torch.float64)
    restored = (original + 20 * noise).clamp(1, 254)
    judge = Ssimulacra2(original, torch.float64)
    at = restored.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(judge.score(at), at)
    there, back = (judge.score(restored + sign * 1e-3 * step) for sign in (1, -1))
    assert float((gradient * step).sum()) == pytest.approx(float(there - back) / 2e-3, rel=1e-2)
