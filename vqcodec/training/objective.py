"""What training needs to know of a family of autoencoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor, nn

from vqcodec.training.processes import Processes, chosen_bfloat16
from vqcodec.training.settings import AutoencoderTraining

_Autoencoder = TypeVar("_Autoencoder", bound=nn.Module)


class Objective(nn.Module, ABC, Generic[_Autoencoder]):
    """The loss of an autoencoder, how its codes start, and how unused ones start afresh.

    `forward` takes crops, uint8 [B, H, W, 3], and `conditions`, and gives the loss and means to log
    by name.

    Args:
        autoencoder: On its device.
        config: Settings of the run.
    """

    def __init__(self, autoencoder: _Autoencoder, config: AutoencoderTraining) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.config = config
        device = next(autoencoder.parameters()).device
        self.use_bfloat16 = chosen_bfloat16(config.bfloat16, device)

    def conditions(self, count: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """What goes with `count` crops into `forward`, tensors [count, ...]; nothing, here."""
        return ()

    @abstractmethod
    def start(self, crops: Tensor) -> None:
        """Sets codebooks, and what else data tells, from crops, uint8 [B, H, W, 3] on the CPU."""

    @abstractmethod
    def restart(self, batch: tuple[Tensor, ...], processes: Processes, step: int) -> None:
        """Moves unused codes to where a batch, crops and conditions, is coded badly."""
