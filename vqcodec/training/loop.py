"""What every training run shares: processes, schedule, progress, log, checkpoints."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 layers run in hardware there; elsewhere emulation is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.10
    return bool(capabilities.get("avx512_bf16", False))


class Processes:
    """The processes of one training: one alone, or those that torchrun started.

    Under torchrun the group uses NCCL on GPUs and gloo on CPUs.
    """

    def __init__(self, device: str | None = None) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
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

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()


class Schedule:
    """Learning-rate factor over a run that ends after `steps` steps or `minutes`, first of both.

    Warm-up over 200 steps, constant, then linear decay to zero over the last `decay` of the run.
    Time already spent before a resume counts.
    """

    WARM_UP_STEPS = 200

    def __init__(self, steps: int, minutes: float | None, decay: float, spent: float) -> None:
        self.steps = steps
        self.seconds = None if minutes is None else minutes * 60
        self.decay = decay
        self.start = time.monotonic() - spent

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, earlier parts of a resumed run included."""
        return time.monotonic() - self.start

    def progress(self, step: int) -> float:
        """0 at the start, 1 at the end."""
        by_step = step / self.steps
        return min(1.0, max(by_step, self.elapsed / self.seconds if self.seconds else 0.0))

    def factor(self, step: int, progress: float) -> float:
        """What to multiply the learning rate with."""
        warm = min(1.0, (step + 1) / self.WARM_UP_STEPS)
        return warm * min(1.0, (1.0 - progress) / self.decay)


class Log:
    """A CSV log of a run, its config beside it, and a progress bar on stderr.

    A resumed run goes on with the same file.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any], leads: bool) -> None:
        self.path = directory / "log.csv"
        self.leads = leads
        self.columns: list[str] | None = None
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>5.1f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not leads,
        )
        self.task = self.progress.add_task("training", total=1.0)
        if leads:
            directory.mkdir(parents=True, exist_ok=True)
            text = json.dumps(config, indent=2, default=str)
            (directory / "config.json").write_text(text + "\n")

    def __enter__(self) -> Log:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def advance(self, progress: float, description: str) -> None:
        """Moves the bar."""
        self.progress.update(self.task, completed=progress, description=description)

    def write(self, row: Mapping[str, float]) -> None:
        """Appends one row; the first one of a file names the columns."""
        if not self.leads:
            return
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if fresh:
                writer.writerow(row)
            writer.writerow(
                value if isinstance(value, int) else f"{value:.6g}" for value in row.values()
            )
