from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqcodec.entropy.frequencies import (
    TEMPERATURE_ONE,
    expected_code_lengths,
    frequencies,
)
from vqcodec.spec.prior import TOTAL, TOTAL_BITS
from vqcodec.training.export import shared_tables

EXPONENTIAL = shared_tables().exponential
SIZES = [1, 2, 3, 16, 127, 128, 1000, 1024]


def logits_of(kind: str, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    match kind:
        case "random":
            return torch.randint(-100, 100, (50, size), generator=generator)
        case "equal":
            return torch.full((2, size), -7)
        case "wide":
            return torch.randint(-(2**40), 2**40, (50, size), generator=generator)
        case "one":
            logits = torch.full((size, size), -(2**40))
            return logits.fill_diagonal_(2**40)
    raise ValueError(kind)


@pytest.mark.parametrize("temperature", [1, 128, TEMPERATURE_ONE, 257, 25600])
@pytest.mark.parametrize("kind", ["random", "equal", "wide", "one"])
@pytest.mark.parametrize("size", SIZES)
def test_sum_is_exact_and_all_are_possible(size: int, kind: str, temperature: int) -> None:
    found = frequencies(logits_of(kind, size), EXPONENTIAL, temperature)
    assert torch.equal(found, found.long())
    assert found.min() >= 1
    assert (found.sum(1) == TOTAL).all()


def test_logits_are_left_alone() -> None:
    logits = logits_of("random", 16)
    before = logits.clone()
    frequencies(logits, EXPONENTIAL, 100)
    assert torch.equal(logits, before)


def test_near_the_softmax() -> None:
    logits = logits_of("random", 128)
    expected = torch.softmax(logits.double() / 16, 1)
    found = frequencies(logits, EXPONENTIAL).double() / TOTAL
    assert (found - expected).abs().max() < 1e-4
    nats = (expected * (expected / found).log()).sum(1)
    assert nats.max() < 1e-4


@pytest.mark.parametrize("kind", ["random", "equal", "wide", "one"])
@pytest.mark.parametrize("size", SIZES)
def test_expected_code_lengths_are_those_of_the_frequencies(size: int, kind: str) -> None:
    logits = logits_of(kind, size)
    found = expected_code_lengths(logits.double())
    exact = TOTAL_BITS - frequencies(logits, EXPONENTIAL).log2()
    likely = exact < 8
    torch.testing.assert_close(found[likely].double(), exact[likely], atol=0.05, rtol=0)
    assert (found[exact > 8] > 7.9).all()
    assert found.max() <= TOTAL_BITS


def test_only_differences_of_logits_count() -> None:
    logits = logits_of("random", 64)
    assert torch.equal(frequencies(logits, EXPONENTIAL), frequencies(logits + 999, EXPONENTIAL))


def test_a_likelier_symbol_has_no_smaller_frequency() -> None:
    logits = logits_of("random", 64).sort(1).values
    found = frequencies(logits, EXPONENTIAL)[:, 1:]  # the first one also gets the remainder
    assert (found.diff(dim=1) >= 0).all()


def test_temperature_one_is_the_default() -> None:
    logits = logits_of("random", 64)
    found = frequencies(logits, EXPONENTIAL, TEMPERATURE_ONE)
    assert torch.equal(found, frequencies(logits, EXPONENTIAL))


def test_temperature_sharpens_and_flattens() -> None:
    logits = logits_of("random", 64)
    cold, plain, hot = (
        frequencies(logits, EXPONENTIAL, t).amax(1).double().mean() for t in (64, 256, 1024)
    )
    assert cold > plain > hot


def test_extreme_temperatures() -> None:
    logits = torch.tensor([[3, 5, 4, 0]])
    assert frequencies(logits, EXPONENTIAL, 1).tolist()[0][1] >= TOTAL - 8
    flat = frequencies(logits, EXPONENTIAL, 25600)
    assert (flat - TOTAL // 4).abs().max() < TOTAL // 100
