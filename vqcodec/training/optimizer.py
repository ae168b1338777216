"""Optimizers of the training loop.

`Muon` moves every hidden matrix by the nearest semi-orthogonal matrix to its averaged gradient, so
that all directions of it learn equally fast, and everything else by AdamW.

Source: Jordan et al. 2024 (Muon: momentum, Newton-Schulz iteration and its coefficients); Liu et
al. 2025 (the scale that makes updates as large as those of AdamW, so that both share a learning
rate).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vqcodec.models.layers import ZeroLinear
from vqcodec.models.prior import Convolution, Head

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 4
UPDATE_SIZE = 0.2  # root mean square of an element of an update, as of AdamW's in practice


def hidden_matrices(model: nn.Module) -> Iterator[Tensor]:
    """Weights between features: those of linear layers and convolutions that aren't outputs."""
    for part in model.modules():
        if isinstance(part, (ZeroLinear, Head)):
            continue
        if isinstance(part, (nn.Linear, nn.Conv2d, Convolution)):
            yield part.weight


def orthogonalized(matrix: Tensor) -> Tensor:
    """Nearly the semi-orthogonal factor of the polar decomposition of [M, N], times its scale.

    The iteration runs on the smaller of the two Gram matrices, which all its steps commute with.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / (wide.norm() + 1e-12)
    gram = wide @ wide.T
    identity = torch.eye(len(gram), device=gram.device)
    a, b, c = COEFFICIENTS
    factor = step = torch.addmm(a * identity + b * gram, gram, gram, alpha=c)
    for _ in range(ITERATIONS - 1):
        gram = step @ gram @ step
        step = torch.addmm(a * identity + b * gram, gram, gram, alpha=c)
        factor = step @ factor
    found: Tensor = (factor @ wide) * (UPDATE_SIZE * max(matrix.shape) ** 0.5)
    return found.T if tall else found


class Muon(torch.optim.Optimizer):
    """Muon for the hidden matrices of a model, AdamW for its other parameters.

    Args:
        model: Whose parameters to move.
        lr: Learning rate of both.
        betas: Of AdamW.
        momentum: Of Muon.
        weight_decay: Of both.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        betas: tuple[float, float],
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        matrices = list(hidden_matrices(model))
        chosen = {id(each) for each in matrices}
        others = [each for each in model.parameters() if id(each) not in chosen]
        shared = {"betas": betas, "momentum": momentum, "weight_decay": weight_decay}
        groups = [{"params": matrices, "matrices": True}, {"params": others, "matrices": False}]
        super().__init__(groups, {"lr": lr, **shared})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients there are."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                move = self._matrix if group["matrices"] else self._other
                parameter.sub_(move(parameter, group), alpha=group["lr"])

    def _matrix(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        average: Tensor = state["momentum"]
        average.lerp_(parameter.grad, 1 - group["momentum"])
        ahead = parameter.grad.lerp(average, group["momentum"])  # Nesterov
        return orthogonalized(ahead.flatten(1)).view_as(parameter)

    def _other(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["first"] = torch.zeros_like(parameter)
            state["second"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        small, large = group["betas"]
        state["step"] += 1
        state["first"].lerp_(parameter.grad, 1 - small)
        state["second"].mul_(large).addcmul_(parameter.grad, parameter.grad, value=1 - large)
        first: Tensor = state["first"] / (1 - small ** state["step"])
        second: Tensor = state["second"] / (1 - large ** state["step"])
        return first / (second.sqrt() + 1e-8)
