"""LPIPS v0.1: how far two images are apart in the features of a network, as people judge.

The networks are those of the paper, AlexNet and VGG16 up to their last convolution, built here:
torchvision, which has them, does not load beside every build of torch. The weights come from
`benchmarks/lpips_weights.py`.

Source: Zhang et al. 2018, eq. 1, with the learned linear heads ("lin") of version 0.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vqcodec.errors import WeightsError

FORMAT = "vqcodec-lpips-1"
EPSILON = 1e-10


class Kind(NamedTuple):
    """A network up to its last convolution.

    Attributes:
        name: What a reader calls it.
        side: Shortest side of an image, in pixels, that it has features for.
        pooling: Pixels a side of the windows that the maximum is taken of, at a stride of 2.
        pooled: Stages that begin with it.
        stages: Outputs, side, stride and padding of the convolutions of each stage.
    """

    name: str
    side: int
    pooling: int
    pooled: tuple[int, ...]
    stages: list[list[tuple[int, int, int, int]]]


_ALEX = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_VGG = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
KINDS = {
    "alex": Kind("AlexNet", 31, 3, (1, 2), [[each] for each in _ALEX]),
    "vgg": Kind("VGG16", 16, 2, (1, 2, 3, 4), [[(width, 3, 1, 1)] * n for width, n in _VGG]),
}


def stages(kind: Kind, pooling: Callable[[], nn.Module]) -> nn.ModuleList:
    """The stages of a network, with a pooling of one's own.

    Args:
        kind: Which network.
        pooling: Makes what halves the sides of features.
    """
    found = nn.ModuleList()
    inputs = 3
    for n, convolutions in enumerate(kind.stages):
        stage = nn.Sequential()
        if n in kind.pooled:
            stage.add_module("pool", pooling())
        for m, (outputs, side, stride, padding) in enumerate(convolutions):
            # Convolutions alone have numbers, as in the files of weights.
            stage.add_module(f"{m}", nn.Conv2d(inputs, outputs, side, stride, padding))
            stage.add_module(f"relu{m}", nn.ReLU())
            inputs = outputs
        found.append(stage)
    return found


class Network(nn.Module):
    """A network, and a weight for each channel of a stage's features."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.stages = stages(kind, lambda: nn.MaxPool2d(kind.pooling, stride=2))
        self.heads = nn.ParameterList(torch.empty(layers[-1][0]) for layers in kind.stages)

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """How far images are apart, with gradients.

        Args:
            images: float32 [B, 3, H, W], RGB in -1..1.
            others: Likewise.

        Returns:
            float64 [B].
        """
        halves = [stage.chunk(2) for stage in self.features(torch.cat([images, others]))]
        return self.distance([one for one, _ in halves], [other for _, other in halves])

    def features(self, images: Tensor) -> list[Tensor]:
        """What every stage finds in images [B, 3, H, W]: [B, C, h, w] each."""
        # As the heads were trained.
        shift, scale = images.new_tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]])
        found = [(images - shift.view(3, 1, 1)) / scale.view(3, 1, 1)]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found[1:]

    def distance(self, features: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """How far images with these features are apart: float64 [B]."""
        distances = features[0].new_zeros(len(features[0]), dtype=torch.float64)
        for one, other, head in zip(features, others, self.heads, strict=True):
            apart = (_directions(one) - _directions(other)).square().mean((2, 3))
            # Image by image, as products with matrices round by the size of the batch.
            distances = distances + torch.stack([head @ each for each in apart])
        return distances


def _directions(features: Tensor) -> Tensor:
    lengths: Tensor = features.norm(dim=1, keepdim=True)
    return features / (lengths + EPSILON)


@contextmanager
def weights_of(
    path: Path, metric: str, file_format: str
) -> Iterator[tuple[dict[str, str], dict[str, Tensor]]]:
    """Metadata and tensors of a metric's weights file.

    Args:
        path: Of the file.
        metric: What a reader calls the metric.
        file_format: What the file must name as its format.

    Raises:
        WeightsError: the file is missing or of another kind, or what is done with it fails.
    """
    try:
        with safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("format") != file_format:
                raise ValueError(f"its format is not {file_format}")
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        yield metadata, weights
    except (SafetensorError, OSError, LookupError, RuntimeError, ValueError) as error:
        reason = f"is no usable weights file of {metric} ({type(error).__name__}: {error})"
        script = f"benchmarks/{metric.lower()}_weights.py"
        raise WeightsError(f"{reason}; make one with {script}").in_file(path) from error


class Lpips:
    """The distance, with the weights of one of the networks.

    Args:
        path: Weights that `benchmarks/lpips_weights.py` wrote.

    Attributes:
        kind: Which network.
        network: Its modules, which training does not change.
        source: What the weights were taken from: package, and SHA-256 of its file.

    Raises:
        WeightsError: The file is missing or of another kind.
    """

    def __init__(self, path: Path) -> None:
        with weights_of(path, "LPIPS", FORMAT) as (metadata, weights):
            self.kind = KINDS[metadata["kind"]]
            # Not the hash of this file, in which the order of its metadata is random.
            self.source = f"{metadata['source']}, {metadata['of']}"
            with torch.device("meta"):  # draws no weights
                self.network = Network(self.kind)
            self.network.load_state_dict(weights, assign=True)
        self.network.requires_grad_(False)

    @property
    def name(self) -> str:
        """What a reader calls the metric."""
        return f"LPIPS ({self.kind.name})"

    @torch.inference_mode()
    def distance(
        self, original: npt.NDArray[np.uint8], restored: npt.NDArray[np.uint8]
    ) -> float | None:
        """How far two images are apart.

        Args:
            original: uint8 [H, W, 3], RGB.
            restored: uint8 [H, W, 3], RGB.

        Returns:
            0 for equal images, about 1 for unlike ones; None for images with a side that is too
            short for the network.
        """
        if min(original.shape[:2]) < self.kind.side:
            return None
        pixels = torch.from_numpy(np.stack([original, restored])).permute(0, 3, 1, 2)
        return float(self.network(*(pixels / 127.5 - 1).split(1)))
