"""Where a training runs: its device, and the processes that share it."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor

from vqcodec.errors import CodecError


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 layers run in hardware there; elsewhere emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.10
    return bool(capabilities.get("avx512_bf16", False))


def chosen_bfloat16(asked: bool | None, device: torch.device) -> bool:
    """Whether to run layers in bfloat16: as asked, or where the device is fast at it."""
    return fast_bfloat16(device) if asked is None else asked


def chosen_device(device: str | None) -> str:
    """The device that was asked for, or "cuda" if there is one, else "cpu".

    Raises:
        CodecError: it is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise CodecError("there is no device 'cuda' here; use cpu")
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


class Processes:
    """The processes of one training: one alone, or those that torchrun started.

    Under torchrun the group uses NCCL on GPUs and gloo on CPUs.

    Raises:
        CodecError: there is no such device.
    """

    def __init__(self, device: str | None = None) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        kind = chosen_device(device)
        self.device = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
        if self.count > 1 and not dist.is_initialized():
            if kind == "cuda":
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if kind == "cuda" else "gloo")

    @property
    def leads(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """The leading process's value, everywhere."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The leading process's tensor, everywhere (in place)."""
        if self.count > 1:
            dist.broadcast(tensor, 0)
        return tensor

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()
