"""Weights of DISTS that are random."""

from __future__ import annotations

from pathlib import Path

import torch
from random_lpips import random_tensors
from safetensors.torch import save_file

from vqcodec.metrics.dists import FORMAT, Network


def random_dists() -> dict[str, torch.Tensor]:
    """Tensors which keep the size of features; alpha and beta are above 0 and sum to 1."""
    found = random_tensors(Network())
    channels = [name for name in found if not name.startswith("stages.")]
    total = sum(float(found[name].abs().sum()) for name in channels)
    return found | {name: found[name].abs() / total for name in channels}


def write_random_dists(folder: Path) -> Path:
    """A weights file."""
    path = folder / "dists.safetensors"
    save_file(random_dists(), path, {"format": FORMAT, "source": "random", "of": "0123"})
    return path
