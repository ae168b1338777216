"""What every training run shares: processes, schedule, optimizer, log, checkpoints, resuming."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch.nn.parallel import DistributedDataParallel

from vqcodec.entropy.layers import under
from vqcodec.errors import CodecError
from vqcodec.models.layers import ResidualBlock
from vqcodec.models.prior import GatedBlock
from vqcodec.models.vqvae import PreactivatedBlock
from vqcodec.training import checkpoint
from vqcodec.training.optimizer import Muon


@dataclass(kw_only=True)
class Training:
    """Settings of any run.

    Attributes:
        output: Folder for checkpoint, log and config.
        steps: Steps at most.
        minutes: Minutes at most, or None.
        batch: Examples a step and process.
        learning_rate: Peak of the schedule.
        optimizer: "adamw", or "muon" for AdamW with Muon for hidden matrices.
        betas: Of AdamW.
        weight_decay: Of AdamW.
        warm_up: Steps over which the learning rate rises.
        decay: Share of the run over which the learning rate falls to zero.
        average_decay: Decay of the weights' moving average.
        largest_gradient: Gradients with a larger norm are scaled down to it.
        checkpoint_minutes: Minutes between checkpoints.
        log_every: Steps between rows of the log.
        compile: Compile the residual blocks; pays on GPUs, and takes a minute at the start.
        bfloat16: Run the networks' layers in bfloat16; None means where the device is fast at it.
        seed: Of initial weights and examples.
        device: "cpu", "cuda", or None for whichever there is.
    """

    output: Path
    steps: int = 100_000
    minutes: float | None = None
    batch: int = 8
    learning_rate: float = 1.2e-3
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    warm_up: int = 200
    decay: float = 0.6
    average_decay: float = 0.999
    largest_gradient: float = 2.0
    checkpoint_minutes: float = 4.0
    log_every: int = 25
    compile: bool = False
    bfloat16: bool | None = None
    seed: int = 0
    device: str | None = None

    @property
    def checkpoint(self) -> Path:
        """Where the run keeps what it needs to go on."""
        return self.output / "checkpoint.safetensors"


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 layers run in hardware there; elsewhere emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.10
    return bool(capabilities.get("avx512_bf16", False))


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


class Schedule:
    """Learning-rate factor over a run that ends after `steps` steps or `minutes`, first of both.

    Linear warm-up over `warm_up` steps, constant, then linear decay to zero over the last `decay`
    of the run. Time already spent before a resume counts.
    """

    def __init__(
        self, steps: int, minutes: float | None, decay: float, spent: float, warm_up: int = 200
    ) -> None:
        self.steps = steps
        self.warm_up = warm_up
        self.seconds = None if minutes is None else minutes * 60
        self.decay = decay
        self.start = time.monotonic() - spent

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, earlier parts of a resumed run included."""
        return time.monotonic() - self.start

    def progress(self, step: int) -> float:
        """0 at the start, 1 at the end."""
        by_time = 0.0
        if self.seconds is not None:
            by_time = self.elapsed / self.seconds if self.seconds else 1.0
        return min(1.0, max(step / self.steps, by_time))

    def factor(self, step: int, progress: float) -> float:
        """What to multiply the learning rate with."""
        warm = min(1.0, (step + 1) / self.warm_up)
        return warm * min(1.0, (1.0 - progress) / self.decay)


class Log:
    """A CSV log of a run.

    Args:
        path: The file; a resumed run goes on with it.
        step: Steps done so far. Rows after it, of a run that broke off, are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if path.exists():
            head, *rows = path.read_text().splitlines(keepends=True) or [""]
            kept = [row for row in rows if int(row.split(",")[0]) <= step]
            path.write_text("".join([head, *kept] if kept else []))

    def write(self, row: Mapping[str, float]) -> None:
        """Appends one row; the first one of a file names the columns."""
        fresh = not self.path.exists() or self.path.stat().st_size == 0
        with self.path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if fresh:
                writer.writerow(row)
            writer.writerow(
                value if isinstance(value, int) else f"{value:.6g}" for value in row.values()
            )


def make_optimizer(training: Training, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the settings name.

    Raises:
        CodecError: no optimizer has that name.
    """
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "muon":
        return Muon(model, rate, training.betas, weight_decay=decay)
    if training.optimizer != "adamw":
        raise CodecError(f"unknown optimizer {training.optimizer!r}; there are: adamw, muon")
    return torch.optim.AdamW(model.parameters(), rate, training.betas, weight_decay=decay)


def resume(
    training: Training, architecture: Mapping[str, Any], autoencoder: str | None = None
) -> dict[str, Tensor]:
    """Tensors of the run's checkpoint, empty for a fresh run.

    Args:
        training: The run's settings.
        architecture: JSON-ready form of the model's config.
        autoencoder: `export.fingerprint` of the autoencoder whose indices a prior predicts.

    Raises:
        CodecError: the checkpoint is of another architecture or autoencoder.
    """
    if not training.checkpoint.exists():
        return {}
    tensors, state = checkpoint.load(training.checkpoint)
    if state.get("autoencoder_sha256", autoencoder) != autoencoder:
        reason = "was trained on the indices of another autoencoder; use another output folder"
        raise CodecError(reason).in_file(training.checkpoint)
    if state["config"] != json.loads(json.dumps(architecture)):
        reason = "holds another architecture; use another output folder"
        raise CodecError(reason).in_file(training.checkpoint)
    return tensors


