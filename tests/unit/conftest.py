"""Fixtures of several modules' tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vqcodec.image import load


@pytest.fixture(scope="session")
def crops(coffee: Path) -> Tensor:
    """uint8 [24, 64, 64, 3] of a photograph."""
    pixels = load(coffee).pixels
    corners = [(y, x) for y in range(0, 256, 64) for x in range(0, 384, 64)]
    return torch.from_numpy(np.stack([pixels[y : y + 64, x : x + 64] for y, x in corners]))
