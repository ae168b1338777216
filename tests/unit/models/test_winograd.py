"""Residual blocks with fewer multiplications against the usual ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vqcodec import compiling, kernels
from vqcodec.models import winograd
from vqcodec.models.layers import ResidualBlock


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQCODEC_KERNELS", "numba")
    compiling.look()


def block_of(channels: int, knots: int = 3) -> ResidualBlock:
    torch.manual_seed(0)
    block = ResidualBlock(channels, knots).requires_grad_(False)
    if block.scale is not None:
        block.scale.weight.normal_()
    return block


def usual(
    block: ResidualBlock, x: torch.Tensor, position: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> torch.Tensor:
    with monkeypatch.context() as without:
        without.setattr(winograd, "usable", lambda *of: False)
        found: torch.Tensor = block(x, position)
        return found


@pytest.mark.parametrize("channels", [8, 20, 64])
@pytest.mark.parametrize("knots", [0, 3])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 4, 8), (1, 5, 7), (3, 17, 2), (1, 40, 73)])
def test_results_and_gradients(
    shape: tuple[int, int, int], knots: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = block_of(channels, knots)
    x = torch.randn(*shape, channels, requires_grad=True)
    wanted = torch.randn(*shape, channels)
    position = torch.linspace(0, 2, len(x))
    found, expected = block(x, position), usual(block, x, position, monkeypatch)
    (gradient,) = torch.autograd.grad(found, x, wanted)
    (as_usual,) = torch.autograd.grad(expected, x, wanted)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradient, as_usual, atol=1e-4, rtol=1e-4)


def test_the_number_of_threads_changes_nothing() -> None:
    block = block_of(24)
    x, position = torch.randn(2, 50, 60, 24), torch.tensor([0.5, 2.0])
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(block(x, position))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_changed_weights_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    block = block_of(8)
    x, position = torch.randn(1, 6, 6, 8), torch.zeros(1)
    for parameter in (block.conv.weight, block.conv.bias, block.linear.weight, block.linear.bias):
        before = block(x, position)
        assert parameter is not None
        parameter.mul_(1.5).add_(0.1)
        found = block(x, position)
        assert not torch.equal(found, before)
        torch.testing.assert_close(found, usual(block, x, position, monkeypatch))


def test_both_with_and_without_inference_mode() -> None:
    block = block_of(8)
    x, position = torch.randn(1, 30, 30, 8), torch.zeros(1)
    with torch.inference_mode():
        first = block(x, position)
    y = x.clone().requires_grad_()
    block(y, position).sum().backward()
    assert torch.equal(block(y, position), first)


def test_training_takes_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.usable(torch.device("cpu"))
    monkeypatch.setattr(winograd, "residual", lambda *of: pytest.fail("compiled"))
    block = ResidualBlock(8)
    block(torch.randn(1, 6, 6, 8), torch.zeros(1)).sum().backward()
    assert block.conv.weight.grad is not None


def test_rounded_products_take_the_usual_way() -> None:
    block, x = block_of(8, 0), torch.randn(1, 6, 6, 8)
    position = torch.zeros(1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rounded = block(x, position)
    with torch.no_grad():
        exact = block(x, position)
    assert not torch.equal(rounded.float(), exact)
    torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0.05)


def test_a_wrong_result_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert winograd.fault() is None
    monkeypatch.setattr(winograd, "_FILTERS", winograd._FILTERS * np.float32(1.01))
    assert winograd.fault() == "compiled convolutions do not find what PyTorch finds"
