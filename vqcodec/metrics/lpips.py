"""LPIPS v0.1: how far two images are apart in the features of a network, as people judge.

The networks are those of the paper, AlexNet and VGG16 up to their last convolution, as plain
convolutions: torchvision, which has them, does not load beside every build of torch. The weights
come from `benchmarks/lpips_weights.py`.

Source: Zhang et al. 2018, eq. 1, with the learned linear heads ("lin") of version 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vqcodec.errors import WeightsError

FORMAT = "vqcodec-lpips-1"
EPSILON = 1e-10

# Of RGB in -1..1, as the heads were trained.
_SHIFT = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
_SCALE = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)


class _Convolution(NamedTuple):
    """A square convolution, followed by a ReLU."""

    outputs: int
    side: int = 3
    stride: int = 1
    padding: int = 1


class Network(NamedTuple):
    """A network up to its last convolution.

    Attributes:
        name: What a reader calls it.
        pooling: Pixels a side of the windows that the maximum is taken of, at a stride of 2.
        stages: Convolutions; the features are those after each stage.
        pooled: Whether the maximum is taken before each stage.
        side: Shortest side of an image, in pixels, that it has features for.
    """

    name: str
    pooling: int
    stages: tuple[tuple[_Convolution, ...], ...]
    pooled: tuple[bool, ...]
    side: int

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the weights: of a head, a weight for each channel of its stage."""
        inputs = 3
        for n, stage in enumerate(self.stages):
            for m, (outputs, side, _, _) in enumerate(stage):
                yield f"stages.{n}.{m}.weight", (outputs, inputs, side, side)
                yield f"stages.{n}.{m}.bias", (outputs,)
                inputs = outputs
            yield f"heads.{n}", (inputs,)


NETWORKS = {
    "alex": Network(
        "AlexNet",
        pooling=3,
        stages=(
            (_Convolution(64, 11, 4, 2),),
            (_Convolution(192, 5, 1, 2),),
            (_Convolution(384),),
            (_Convolution(256),),
            (_Convolution(256),),
        ),
        pooled=(False, True, True, False, False),
        side=31,
    ),
    "vgg": Network(
        "VGG16",
        pooling=2,
        stages=(
            (_Convolution(64),) * 2,
            (_Convolution(128),) * 2,
            (_Convolution(256),) * 3,
            (_Convolution(512),) * 3,
            (_Convolution(512),) * 3,
        ),
        pooled=(False, True, True, True, True),
        side=16,
    ),
}
"""The networks that there are weights for, by their kind."""


class Lpips:
    """The distance, with the weights of one of the networks.

    Args:
        path: Weights that `benchmarks/lpips_weights.py` wrote.

    Attributes:
        kind: A key of `NETWORKS`.
        network: The network.
        source: What the weights were taken from: package, and SHA-256 of its file.

    Raises:
        WeightsError: The file is missing or of another kind.
    """

    def __init__(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as opened:
                metadata = opened.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"its format is not {FORMAT}")
                self.kind = metadata["kind"]
                self.network = NETWORKS[self.kind]
                # Not the hash of this file, in which the order of its metadata is random.
                self.source = f"{metadata['source']}, {metadata['of']}"
                self._weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            if {n: tuple(w.shape) for n, w in self._weights.items()} != dict(self.network.shapes()):
                raise ValueError(f"its tensors are not those of {self.network.name}")
        except (SafetensorError, OSError, LookupError, ValueError) as error:
            reason = f"is no usable weights file of LPIPS ({type(error).__name__}: {error})"
            raise WeightsError(f"{reason}; make one with benchmarks/lpips_weights.py").in_file(
                path
            ) from error

    @property
    def name(self) -> str:
        """What a reader calls the metric."""
        return f"LPIPS ({self.network.name})"

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
        if min(original.shape[:2]) < self.network.side:
            return None
        pixels = torch.from_numpy(np.stack([original, restored])).permute(0, 3, 1, 2)
        features = (pixels / 127.5 - 1 - _SHIFT) / _SCALE
        distance = 0.0
        for n, (stage, pooled) in enumerate(
            zip(self.network.stages, self.network.pooled, strict=True)
        ):
            if pooled:
                features = F.max_pool2d(features, self.network.pooling, stride=2)
            for m, convolution in enumerate(stage):
                features = self._convolved(f"stages.{n}.{m}", convolution, features)
            directions = features / (features.norm(dim=1, keepdim=True) + EPSILON)
            apart = (directions[0] - directions[1]).square().mean((1, 2))
            distance += float(self._weights[f"heads.{n}"] @ apart)
        return distance

    def _convolved(self, name: str, convolution: _Convolution, features: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.conv2d(features, weight, bias, convolution.stride, convolution.padding).relu_()
