"""Layers of integer priors at the limits of their integers."""

from __future__ import annotations

import pytest
import torch

from vqcodec.entropy import layers
from vqcodec.spec.prior import REQUANTIZE_BITS


def linear(multiplier: int, offset: int = 0, dtype: torch.dtype = torch.int64) -> layers.Linear:
    """A sum of 128 * 2 at most, times the multiplier."""
    return layers.Linear(
        {
            "weight": torch.tensor([[1], [-1]], dtype=torch.int8),
            "multiplier": torch.tensor([multiplier], dtype=dtype),
            "offset": torch.tensor([offset], dtype=dtype),
        }
    )


@pytest.mark.parametrize("multiplier", [1, 12345, 2**24 - 1, 2**45 - 1, -(2**45) + 1])
def test_linear_is_exact_up_to_its_limit(multiplier: int) -> None:
    rows = torch.tensor([[127, -128], [-128, 127], [1, 0], [0, 1], [0, 0]], dtype=torch.int8)
    found = linear(multiplier, offset=255)(rows).flatten().tolist()
    sums = [255, -255, 1, -1, 0]
    assert found == [(each * multiplier + 255) >> REQUANTIZE_BITS for each in sums]


@pytest.mark.parametrize(
    ("multiplier", "offset"), [(2**45, 0), (-(2**45), 0), (0, 2**53), (2**44, -(2**52))]
)
def test_linear_refuses_what_is_not_exact(multiplier: int, offset: int) -> None:
    with pytest.raises(ValueError, match="sums are too large"):
        linear(multiplier, offset)


def test_linear_refuses_floats() -> None:
    with pytest.raises(ValueError, match=r"weights of torch\.float64"):
        linear(1, dtype=torch.float64)


@pytest.mark.parametrize("shift", [1, 6, 24])
def test_activation_rounds_to_the_nearest_step(shift: int) -> None:
    table = torch.arange(-128, 128).to(torch.int8)
    activation = layers.Activation({"table": table, "shift": torch.tensor(shift)})
    step = 1 << shift
    stream = [-200 * step, -128 * step, -step // 2 - 1, -step // 2, -1, 0, step // 2 - 1]
    stream += [step // 2, 127 * step, 200 * step]
    expected = [max(-128, min(127, (each + step // 2) >> shift)) for each in stream]
    rows = torch.tensor([stream], dtype=torch.float64)
    assert activation(rows).flatten().tolist() == expected


@pytest.mark.parametrize("shift", [-1, 0, 25])
def test_activation_refuses_shifts_that_cannot_be(shift: int) -> None:
    with pytest.raises(ValueError, match=r"must be in 1\.\.24"):
        layers.Activation(
            {"table": torch.zeros(256, dtype=torch.int8), "shift": torch.tensor(shift)}
        )
