"""A small residual network that learns to classify images, from scratch.

It is made for one CPU core and some minutes: the first steps see the images at half their size.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from vqcodec.errors import CodecError
from vqcodec.files import write_atomically
from vqcodec.progress import Progress

FORMAT = "vqcodec-classifier-1"
GRID = 16  # positions a side after the first layer, whatever the images' side
BATCH = 128
LEARNING_RATE = 0.2
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.1
WARM_UP = 0.15  # share of the steps
SHIFT = 1 / 8  # of the side: how far crops move
# From these shares of the steps on, images are trained on at these shares of their side.
GROWTH = ((0.0, 0.5), (0.45, 0.75), (0.8, 1.0))
PROBE_STEPS = 3


def _convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    padding = (side - stride + 1) // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, padding, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, halving the grid where the width grows.

    Source: He et al. 2015, with the average pooling of He et al. 2018 (ResNet-D) on the shortcut.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = _convolution(outputs, outputs, 3)
        self.shortcut = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), *_convolution(inputs, outputs, 1))
        )

    def forward(self, images: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, outputs, h', w']."""
        inner = self.second(F.relu(self.first(images)))
        return F.relu(inner + self.shortcut(images))


def widths_for(side: int) -> tuple[int, ...]:
    """Widths that suit images of a side: small images are mostly digits and the like."""
    return (32, 64, 128) if side <= 32 else (32, 64, 128, 256)