def compile_blocks(model: nn.Module) -> None:
    """Lets torch.compile fuse each residual block: shapes around them change, theirs do not."""
    torch._dynamo.config.cache_size_limit = 64  # forms of one function: shapes, modes
    for part in model.modules():
        if isinstance(part, (ResidualBlock, PreactivatedBlock, GatedBlock)):
            part.compile(dynamic=False)


def run(
    training: Training,
    processes: Processes,
    model: nn.Module,
    objective: nn.Module,
    architecture: Mapping[str, Any],
    draw: Callable[[int], tuple[Tensor, ...]],
    before_step: Callable[[int, float, tuple[Tensor, ...]], None],
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Trains until the end of the schedule, from the checkpoint if there is one.

    Args:
        training: The settings.
        processes: All processes of the run.
        model: What is trained and averaged, on its device.
        objective: Around `model`; gives (loss, means to log by name) for a batch.
        architecture: JSON-ready config of the model; a checkpoint must have the same.
        draw: Batch of a step, the same for the same step. Another thread calls it, a step ahead, so
            it keeps away from torch's global generators.
        before_step: Called with the number of steps done, the progress in 0..1 and the batch.
        about: More to keep in the checkpoint's state, JSON-ready; `autoencoder_sha256` in it is
            for `resume`.

    Returns:
        The checkpoint: tensors `model.*` (as trained), `average.*` (to use), `optimizer.*`.
    """
    tensors = resume(training, architecture, (about or {}).get("autoencoder_sha256"))
    step, spent = 0, 0.0
    optimizer = make_optimizer(training, model)
    average = checkpoint.Average(model, training.average_decay)
    if tensors:
        model.load_state_dict(under("model", tensors))
        checkpoint.load_optimizer(optimizer, under("optimizer", tensors))
        average.load(under("average", tensors))
        state = checkpoint.load_state(training.checkpoint)
        step, spent = state["step"], state["seconds"]
    if training.compile:
        compile_blocks(model)
    wrapped = DistributedDataParallel(objective) if processes.count > 1 else objective
    schedule = Schedule(training.steps, training.minutes, training.decay, spent, training.warm_up)
    if processes.leads:
        training.output.mkdir(parents=True, exist_ok=True)
        log = Log(training.output / "log.csv", step)
        text = json.dumps(asdict(training), indent=2, default=str)
        (training.output / "config.json").write_text(text + "\n")

    def save() -> None:
        named = {f"model.{name}": value for name, value in model.state_dict().items()}
        named |= {f"average.{name}": value for name, value in average.tensors.items()}
        optimizing = checkpoint.optimizer_tensors(optimizer)
        named |= {f"optimizer.{name}": value for name, value in optimizing.items()}
        saved = {**(about or {}), "step": step, "seconds": schedule.elapsed, "config": architecture}
        checkpoint.save(training.checkpoint, named, saved)

    drops = any(isinstance(part, nn.Dropout) and part.p > 0 for part in model.modules())
    last_save = schedule.elapsed
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>5.1f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not processes.leads,
    )
    task = bar.add_task("training", total=1.0)
    with bar, ThreadPoolExecutor(1) as drawer:
        drawn: Future[tuple[Tensor, ...]] | None = None
        while (progress := processes.agree(schedule.progress(step))) < 1.0:
            batch = (drawn or drawer.submit(draw, step)).result()
            more = schedule.progress(step + 1) < 1.0
            drawn = drawer.submit(draw, step + 1) if more else None  # while this one is learnt from
            before_step(step, progress, batch)
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate * schedule.factor(step, progress)
            if drops:  # every process and step its own, and the same one after a resume
                seeds = np.random.SeedSequence([training.seed, processes.rank, step])
                torch.manual_seed(int(seeds.generate_state(1)[0]))
            try:
                loss, means = wrapped(*batch)
            except TorchDynamoException as error:
                reason = f"torch.compile does not work here ({type(error).__name__})"
                raise CodecError(f"{reason}; leave --compile out") from error
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), training.largest_gradient)
            optimizer.step()
            average.update(model, step)
            step += 1
            if step % training.log_every == 0 and processes.leads:
                row = {"step": step, "seconds": schedule.elapsed, "loss": float(loss.detach())}
                row |= {name: float(mean.detach()) for name, mean in means.items()}
                row |= {"gradient": float(norm), "lr": optimizer.param_groups[0]["lr"]}
                log.write(row)
                bar.update(task, completed=progress, description=f"step {step}")
            if processes.agree(schedule.elapsed) - last_save > training.checkpoint_minutes * 60:
                last_save = schedule.elapsed
                if processes.leads:
                    save()
    if processes.leads:
        save()
    return training.checkpoint
