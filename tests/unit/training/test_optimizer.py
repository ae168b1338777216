from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import tiny_autoencoder
from torch import nn

from vqcodec.errors import CodecError
from vqcodec.models.layers import Knots, ZeroLinear
from vqcodec.training.checkpoint import load_optimizer, optimizer_tensors
from vqcodec.training.optimizer import (
    UPDATE_SIZE,
    Muon,
    MuonWithAdamW,
    hidden_matrices,
    make_optimizer,
    orthogonalized,
)
from vqcodec.training.settings import Training


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (30, 270)])
def test_updates_have_nearly_equal_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    found = orthogonalized(gradient) / (UPDATE_SIZE * max(shape) ** 0.5)
    before, values = torch.linalg.svdvals(gradient), torch.linalg.svdvals(found)
    assert before.max() / before.min() > 1.8
    assert values.max() / values.min() < 1.8
    assert 0.6 < values.min() < values.max() < 1.2
    # The directions stay: the product with the gradient is symmetric, as of a polar decomposition.
    product = found @ gradient.T
    torch.testing.assert_close(product, product.T, rtol=1e-4, atol=1e-4)
    assert float((found * gradient).sum()) > 0


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_an_update_does_not_depend_on_the_size_of_the_gradient(scale: float) -> None:
    torch.manual_seed(0)
    gradient = torch.randn(8, 20)
    torch.testing.assert_close(
        orthogonalized(gradient * scale), orthogonalized(gradient), rtol=1e-3, atol=1e-4
    )
    assert (orthogonalized(torch.zeros(8, 20)) == 0).all()


def test_updates_of_all_shapes_are_as_large_as_those_of_adamw() -> None:
    torch.manual_seed(0)
    for shape in ((16, 40), (40, 16), (8, 300)):
        size = orthogonalized(torch.randn(shape)).square().mean().sqrt()
        assert 0.65 < float(size) / UPDATE_SIZE < 1.1


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), ZeroLinear(8, 2))


def test_outputs_and_vectors_are_no_hidden_matrices() -> None:
    model = network()
    assert [each.shape for each in hidden_matrices(model)] == [(8, 4)]


def test_hidden_matrices_of_the_autoencoder() -> None:
    model = tiny_autoencoder()
    chosen = {id(each) for each in hidden_matrices(model)}
    names = {name for name, each in model.named_parameters() if id(each) in chosen}
    assert len(names) == len(chosen)
    kinds = {name.split(".")[-2] for name in names}
    assert kinds >= {"conv", "linear", "analysis_in", "synthesis_in", "upsample", "rate_context"}
    assert all(name.endswith(".weight") for name in names)
    others = ("_out.", "rate_logits", "quality", "basis", "bias")
    assert not any(other in name for name in names for other in others)


class Everything(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(6, 5)
        self.out = ZeroLinear(5, 2)
        self.knots = Knots(3, 4)
        self.basis = nn.Parameter(torch.randn(7, 3))


def test_what_is_no_hidden_matrix_moves_by_adamw() -> None:
    models = [Everything(), Everything()]
    betas, rate, decay = (0.9, 0.95), 3e-3, 0.1
    muon = MuonWithAdamW(models[0], rate, betas, decay)
    adamw = torch.optim.AdamW(models[1].parameters(), rate, betas, weight_decay=decay)
    for step in range(5):
        for model in models:
            torch.manual_seed(step)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter) * 10.0 ** (step - 3)
        muon.step()
        adamw.step()
    expected = dict(models[1].named_parameters())
    for name, found in models[0].named_parameters():
        if name in {"conv.weight", "linear.weight"}:
            assert (found - expected[name]).abs().max() > rate / 10
        else:
            torch.testing.assert_close(found, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["conv.weight", "linear.weight"])
