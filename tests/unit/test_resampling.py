from __future__ import annotations

import numpy as np
import pytest

from vqcodec.resampling import resampled

PIXELS = np.random.default_rng(0).integers(256, size=(12, 20, 3), dtype=np.uint8)


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[..., 0]])
def test_a_part_between_pixels_is_cut_out(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(
        resampled(pixels, (3.0, 2.0, 8.0, 11.0), (5, 9)), pixels[2:11, 3:8]
    )


def test_a_part_through_pixels_is_interpolated() -> None:
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[np.newaxis], 12, 0)
    found = resampled(ramp, (4.5, 0.0, 14.5, 12.0), (10, 12))
    np.testing.assert_array_equal(found[0, 3:7], ramp[0, 7:11] + 5)


def test_a_smaller_part_keeps_its_mean() -> None:
    found = resampled(PIXELS, (0.0, 0.0, 20.0, 12.0), (5, 3))
    assert found.shape == (3, 5, 3)
    assert abs(found.mean() - PIXELS.mean()) < 5
