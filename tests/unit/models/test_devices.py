"""Networks and objectives on another device: nothing they compute with is left on the CPU.

There is no such device here: fake tensors have shapes and a device, and an operation on tensors of
two devices is an error, as it would be on a GPU. PyTorch's builds for CPUs move nothing to "cuda",
so the device is "lazy".
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from tiny import CONFIG, GROUPED, tiny_autoencoder, tiny_priors
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vqcodec.models.autoencoder import AutoencoderConfig
from vqcodec.training.hvq import RateDistortion
from vqcodec.training.prior import BitsPerPosition
from vqcodec.training.settings import AutoencoderTraining, resolve

DEVICE = "lazy"
COUNT, SIDE = 2, 64
Network = TypeVar("Network", bound=nn.Module)


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast does not know the device, and what has no values is neither true nor false."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    monkeypatch.setattr(Tensor, "__bool__", lambda _: False)


def moved(network: Network) -> Network:
    """The network with fake weights on the device."""
    for part in network.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=weight.dtype, device=DEVICE)
                part._parameters[name] = nn.Parameter(fake, weight.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=DEVICE)
    return network


def indices_of(config: AutoencoderConfig) -> list[Tensor]:
    return [
        torch.zeros(
            *(COUNT, len(level.codebooks), SIDE // level.stride, SIDE // level.stride),
            dtype=torch.int64,
            device=DEVICE,
        )
        for level in config.levels
    ]


@pytest.mark.parametrize("config", [CONFIG, GROUPED], ids=["plain", "grouped"])
class TestElsewhere:
    def test_both_directions(self, config: AutoencoderConfig) -> None:
        network = tiny_autoencoder(config)
        with FakeTensorMode():
            autoencoder = moved(network)
            quality = torch.zeros(COUNT, dtype=torch.int64, device=DEVICE)
            pixels = torch.zeros(COUNT, SIDE, SIDE, 3, dtype=torch.uint8, device=DEVICE)
            found, distances = autoencoder.quantize(pixels, quality)
            assert {each.device.type for each in (*found, distances)} == {DEVICE}
            assert [each.shape for each in found] == [each.shape for each in indices_of(config)]
            restored = autoencoder.synthesize(found, quality)
            assert (restored.device.type, restored.shape) == (DEVICE, pixels.shape)

    def test_a_step_of_the_autoencoder(self, config: AutoencoderConfig) -> None:
        settings = resolve(
            AutoencoderTraining, output=Path("out"), sources=[(Path(), 1.0)], preset="tiny"
        )
        network = tiny_autoencoder(config).train()
        conditions = RateDistortion(network, settings).conditions(COUNT, np.random.default_rng(0))
        with FakeTensorMode():
            objective = RateDistortion(moved(network), settings)
            pixels = torch.zeros(COUNT, SIDE, SIDE, 3, dtype=torch.uint8, device=DEVICE)
            there = (
                torch.zeros(each.shape, dtype=each.dtype, device=DEVICE) for each in conditions
            )
            loss, means = objective(pixels, *there)
            loss.backward()
            assert {each.device.type for each in means.values()} == {DEVICE}
            gradients = [each.grad for each in network.parameters() if each.grad is not None]
            assert {each.device.type for each in gradients} == {DEVICE}

    def test_a_step_of_the_priors(self, config: AutoencoderConfig) -> None:
        for level, prior in enumerate(tiny_priors(tiny_autoencoder(config))):
            with FakeTensorMode():
                quality, label = torch.zeros(2, COUNT, dtype=torch.int64, device=DEVICE)
                objective = BitsPerPosition(moved(prior), level, bfloat16=False)
                loss, _ = objective(quality, label, *indices_of(config)[: level + 1])
                loss.backward()
                assert loss.device.type == DEVICE


def test_what_is_left_behind_is_noticed() -> None:
    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        moved(nn.Linear(2, 2))(torch.zeros(1, 2))