class SmallResNet(nn.Module):
    """A residual network of about a million weights.

    Args:
        classes: Number of classes.
        side: Pixels a side of its images, a multiple of 16.
        widths: Channels of its blocks; see `widths_for`.
    """

    def __init__(self, classes: int, side: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        if side < GRID or side % GRID:
            raise CodecError(f"a classifier's side is a multiple of {GRID} pixels, not {side}")
        self.side = side
        self.widths = widths
        stride = side // GRID
        self.enter = _convolution(3, widths[0], max(3, 2 * stride), stride)
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.blocks = nn.Sequential(*(Block(inputs, outputs) for inputs, outputs in pairs))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float [B, 3, side, side] in 0..1 to logits [B, classes]."""
        features = self.blocks(F.relu(self.enter(2 * images - 1)))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits

    def save(self, path: Path, labels: tuple[str, ...], *, force: bool = False) -> None:
        """Writes a safetensors file.

        Args:
            path: The file.
            labels: Names of the classes, in order.
            force: Whether to replace an existing file.
        """
        config = {"side": self.side, "widths": self.widths, "labels": labels}
        metadata = {"format": FORMAT, "config": json.dumps(config)}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}
        write_atomically(path, to_bytes(tensors, metadata), force=force)

    @classmethod
    def load(cls, path: Path) -> tuple[SmallResNet, tuple[str, ...]]:
        """Reads what `save` wrote: the network and its labels.

        Raises:
            CodecError: the file is missing or of another kind.
        """
        try:
            with safe_open(path, "pt") as opened:
                metadata = opened.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"its format is not {FORMAT}")
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            config = json.loads(metadata["config"])
            labels = tuple(config["labels"])
            network = cls(len(labels), config["side"], tuple(config["widths"]))
            network.load_state_dict(tensors)
        except (
            *(SafetensorError, OSError, LookupError),
            *(RuntimeError, TypeError, ValueError),
        ) as error:
            reason = f"is no classifier of `vqcodec evaluate cas --save` ({error})"
            raise CodecError(reason).in_file(path) from error
        return network.eval(), labels


@dataclass(frozen=True, kw_only=True)
class ClassifierTraining:
    """Settings of a training. The same ones give the same classifier on the same machine.

    Attributes:
        steps: Batches of 128 images; see `steps_in` for minutes.
        seed: Of weights, order and crops.
        mirror: Mirror half of the images (not for digits).
        device: Where to train.
    """

    steps: int
    seed: int = 0
    mirror: bool = True
    device: str = "cpu"


class Batches:
    """Random crops of the images, an epoch in one random order after the other."""

    def __init__(self, images: Tensor, labels: Tensor, training: ClassifierTraining) -> None:
        self.images = images
        self.labels = labels
        self.training = training
        self.generator = torch.Generator().manual_seed(training.seed)
        self.order = torch.empty(0, dtype=torch.int64)

    def draw(self, share: float) -> tuple[Tensor, Tensor]:
        """Images float [B, 3, s, s] in 0..1 with s = share * side, and labels int64 [B]."""
        size = min(BATCH, len(self.images))
        if len(self.order) < size:
            self.order = torch.randperm(len(self.images), generator=self.generator)
        chosen, self.order = self.order[:size], self.order[size:]
        images = self.images[chosen].to(self.training.device).permute(0, 3, 1, 2).float() / 255
        side = images.shape[-1]
        small = GRID // 2 * round(2 * share * side / GRID)
        if small != side:
            images = F.interpolate(images, (small, small), mode="bilinear", antialias=True)
        images = self._moved(images)
        return images, self.labels[chosen].to(self.training.device)

    def _moved(self, images: Tensor) -> Tensor:
        """Each image shifted, its borders mirrored, and maybe mirrored itself."""
        count, _, side, _ = images.shape
        far = round(SHIFT * side)
        padded = F.pad(images, [far] * 4, "reflect")
        starts = torch.randint(2 * far + 1, (2, count, 1), generator=self.generator)
        rows, columns = starts + torch.arange(side)
        if self.training.mirror:
            mirrored = torch.rand(count, 1, generator=self.generator) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        rows, columns = rows.to(images.device), columns.to(images.device)
        each = torch.arange(count, device=images.device)[:, None, None]
        moved = padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
        return moved.permute(0, 3, 1, 2)  # channels last in memory


def _share(progress: float) -> float:
    return next(share for start, share in reversed(GROWTH) if progress >= start)


def _learning_rate(progress: float) -> float:
    """A linear rise, then half a cosine down to 0."""
    if progress < WARM_UP:
        return LEARNING_RATE * progress / WARM_UP
    return LEARNING_RATE * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


class Trainer:
    """A network, its optimizer and its batches."""

    def __init__(
        self, images: Tensor, labels: Tensor, classes: int, training: ClassifierTraining
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            network = SmallResNet(classes, images.shape[1], widths_for(images.shape[1]))
        # torch's annotations leave memory_format out.
        network.to(  # type: ignore[call-overload]
            device=training.device, memory_format=torch.channels_last
        )
        self.network = network.train()
        matrices = [each for each in network.parameters() if each.dim() > 1]
        others = [each for each in network.parameters() if each.dim() <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": WEIGHT_DECAY},
            {"params": others},
        ]
        self.optimizer = torch.optim.SGD(groups, LEARNING_RATE, MOMENTUM, nesterov=True)
        self.batches = Batches(images, labels, training)

    def step(self, progress: float) -> None:
        """One step, `progress` of the way through the training."""
        for group in self.optimizer.param_groups:
            group["lr"] = _learning_rate(progress)
        images, labels = self.batches.draw(_share(progress))
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def _checked(images: Tensor, labels: Tensor, classes: int) -> None:
    if len(images) < 2 or len(images) != len(labels):
        raise CodecError(f"{len(images)} images with {len(labels)} labels are too few to train on")
    if classes < 2:
        raise CodecError("a classifier needs images of 2 classes at least")


def steps_in(
    minutes: float, images: Tensor, labels: Tensor, classes: int, *, device: str = "cpu"
) -> int:
    """About how many steps this machine does in some minutes, from a few of every image size.

    Args:
        minutes: Above 0.
        images: See `train_classifier`, as for the next two.
        labels: int64 [N].
        classes: Number of classes.
        device: Where to train.

    Raises:
        CodecError: too few images, or a side that does not fit.
    """
    _checked(images, labels, classes)
    trainer = Trainer(images, labels, classes, ClassifierTraining(steps=1, device=device))
    seconds = 0.0
    ends = [start for start, _ in GROWTH[1:]] + [1.0]
    for (start, _), end in zip(GROWTH, ends, strict=True):
        trainer.step(start)
        began = time.perf_counter()
        for _ in range(PROBE_STEPS):
            trainer.step(start)
        seconds += (end - start) * (time.perf_counter() - began) / PROBE_STEPS
    return max(1, round(60 * minutes / seconds))


def train_classifier(
    images: Tensor,
    labels: Tensor,
    classes: int,
    training: ClassifierTraining,
    progress: Progress | None = None,
) -> SmallResNet:
    """Trains a classifier from scratch.

    Args:
        images: uint8 [N, side, side, 3], the side a multiple of 16.
        labels: int64 [N], 0 to classes - 1.
        classes: Number of classes.
        training: The settings.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: too few images, or a side that does not fit.
    """
    _checked(images, labels, classes)
    trainer = Trainer(images, labels, classes, training)
    for step in range(training.steps):
        trainer.step(step / training.steps)
        if progress is not None:
            progress("train classifier", step + 1, training.steps)
    return trainer.network.eval()
