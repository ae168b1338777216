"""How near a generator's images come to those it was trained on.

Images that a model never saw have a nearest training image, too: how far away that is says what is
near. Samples that are nearer are copies, in part or as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vqcodec.errors import CodecError

NEAR = 0.05
"""Share of the unseen images that count as near to a training image."""


@dataclass(frozen=True)
class Nearness:
    """Samples and unseen images against training images.

    Attributes:
        nearest: Of every sample, the number of the nearest training image: int64 [N].
        distances: How far away that is: float32 [N].
        unseen: The same of every unseen image: float32 [M], empty if there are none.
    """

    nearest: Tensor
    distances: Tensor
    unseen: Tensor

    @property
    def ratio(self) -> float | None:
        """Median distance of the samples over that of the unseen images; 1 if nothing is copied."""
        if not len(self.unseen):
            return None
        return float(self.distances.median() / self.unseen.median())

    @property
    def near(self) -> float | None:
        """Share of the samples that are nearer than all but `NEAR` of the unseen images."""
        if not len(self.unseen):
            return None
        limit = self.unseen.quantile(NEAR)
        return float((self.distances < limit).double().mean())


def nearness(training: Tensor, samples: Tensor, unseen: Tensor) -> Nearness:
    """Compares features of images.

    Args:
        training: Of the images that the model was trained on, float [T, F].
        samples: float [N, F].
        unseen: Of images like the training ones that were kept from it, float [M, F].

    Raises:
        CodecError: no training images, or no samples.
    """
    if not len(training) or not len(samples):
        raise CodecError("nearness needs training images and samples; give some of either")
    distances, nearest = torch.cdist(samples, training).min(1)
    return Nearness(nearest, distances, torch.cdist(unseen, training).min(1).values)
