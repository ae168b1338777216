"""Weights of LPIPS that are random."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from vqcodec.metrics.lpips import FORMAT, KINDS, Network


def random_weights(kind: str) -> dict[str, torch.Tensor]:
    """Tensors of one network, which keep the size of features, and heads above 0."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, own in Network(KINDS[kind]).state_dict().items():
        shape = own.shape
        fan_in = max(1, shape[1:].numel()) if len(shape) == 4 else 1
        weights = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        found[name] = weights.abs() if name.startswith("heads") else weights
    return found


def write_random_lpips(folder: Path) -> dict[str, Path]:
    """A file of each network."""
    for kind in KINDS:
        metadata = {"format": FORMAT, "kind": kind, "source": "random", "of": "0123"}
        save_file(random_weights(kind), folder / f"{kind}.safetensors", metadata)
    return {kind: folder / f"{kind}.safetensors" for kind in KINDS}
