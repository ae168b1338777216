"""LPIPS v0.1: how far two images are apart in the features of a network, as people judge.

The network is AlexNet, whose module in torchvision does not load beside every build of torch. The
weights come from `benchmarks/lpips_weights.py`.

Source: Zhang et al. 2018, eq. 1, with the learned linear heads ("lin") of version 0.1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vqcodec.errors import WeightsError

FORMAT = "vqcodec-lpips-1"
KIND = "alex"
EPSILON = 1e-10
SIDE = 31
"""Shortest side of an image, in pixels, that the network has features for."""

# Of RGB in -1..1, as the heads were trained.
_SHIFT = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
_SCALE = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)


class AlexNet(nn.Module):
    """AlexNet up to its last convolution, and a weight for each channel of a stage's features."""

    def __init__(self) -> None:
        super().__init__()
        convolutions = (
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.Conv2d(256, 256, 3, padding=1),
        )
        self.stages = nn.ModuleList(nn.Sequential(each, nn.ReLU()) for each in convolutions)
        self.heads = nn.ParameterList(torch.empty(each.out_channels) for each in convolutions)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalized float32 [B, 3, H, W] to the features of each stage, [B, C, h, w]."""
        found: list[Tensor] = []
        for n, stage in enumerate(self.stages):
            images = stage(F.max_pool2d(images, 3, stride=2) if n in (1, 2) else images)
            found.append(images)
        return found


class Lpips:
    """The distance.

    Args:
        path: Weights that `benchmarks/lpips_weights.py` wrote.

    Attributes:
        name: What a reader calls the metric.
        source: What the weights were taken from: package, and SHA-256 of its file.

    Raises:
        WeightsError: The file is missing or of another kind.
    """

    name = "LPIPS (AlexNet)"

    def __init__(self, path: Path) -> None:
        with torch.device("meta"):  # draws no weights
            self._network = AlexNet()
        try:
            with safe_open(path, "pt") as opened:
                metadata = opened.metadata() or {}
                if (metadata.get("format"), metadata.get("kind")) != (FORMAT, KIND):
                    raise ValueError(f"its format is not {FORMAT}, {KIND}")
                # Not the hash of this file, in which the order of its metadata is random.
                self.source = f"{metadata['source']}, {metadata['of']}"
                weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            self._network.load_state_dict(weights, assign=True)
        except (SafetensorError, OSError, LookupError, ValueError, RuntimeError) as error:
            reason = f"is no usable weights file of LPIPS ({type(error).__name__}: {error})"
            raise WeightsError(f"{reason}; make one with benchmarks/lpips_weights.py").in_file(
                path
            ) from error

    @torch.inference_mode()
    def distance(
        self, original: npt.NDArray[np.uint8], restored: npt.NDArray[np.uint8]
    ) -> float | None:
        """How far two images are apart.

        Args:
            original: uint8 [H, W, 3], RGB.
            restored: uint8 [H, W, 3], RGB.

        Returns:
            0 for equal images, about 1 for unlike ones; None for images with a side below `SIDE`.
        """
        if min(original.shape[:2]) < SIDE:
            return None
        pixels = torch.from_numpy(np.stack([original, restored])).permute(0, 3, 1, 2)
        distance = 0.0
        stages = self._network((pixels / 127.5 - 1 - _SHIFT) / _SCALE)
        for features, head in zip(stages, self._network.heads, strict=True):
            directions = features / (features.norm(dim=1, keepdim=True) + EPSILON)
            apart = (directions[0] - directions[1]).square().mean((1, 2))
            distance += float(head @ apart)
        return distance