def test_hidden_matrices_move_by_the_orthogonalized_average(name: str) -> None:
    model, rate, decay, momentum = Everything(), 0.1, 0.5, 0.9
    parameter = dict(model.named_parameters())[name]
    muon = Muon([parameter], rate, momentum, decay)
    expected, average = parameter.detach().clone(), torch.zeros_like(parameter)
    for _ in range(3):
        gradient = torch.randn_like(parameter)
        parameter.grad = gradient
        muon.step()
        average = momentum * average + (1 - momentum) * gradient
        ahead = momentum * average + (1 - momentum) * gradient
        moved = orthogonalized(ahead.flatten(1)).view_as(ahead)
        expected = expected * (1 - rate * decay) - rate * moved
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-5)


def test_parameters_without_a_gradient_stay() -> None:
    model = Everything()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    muon = MuonWithAdamW(model, 0.1, (0.9, 0.95), 0.5)
    model.linear.weight.grad = torch.ones_like(model.linear.weight)
    muon.step()
    changed = {name for name, each in model.state_dict().items() if not each.equal(before[name])}
    assert changed == {"linear.weight"}


def test_it_learns_and_resumes() -> None:
    model = network()
    optimizer = MuonWithAdamW(model, 1e-2, (0.9, 0.95))
    inputs = torch.randn(64, 4)
    wanted = inputs @ torch.randn(4, 2)

    def step(model: nn.Module, optimizer: MuonWithAdamW) -> float:
        loss = (model(inputs) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    losses = [step(model, optimizer) for _ in range(50)]
    assert losses[-1] < losses[0] * 0.9
    again = network()
    again.load_state_dict(model.state_dict())
    other = MuonWithAdamW(again, 1e-2, (0.9, 0.95))
    tensors = {name: value.clone() for name, value in optimizer_tensors(optimizer).items()}
    load_optimizer(other, tensors)
    assert [step(model, optimizer) for _ in range(3)] == [step(again, other) for _ in range(3)]


def test_the_learning_rate_of_its_groups_is_that_of_both_parts() -> None:
    model = Everything()
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    optimizer = MuonWithAdamW(model, 0.1, (0.9, 0.95))
    optimizer.load_state_dict(optimizer.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(torch.equal(each, before[name]) for name, each in model.named_parameters())
    assert len(optimizer.state) == len(before)


def test_names_of_earlier_checkpoints_are_read() -> None:
    model = network()
    optimizer = MuonWithAdamW(model, 1e-2, (0.9, 0.95))
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    names = {"exp_avg": "first", "exp_avg_sq": "second"}
    earlier = {}
    for name, value in optimizer_tensors(optimizer).items():
        index, field = name.split(".")
        earlier[f"{index}.{names.get(field, field)}"] = value.clone()
    assert {name.split(".")[1] for name in earlier} == {"momentum", "step", "first", "second"}
    other = MuonWithAdamW(network(), 1e-2, (0.9, 0.95))
    load_optimizer(other, earlier)
    expected, found = optimizer_tensors(optimizer), optimizer_tensors(other)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_optimizers_have_the_settings_of_the_run(tmp_path: Path) -> None:
    rate, betas, decay = 3e-3, (0.8, 0.9), 0.01
    given = {"learning_rate": rate, "betas": betas, "weight_decay": decay}
    model = tiny_autoencoder()
    for name, kind in (("adamw", torch.optim.AdamW), ("muon", MuonWithAdamW)):
        found = make_optimizer(Training(output=tmp_path, optimizer=name, **given), model)
        assert type(found) is kind
        moved = [id(each) for group in found.param_groups for each in group["params"]]
        assert sorted(moved) == sorted(map(id, model.parameters()))
        for group in found.param_groups:
            assert (group["lr"], group["weight_decay"]) == (rate, decay)
        assert found.param_groups[-1]["betas"] == betas
    with pytest.raises(CodecError, match="'sgd'; there are: adamw, muon"):
        make_optimizer(Training(output=tmp_path, optimizer="sgd"), model)
