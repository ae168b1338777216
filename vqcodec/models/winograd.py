"""Residual blocks with fewer multiplications, for networks that are not being trained.

Sixteen results of a 3x3 filter are found from 6x6 inputs with 36 multiplications in place of 144:
inputs and filters are transformed, multiplied, and transformed back. Results differ from the usual
sums by rounding, some 1e-5 of their size. What is compiled is in `vqcodec.kernels.residual`.

Source: Lavin and Gray 2016, F(4x4, 3x3), section 4.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqcodec import kernels
from vqcodec.threads import spread

LEAST = 24  # blocks that a thread takes at a time

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


class Weights:
    """Weights of a residual block, as compiled code takes them; each is made when it is needed.

    Args:
        convolution: [C, C, 3, 3] and its bias [C].
        linear: [C, C] and its bias [C].
    """

    def __init__(self, convolution: nn.Conv2d, linear: nn.Linear) -> None:
        self._of = [(each, each._version) for each in _parameters(convolution, linear)]
        self._filters = convolution.weight.detach()
        self._linear = linear.weight.detach()
        self.first_bias, self.bias = (
            each.detach().numpy() for each in _parameters(convolution, linear)[1::2]
        )

    def fit(self, convolution: nn.Conv2d, linear: nn.Linear) -> bool:
        """Whether these are still the weights of those."""
        now = _parameters(convolution, linear)
        known = zip(now, self._of, strict=True)
        return all(each is own and each._version == version for each, (own, version) in known)

    @cached_property
    def filters(self) -> Any:
        """float32 [36, C / n, C, n]."""
        return _packed(_transformed(self._filters))

    @cached_property
    def turned_filters(self) -> Any:
        """Those of the gradient."""
        return _packed(_transformed(self._filters.flip(2, 3).transpose(0, 1)))

    @cached_property
    def linear(self) -> Any:
        """float32 [C / n, C, n]."""
        return _packed(self._linear.T)

    @cached_property
    def turned_linear(self) -> Any:
        """Those of the gradient."""
        return _packed(self._linear)


def _parameters(convolution: nn.Conv2d, linear: nn.Linear) -> list[Tensor]:
    assert convolution.bias is not None
    return [convolution.weight, convolution.bias, linear.weight, linear.bias]


def _transformed(weight: Tensor) -> Tensor:
    """Filters [O, C, 3, 3] to [36, C, O]."""
    return torch.einsum("ix,jy,ocxy->ijco", _FILTERS, _FILTERS, weight).flatten(0, 1)


def _packed(weight: Tensor) -> Any:
    """[..., C, O] to [..., O / n, C, n]: n filters lie together, and those missing are 0."""
    from vqcodec.kernels.residual import FILTERS

    filled = F.pad(weight, (0, -weight.shape[-1] % FILTERS))
    return filled.unflatten(-1, (-1, FILTERS)).transpose(-3, -2).contiguous().numpy()


def usable(x: Tensor, weight: Tensor) -> bool:
    """Whether `residual` can be used: nothing is trained, in float32, and it is compiled."""
    if x.dtype != torch.float32 or not kernels.usable(x.device):
        return False
    trained = torch.is_grad_enabled() and weight.requires_grad
    return not trained and not torch.is_autocast_enabled(x.device.type)


def residual(x: Tensor, weights: Weights, scale: Tensor | None) -> Tensor:
    """The residual block x + Linear(ReLU(Conv3x3(x)) * scale), with a gradient for x alone.

    Args:
        x: float32 [B, H, W, C].
        weights: Of the block.
        scale: float32 [B, C]; None for 1.
    """
    scale = x.new_ones(len(x), x.shape[3]) if scale is None else scale.detach().contiguous()
    found: Tensor = _Residual.apply(x.contiguous(), weights, scale)  # type: ignore[no-untyped-call]
    return found


class _Residual(torch.autograd.Function):
    """See `residual`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Weights, scale: Tensor) -> Tensor:
        from vqcodec.kernels import residual

        b, h, w, c = x.shape
        blocks = b * -(-h // residual.SIDE) * -(-w // residual.SIDE)
        found = torch.empty_like(x)
        positive = np.empty((blocks, residual.PLACES, c), np.bool_)
        seen, scales, to = x.detach().numpy(), scale.numpy(), found.numpy()
        with torch.inference_mode(False):
            filters, linear = weights.filters, weights.linear

        def some(first: int, end: int) -> None:
            residual.forward(
                seen, filters, weights.first_bias, scales, linear, weights.bias,
                first, end, positive, to,
            )  # fmt: skip

        spread(some, blocks, LEAST)
        ctx.weights, ctx.scales, ctx.positive = weights, scales, positive
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        from vqcodec.kernels import residual

        weights, scales, positive = ctx.weights, ctx.scales, ctx.positive
        after = gradients[0].detach().contiguous().numpy()
        inner, found = np.empty_like(after), np.empty_like(after)
        linear, filters = weights.turned_linear, weights.turned_filters

        def outer(first: int, end: int) -> None:
            residual.backward_linear(after, linear, scales, positive, first, end, inner)

        def of_filters(first: int, end: int) -> None:
            residual.backward_filters(inner, after, filters, first, end, found)

        for some in (outer, of_filters):
            spread(some, len(positive), LEAST)
        return torch.from_numpy(found), None, None


def fault() -> str | None:
    """Compiles what is not compiled, and says what is wrong with it, or None."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    with torch.inference_mode(False), torch.enable_grad():
        convolution = nn.Conv2d(24, 24, 3, padding=1, device="meta")
        linear = nn.Linear(24, 24, device="meta")
        for part in (convolution, linear):
            for name, parameter in [*part.named_parameters()]:
                value = random(*parameter.shape) / 15
                setattr(part, name, nn.Parameter(value, requires_grad=False))
        x, scale, wanted = (
            random(2, 9, 14, 24).requires_grad_(),
            random(2, 24),
            random(2, 9, 14, 24),
        )
        hidden = torch.relu(convolution(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        usual = x + linear(hidden * scale[:, None, None])
        found = residual(x, Weights(convolution, linear), scale)
        # Of sums, as PyTorch loads large modules for gradients of anything else.
        sums = [(each * wanted).sum() for each in (usual, found)]
        gradients = [torch.autograd.grad(each, x)[0] for each in sums]
    errors = ((found - usual).detach(), gradients[1] - gradients[0])
    if any(float(error.abs().max()) > 1e-3 for error in errors):
        return "compiled convolutions do not find what PyTorch finds"
    return None
