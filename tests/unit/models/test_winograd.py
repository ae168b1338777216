"""Convolutions with fewer multiplications against the usual ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vqcodec import compiling, kernels
from vqcodec.models import winograd
from vqcodec.models.winograd import Convolution3


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQCODEC_KERNELS", "numba")
    compiling.look()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 4, 8), (1, 5, 7), (3, 17, 2), (1, 40, 33)])
def test_results_and_gradients(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "PART", 8)  # several parts
    torch.manual_seed(0)
    layer = Convolution3(20).requires_grad_(False)
    x = torch.randn(*shape, 20, requires_grad=True)
    wanted = torch.randn(*shape, 20)
    found = layer(x)
    (gradient,) = torch.autograd.grad(found, x, wanted)
    usual = nn.functional.conv2d(x.permute(0, 3, 1, 2), layer.weight, layer.bias, padding=1)
    (expected,) = torch.autograd.grad(usual, x, wanted.permute(0, 3, 1, 2))
    torch.testing.assert_close(found, usual.permute(0, 2, 3, 1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-4)


def test_changed_weights_are_noticed() -> None:
    layer = Convolution3(8).requires_grad_(False)
    x = torch.randn(1, 6, 6, 8)
    before = layer(x)
    layer.weight.mul_(2.0)
    layer.bias.mul_(2.0)
    torch.testing.assert_close(layer(x), 2 * before)


def test_both_with_and_without_inference_mode() -> None:
    layer = Convolution3(8).requires_grad_(False)
    x = torch.randn(1, 30, 30, 8)
    with torch.inference_mode():
        first = layer(x)
    y = x.clone().requires_grad_()
    layer(y).sum().backward()
    assert torch.equal(layer(y), first)


def test_training_takes_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.usable(torch.device("cpu"))
    monkeypatch.setattr(winograd, "filtered", lambda *of: pytest.fail("transformed"))
    layer = Convolution3(8)
    layer(torch.randn(1, 6, 6, 8)).sum().backward()
    assert layer.weight.grad is not None
