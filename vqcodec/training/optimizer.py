"""Optimizers of the training loop.

`Muon` moves every hidden matrix by the nearest semi-orthogonal matrix to its averaged gradient, so
that all directions of it learn equally fast, and everything else by AdamW.

Source: Jordan et al. 2024 (Muon: momentum, Newton-Schulz iteration and its coefficients); Liu et
al. 2025 (the scale that makes updates as large as those of AdamW, so that both share a learning
rate).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vqcodec.errors import CodecError
from vqcodec.models.layers import ZeroLinear
from vqcodec.models.prior import Convolution, Head
from vqcodec.training.settings import Training

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
    """Moves matrices by Muon.

    Args:
        matrices: Parameters [M, ...]; what follows the first dimension is taken as one.
        lr: Learning rate.
        momentum: Of the averaged gradients.
        weight_decay: Share of the learning rate that a weight shrinks by.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients there are."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average: Tensor = state["momentum"]
                average.lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(average, group["momentum"])  # Nesterov
                move = orthogonalized(ahead.flatten(1)).view_as(parameter)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(move, alpha=group["lr"])


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the hidden matrices of a model, AdamW for its other parameters.

    Args:
        model: Whose parameters to move.
        lr: Learning rate of both.
        betas: Of AdamW.
        weight_decay: Of both.
    """

    def __init__(
        self, model: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        matrices = list(hidden_matrices(model))
        chosen = {id(each) for each in matrices}
        others = [each for each in model.parameters() if id(each) not in chosen]
        self.parts = [
            Muon(matrices, lr, weight_decay=weight_decay),
            torch.optim.AdamW(others, lr, betas, weight_decay=weight_decay),
        ]
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Has both parts work on what this optimizer holds, its groups and its state."""
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients there are."""
        assert closure is None
        for part in self.parts:
            part.step()


def make_optimizer(training: Training, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the settings name.

    Raises:
        CodecError: no optimizer has that name.
    """
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "muon":
        return MuonWithAdamW(model, rate, training.betas, decay)
    if training.optimizer != "adamw":
        raise CodecError(f"unknown optimizer {training.optimizer!r}; there are: adamw, muon")
    return torch.optim.AdamW(model.parameters(), rate, training.betas, weight_decay=decay)
