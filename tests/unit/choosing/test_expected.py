from __future__ import annotations

import pytest

from vqcodec.choosing.expected import EXPECTED, FAR, advice, expected_psnr
from vqcodec.registry import DEFAULT_MODEL


def test_the_default_model_has_values_for_all_its_qualities() -> None:
    values = [expected_psnr(DEFAULT_MODEL, quality) for quality in range(1, 101)]
    found = [value for value in values if value is not None]
    assert len(found) == 100
    assert found == sorted(found)


def test_values_are_interpolated() -> None:
    (low, below), (high, above), *_ = EXPECTED[DEFAULT_MODEL]
    assert expected_psnr(DEFAULT_MODEL, low) == below
    assert expected_psnr(DEFAULT_MODEL, high) == above
    assert expected_psnr(DEFAULT_MODEL, low + 3) == pytest.approx(
        below + 3 * (above - below) / (high - low)
    )


def test_advice() -> None:
    expected = expected_psnr(DEFAULT_MODEL, 50)
    assert expected is not None
    assert advice(DEFAULT_MODEL, 50, expected - FAR + 0.1) is None
    said = advice(DEFAULT_MODEL, 50, expected - FAR - 1)
    assert said is not None
    assert "; --lossless always" in said
    assert "quality 50" in said


def test_models_that_were_not_measured_promise_nothing() -> None:
    assert expected_psnr("mine-1", 1) is None
    assert advice("mine-1", 1, 3.0) is None
