"""How much the priors themselves say for the class of what they drew.

By Bayes' theorem p(class | indices) = p(class) * p(indices | class) / p(indices). The priors know
both likelihoods: the second is what they give without a class, as a share of their examples had
theirs hidden. So no other class and no classifier is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vqcodec.entropy import payload
from vqcodec.weights_file import Model


def evidence(
    model: Model, indices: Sequence[Tensor], labels: Tensor, quality: Tensor
) -> list[float]:
    """The logarithm of p(class | indices) / p(class), in nats: above 0 it speaks for the class.

    Frequencies are integers, so that it is the same on every machine but for the logarithms' last
    bits.

    Args:
        model: Of classes.
        indices: Per level int64 [N, G, h, w].
        labels: Class + 1, int64 [N].
        quality: From 0, int64 [N].
    """
    bits = [_bits(model, indices, some, quality) for some in (labels, torch.zeros_like(labels))]
    return [math.log(2) * (without - given) for given, without in zip(*bits, strict=True)]


def _bits(model: Model, indices: Sequence[Tensor], labels: Tensor, quality: Tensor) -> list[float]:
    """Ideal code length of all levels of each image."""
    lengths = [
        payload.code_lengths(prior.start(indices[:level], quality, labels, *maps.shape[2:]), maps)
        for level, (prior, maps) in enumerate(zip(model.priors, indices, strict=True))
    ]
    found: list[float] = np.sum(lengths, axis=0).tolist()
    return found
