from __future__ import annotations

import pytest
import torch
from torch import nn

from vqcodec.models.layers import ZeroLinear
from vqcodec.training.checkpoint import load_optimizer, optimizer_tensors
from vqcodec.training.optimizer import UPDATE_SIZE, Muon, hidden_matrices, orthogonalized


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (16, 16)])
def test_updates_have_equal_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    found = orthogonalized(torch.randn(shape)) / (UPDATE_SIZE * max(shape) ** 0.5)
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.3
    assert values[: len(values) // 2].min() > 0.6


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), ZeroLinear(8, 2))


def test_outputs_and_vectors_are_no_hidden_matrices() -> None:
    model = network()
    assert [each.shape for each in hidden_matrices(model)] == [(8, 4)]


def test_it_learns_and_resumes() -> None:
    model = network()
    optimizer = Muon(model, 1e-2, (0.9, 0.95))
    inputs = torch.randn(64, 4)
    wanted = inputs @ torch.randn(4, 2)

    def step(model: nn.Module, optimizer: Muon) -> float:
        loss = (model(inputs) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    losses = [step(model, optimizer) for _ in range(50)]
    assert losses[-1] < losses[0] * 0.9
    again = network()
    again.load_state_dict(model.state_dict())
    other = Muon(again, 1e-2, (0.9, 0.95))
    tensors = {name: value.clone() for name, value in optimizer_tensors(optimizer).items()}
    load_optimizer(other, tensors)
    assert [step(model, optimizer) for _ in range(3)] == [step(again, other) for _ in range(3)]
