from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import torch
from tiny_training import (
    autoencoder_training,
    rows,
)
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.training.loop import Batches, Schedule, run
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
