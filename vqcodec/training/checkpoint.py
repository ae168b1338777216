"""Checkpoints: tensors and a JSON state in one safetensors file, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from vqcodec import files
from vqcodec.errors import CodecError


def save(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Writes to a temporary name beside `path`, then renames."""
    files.make_folder(path.parent)
    contiguous = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    content = serialize(contiguous, {"state": json.dumps(state)})
    files.write_atomically(path, content, force=True)


def load(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save` wrote: tensors by name, and the JSON state.

    Raises:
        CodecError: missing or not a checkpoint.
    """
    try:
        with safe_open(path, "pt", device=device) as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return tensors, json.loads((opened.metadata() or {})["state"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = f"is not a training checkpoint ({error}); name one written by vqcodec train"
        raise CodecError(reason).in_file(path) from error


def load_state(path: Path) -> dict[str, Any]:
    """The JSON state alone."""
    return load(path)[1]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Optimizer state as flat tensors `index.field`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{field}": torch.as_tensor(value)
        for index, fields in state.items()
        for field, value in fields.items()
    }


# What `MuonWithAdamW` keeps, by the names that checkpoints of Muon runs may have for it.
ADAMW_FIELDS = {"first": "exp_avg", "second": "exp_avg_sq"}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Inverse of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, field = name.split(".", 1)
        state.setdefault(int(index), {})[ADAMW_FIELDS.get(field, field)] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


class Average:
    """Exponential moving average of a module's parameters (Polyak averaging).

    Early on the decay is lower, so that the start is forgotten; buffers are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from saved averages."""
        for name, value in self.tensors.items():
            value.copy_(tensors[name])

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves the averages towards a module after `step` steps before this one."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(module.named_parameters())
        averages, values = [], []
        for name, value in module.state_dict().items():
            if name in parameters:
                averages.append(self.tensors[name])
                values.append(value)
            else:
                self.tensors[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)
