"""What every training run shares: schedule, log, checkpoints, resuming, and the loop itself."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch.nn.parallel import DistributedDataParallel

from vqcodec import files
from vqcodec.entropy.layers import under
from vqcodec.errors import CodecError
from vqcodec.models.layers import ResidualBlock
from vqcodec.models.prior import GatedBlock
from vqcodec.models.vqvae import PreactivatedBlock
from vqcodec.progress import bar
from vqcodec.training import checkpoint
from vqcodec.training.optimizer import make_optimizer
from vqcodec.training.processes import Processes
from vqcodec.training.settings import Training

Batches = Generator[tuple[Tensor, ...], None, None]
BAR_STEPS = 1000


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
        step: Steps done so far. Rows after it, of a run that broke off, are dropped, and what was
            cut short.

    Raises:
        OutputError: it cannot be written; also of `write`.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if path.exists():
            head, *rows = path.read_text().splitlines(keepends=True) or [""]
            whole = [
                row for row in rows if row.endswith("\n") and row.count(",") == head.count(",")
            ]
            kept = [row for row in whole if int(row.split(",")[0]) <= step]
            text = "".join([head, *kept] if kept else [])
            files.write_atomically(path, text.encode(), force=True)

    def write(self, row: Mapping[str, float]) -> None:
        """Appends one row; the first one of a file names the columns."""
        fresh = not self.path.exists() or self.path.stat().st_size == 0
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if fresh:
            writer.writerow(row)
        writer.writerow(
            value if isinstance(value, int) else f"{value:.6g}" for value in row.values()
        )
        files.append(self.path, text.getvalue().encode())


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


def seed_dropout(*seeds: int) -> None:
    """Gives every process and step dropout of its own, and the same one after a resume."""
    torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))


def learn(
    objective: nn.Module, batch: tuple[Tensor, ...], at_once: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Adds the gradients of a batch to the parameters', as of all of it at once.

    Args:
        objective: As of `run`; its loss and means are means over the examples.
        batch: The examples.
        at_once: How many of them pass at once; None for all.

    Returns:
        The loss and the means.
    """
    count = len(batch[0])
    parts = zip(*(each.split(at_once or count) for each in batch), strict=True)
    found: list[dict[str, Tensor]] = []
    for part in parts:
        loss, means = objective(*part)
        share = len(part[0]) / count
        (share * loss).backward()
        found.append({name: share * each.detach() for name, each in {**means, "": loss}.items()})
    total = {name: torch.stack([each[name] for each in found]).sum(0) for name in found[0]}
    return total.pop(""), total


def run(
    training: Training,
    processes: Processes,
    model: nn.Module,
    objective: nn.Module,
    architecture: Mapping[str, Any],
    batches: Callable[[int], Batches],
    before_step: Callable[[int, float, tuple[Tensor, ...]], None],
    about: Mapping[str, Any] | None = None,
    at_once: int | None = None,
) -> Path:
    """Trains until the end of the schedule, from the checkpoint if there is one.

    Args:
        training: The settings.
        processes: All processes of the run.
        model: What is trained and averaged, on its device.
        objective: Around `model`; gives (loss, means to log by name) for a batch.
        architecture: JSON-ready config of the model; a checkpoint must have the same.
        batches: The batches from a step on, the same for the same step; closed at the end.
        before_step: Called with the number of steps done, the progress in 0..1 and the batch.
        about: More to keep in the checkpoint's state, JSON-ready; `autoencoder_sha256` in it is
            for `resume`.
        at_once: Examples that pass at once; None for all of a batch.

    Returns:
        The checkpoint: tensors `model.*` (as trained), `average.*` (to use), `optimizer.*`.
    """
    about = about or {}
    tensors = resume(training, architecture, about.get("autoencoder_sha256"))
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
        files.make_folder(training.output)
        log = Log(training.output / "log.csv", step)
        text = json.dumps(asdict(training), indent=2, default=str)
        files.write_atomically(training.output / "config.json", f"{text}\n".encode(), force=True)

    def save() -> None:
        named = {f"model.{name}": value for name, value in model.state_dict().items()}
        named |= {f"average.{name}": value for name, value in average.tensors.items()}
        optimizing = checkpoint.optimizer_tensors(optimizer)
        named |= {f"optimizer.{name}": value for name, value in optimizing.items()}
        saved = {**about, "step": step, "seconds": schedule.elapsed, "config": architecture}
        checkpoint.save(training.checkpoint, named, saved)

    drops = any(isinstance(part, nn.Dropout) and part.p > 0 for part in model.modules())
    last_save = schedule.elapsed
    with bar("training", shown=processes.leads) as advance, closing(batches(step)) as drawn:
        while (progress := processes.agree(schedule.progress(step))) < 1.0:
            batch = next(drawn)
            before_step(step, progress, batch)
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate * schedule.factor(step, progress)
            if drops:
                seed_dropout(training.seed, processes.rank, step)
            optimizer.zero_grad(set_to_none=True)
            try:
                loss, means = learn(wrapped, batch, at_once)
            except TorchDynamoException as error:
                reason = f"torch.compile does not work here ({type(error).__name__})"
                raise CodecError(f"{reason}; leave --compile out") from error
            norm = nn.utils.clip_grad_norm_(model.parameters(), training.largest_gradient)
            optimizer.step()
            average.update(model, step)
            step += 1
            if step % training.log_every == 0 and processes.leads:
                row = {"step": step, "seconds": schedule.elapsed, "loss": float(loss)}
                row |= {name: float(mean) for name, mean in means.items()}
                row |= {"gradient": float(norm), "lr": optimizer.param_groups[0]["lr"]}
                log.write(row)
                advance(f"step {step}", int(progress * BAR_STEPS), BAR_STEPS)
            if processes.agree(schedule.elapsed) - last_save > training.checkpoint_minutes * 60:
                last_save = schedule.elapsed
                if processes.leads:
                    save()
    if processes.leads:
        save()
    return training.checkpoint
