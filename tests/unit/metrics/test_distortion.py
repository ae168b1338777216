"""Measures of distortion: known values, and that they fall with damage."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from vqcodec.image import load
from vqcodec.metrics import distortion


@pytest.fixture(scope="module")
def photograph(coffee: Path) -> np.ndarray:
    return load(coffee).pixels[:200, :240]


def damaged(pixels: np.ndarray, amplitude: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-amplitude, amplitude + 1, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


def test_psnr_of_known_errors() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert distortion.psnr(black, black) == math.inf
    assert distortion.psnr(black, black + 255) == 0
    assert distortion.psnr(black, black + 1) == pytest.approx(48.1308, abs=1e-4)


def test_equal_images_are_perfect(photograph: np.ndarray) -> None:
    assert distortion.ms_ssim(photograph, photograph) == pytest.approx(1)
    assert distortion.ssimulacra2(photograph, photograph) == pytest.approx(100)


@pytest.mark.parametrize("measure", [distortion.psnr, distortion.ms_ssim, distortion.ssimulacra2])
def test_more_damage_is_worse(measure, photograph: np.ndarray) -> None:
    found = [measure(photograph, damaged(photograph, amplitude)) for amplitude in (4, 12, 40)]
    assert found[0] > found[1] > found[2]


def test_images_that_are_too_small_have_no_value() -> None:
    small = np.zeros((distortion.MS_SSIM_SIDE - 1, 300, 3), np.uint8)
    assert distortion.ms_ssim(small, small) is None
    assert distortion.ssimulacra2(small, small) is not None
    tiny = np.zeros((distortion.SSIMULACRA2_SIDE - 1, 300, 3), np.uint8)
    assert distortion.ssimulacra2(tiny, tiny) is None
    enough = np.zeros((distortion.MS_SSIM_SIDE, 300, 3), np.uint8)
    assert distortion.ms_ssim(enough, enough) is not None
