"""Syntheses on another device: nothing they compute with is left on the CPU.

There is no such device here: fake tensors have shapes and a device, and an operation on tensors of
two devices is an error, as it would be on a GPU. PyTorch's builds for CPUs move nothing to "cuda",
so the device is "lazy". (Analysis and
priors choose by values, which fake tensors do not have.)
"""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from tiny import CONFIG, GROUPED, tiny_autoencoder
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vqcodec.models.autoencoder import AutoencoderConfig

DEVICE = torch.device("lazy", 0)
COUNT, SIDE = 2, 64
Network = TypeVar("Network", bound=nn.Module)


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
    def test_the_synthesis(self, config: AutoencoderConfig) -> None:
        network = tiny_autoencoder(config)
        with FakeTensorMode():
            quality = torch.zeros(COUNT, dtype=torch.int64, device=DEVICE)
            restored = moved(network).synthesize(indices_of(config), quality)
            assert restored.device == DEVICE
            assert restored.shape == (COUNT, SIDE, SIDE, 3)


def test_what_is_left_behind_is_noticed() -> None:
    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        moved(nn.Linear(2, 2))(torch.zeros(1, 2))
