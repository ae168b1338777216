"""Work on files that other processes can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch

from vqcodec.errors import CodecError
from vqcodec.folders import Task


def pid_and_threads(task: Task) -> tuple[int, int]:
    time.sleep(0.1)  # so that one process does not do everything
    return os.getpid(), torch.get_num_threads()


def copy(task: Task) -> str:
    """Copies what the source says; some words mean mischief."""
    word = Path(task.source).read_text()
    if word == "fail":
        raise CodecError("is no good; get another").in_file(task.source)
    if word == "fault":
        raise ZeroDivisionError("a fault of our own")
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "stall":
        begun = Path(task.target + ".begun")
        begun.touch()
        try:
            time.sleep(120)
        finally:
            begun.unlink()
    Path(task.target).write_text(word)
    return word
