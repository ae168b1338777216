"""The tiny model with classes, for tests that draw images of a class."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import tiny_autoencoder, tiny_priors
from torch import nn

from vqcodec.registry import ClassName
from vqcodec.training.export import write_weights

CLASSES = (
    ClassName("n01440764", "tench, Tinca tinca", 400),
    ClassName("n01847000", "drake", 3),
    ClassName("n02012849", "crane", 7),
    ClassName("n03126707", "crane", 5),
    ClassName("n02110185", "Siberian husky", 400),
    ClassName("n02109961", "Eskimo dog, husky", 400),
)
MODEL_ID = "tiny-classes"
SIDE = 40


def write_tiny_class_model(path: Path, side: int = SIDE) -> str:
    """Writes the weights file of the tiny model with classes and returns its SHA-256."""
    autoencoder = tiny_autoencoder()
    priors = tiny_priors(autoencoder, classes=len(CLASSES))
    for prior in priors:
        nn.init.normal_(prior.context.classes, std=2.0)
    torch.manual_seed(0)
    return write_weights(path, MODEL_ID, autoencoder, priors, CLASSES, side)
