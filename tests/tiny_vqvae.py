"""Small autoencoders of the papers' kinds, with codes that start from random pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vqcodec.models.vqvae import VQVAE, VQVAEConfig, VQVAELevel
from vqcodec.training.vqvae import start_from_latents

SMALL = {"channels": 16, "residual_channels": 8, "residual_blocks": 1}
ONE = VQVAEConfig((VQVAELevel(4, 16, 4),), **SMALL)  # type: ignore[arg-type]
PYRAMID = replace(ONE, levels=(VQVAELevel(8, 16, 4), VQVAELevel(4, 8, 3), VQVAELevel(2, 16, 4)))
RESIDUAL = replace(ONE, levels=(VQVAELevel(4, 8, 4), VQVAELevel(4, 5, 4)))
LINKED = replace(ONE, levels=(VQVAELevel(4, 3, 4), VQVAELevel(4, 4, 4), VQVAELevel(4, 2, 4)))
LINKED = replace(LINKED, linked=True)
CONFIGS = {"one": ONE, "pyramid": PYRAMID, "residual": RESIDUAL, "linked": LINKED}

every_config = pytest.mark.parametrize("name", CONFIGS)


def pixels(count: int = 2, height: int = 32, width: int = 48, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, height, width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def started(name: str) -> VQVAE:
    torch.manual_seed(0)
    autoencoder = VQVAE(CONFIGS[name])
    start_from_latents(autoencoder, pixels(), 0)
    return autoencoder
