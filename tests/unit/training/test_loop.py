from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest
import torch
from tiny_training import (
    autoencoder_training,
    rows,
)
from torch import Tensor

from vqcodec.errors import CodecError, OutputError
from vqcodec.training.loop import Batches, Log, Schedule, run
from vqcodec.training.processes import Processes


def test_the_schedule_warms_up_holds_and_decays() -> None:
    schedule = Schedule(steps=10_000, minutes=None, decay=0.5, spent=0.0)
    assert schedule.factor(0, 0.0) < 0.01
    assert schedule.factor(5_000, 0.5) == 1.0
    assert schedule.factor(7_500, 0.75) == pytest.approx(0.5)
    assert schedule.progress(5_000) == 0.5
    assert Schedule(10_000, 1.0, 0.5, spent=60.0).progress(1) == 1.0
    assert Schedule(10_000, 0.0, 0.5, spent=0.0).progress(0) == 1.0


class Square(torch.nn.Module):
    """The square of what a linear layer makes of a number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = torch.nn.Linear(1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.model(x).square().mean(), {}


def test_what_goes_wrong_while_drawing_ends_the_run(tmp_path: Path) -> None:
    objective, closed = Square(), []

    def batches(first: int) -> Batches:
        try:
            yield (torch.ones(1, 1),)
            raise CodecError("no more crops")
        finally:
            closed.append(first)

    settings = autoencoder_training(tmp_path, 5)
    with Processes("cpu") as processes, pytest.raises(CodecError, match="no more crops"):
        run(settings, processes, objective.model, objective, {}, batches, lambda *_: None)
    assert closed == [0]


def test_batches_are_closed_at_the_end_and_none_is_drawn_for_nothing(tmp_path: Path) -> None:
    objective, drawn, closed = Square(), [], []

    def batches(first: int) -> Batches:
        try:
            for step in count(first):
                drawn.append(step)
                yield (torch.ones(1, 1),)
        finally:
            closed.append(first)

    with Processes("cpu") as processes:
        for steps, minutes in ((2, None), (3, None), (9, 0.0)):
            settings = autoencoder_training(tmp_path, steps, minutes=minutes)
            run(settings, processes, objective.model, objective, {}, batches, lambda *_: None)
    assert drawn == [0, 1, 2]
    assert closed == [0, 2]
    assert [row["step"] for row in rows(tmp_path / "log.csv")] == [1, 2, 3]


def test_a_log_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    """Wherever a full disk or a kill cut it."""
    path = tmp_path / "log.csv"
    log = Log(path, 0)
    for step in range(1, 13):
        log.write({"step": step, "loss": 1.5})
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        done = whole[:end].count(b"\n") - 1
        log = Log(path, 12)
        for step in range(max(done, 0) + 1, 13):
            log.write({"step": step, "loss": 1.5})
        assert path.read_bytes() == whole
    Log(path, 4)
    assert path.read_bytes() == b"".join(lines[:5])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device /dev/full")
def test_a_log_on_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "log.csv").symlink_to("/dev/full")
    log = Log(tmp_path / "none.csv", 0)
    log.path = tmp_path / "log.csv"
    with pytest.raises(OutputError, match=r"log\.csv: no space left on the device"):
        log.write({"step": 1})


def test_a_run_whose_log_and_settings_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    objective = Square()
    settings = autoencoder_training(tmp_path / "file" / "run", 5)
    with (
        Processes("cpu") as processes,
        pytest.raises(OutputError, match="file/run: cannot be made"),
    ):
        run(settings, processes, objective.model, objective, {}, no_batches, lambda *_: None)


def no_batches(first: int) -> Batches:
    yield from ()
