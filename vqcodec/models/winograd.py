"""3x3 convolutions with fewer multiplications, for networks that are not being trained.

Sixteen results of a filter are found from 6x6 inputs with 36 multiplications in place of 144:
inputs and filters are transformed, multiplied, and transformed back. Results differ from the usual
sums by rounding, some 1e-5 of their size. Parts of an image that stay in the processor's cache are
shared out among threads.

Source: Lavin and Gray 2016, F(4x4, 3x3), section 4.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vqcodec import kernels
from vqcodec.threads import share

SIDE = 4  # of a block of results
PART = 96  # blocks at a time

_FILTERS = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_here = threading.local()


class Convolution3(nn.Conv2d):
    """A 3x3 convolution with padding; over [B, H, W, C], unlike its base."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self._transformed: tuple[tuple[int, int], Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to [B, H, W, C]."""
        trained = torch.is_grad_enabled() and self.weight.requires_grad
        if trained or x.dtype != torch.float32 or not kernels.usable(x.device):
            return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        assert self.bias is not None
        found: Tensor = _Filtered.apply(x, *self.transformed(), self.bias)  # type: ignore[no-untyped-call]
        return found

    def transformed(self) -> tuple[Tensor, Tensor]:
        """The filters, and those of the gradient: [36, C, C] each, made when they have changed."""
        weight = self.weight.detach()
        known = (weight.data_ptr(), weight._version)
        if self._transformed is None or self._transformed[0] != known:
            with torch.inference_mode(False):
                turned = weight.flip(2, 3).transpose(0, 1)
                self._transformed = known, transformed(weight), transformed(turned)
        return self._transformed[1:]


class _Filtered(torch.autograd.Function):
    """`filtered`, with the gradient of what is filtered."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: Tensor, turned: Tensor, bias: Tensor) -> Tensor:
        ctx.turned = turned
        return filtered(x, filters, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        bias = gradients[0].new_zeros(ctx.turned.shape[2])
        return filtered(gradients[0], ctx.turned, bias), None, None, None


def transformed(weight: Tensor) -> Tensor:
    """Filters [O, C, 3, 3] to [36, C, O]."""
    found = torch.einsum("ix,jy,ocxy->ijco", _FILTERS, _FILTERS, weight)
    return found.flatten(0, 1).contiguous()


@torch.no_grad()
def filtered(x: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
    """Results of filters.

    Args:
        x: float32 [B, H, W, C].
        filters: What `transformed` gave, [36, C, O].
        bias: Added to each, float32 [O].

    Returns:
        float32 [B, H, W, O].
    """
    b, h, w, _ = x.shape
    found = x.new_empty(b, h, w, filters.shape[2])
    rows = max(1, PART // -(-w // SIDE))
    parts = [(n, row, rows) for n in range(b) for row in range(0, -(-h // SIDE), rows)]
    share(partial(_filter, x.contiguous(), filters, bias, found), parts)
    return found


@torch.no_grad()
def _filter(
    x: Tensor, filters: Tensor, bias: Tensor, found: Tensor, part: tuple[int, int, int]
) -> None:
    """The results of some rows of blocks: number of an image, first row, how many at most."""
    from vqcodec.kernels import winograd

    n, first, rows = part
    height, width, channels = x.shape[1:]
    high = min(rows, -(-height // SIDE) - first)
    blocks = high * -(-width // SIDE)
    seen, products = _scratch(len(filters), blocks, channels, filters.shape[2])
    winograd.inputs(x[n].numpy(), first, high, seen.numpy())
    torch.bmm(seen, filters, out=products)
    to = found[n].numpy()
    winograd.results(products.numpy(), bias.detach().numpy(), first, high, to)


def _scratch(count: int, blocks: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """[count, blocks, inputs] and [count, blocks, outputs]: a thread's own, to be used again."""
    sizes = [count * blocks * channels for channels in (inputs, outputs)]
    scratch = getattr(_here, "scratch", None)
    if scratch is None or len(scratch) < sum(sizes):
        with torch.inference_mode(False):
            _here.scratch = scratch = torch.empty(sum(sizes))
    seen, products = scratch[: sum(sizes)].split(sizes)
    return seen.view(count, blocks, inputs), products.view(count, blocks, outputs)


def fault() -> str | None:
    """Compiles what is not compiled, and says what is wrong with it, or None."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 14, 24, generator=generator)
    weight = torch.randn(24, 24, 3, 3, generator=generator) / 15
    bias = torch.randn(24, generator=generator)
    found = filtered(x, transformed(weight), bias)
    usual = torch.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1).permute(0, 2, 3, 1)
    if float((found - usual).abs().max()) > 1e-3:
        return "compiled convolutions do not find what PyTorch finds"
    return None
