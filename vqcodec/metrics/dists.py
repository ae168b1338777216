"""DISTS: how far two images are apart in structure and in texture.

Of every channel of VGG16's features, and of the image itself, the means are compared (texture) and
the correlation (structure), so that one texture may stand in for another of its kind. The weights
come from `benchmarks/dists_weights.py`.

Images are taken as they are. The authors' program can shrink them to 256 pixels a side before,
which published figures of codecs do without.

Source: Ding et al. 2020, "Image Quality Assessment: Unifying Structure and Texture Similarity".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqcodec.metrics.lpips import KINDS, stages, weights_of

FORMAT = "vqcodec-dists-1"
KIND = KINDS["vgg"]
CHANNELS = (3, *(convolutions[-1][0] for convolutions in KIND.stages))
"""Of the image, and of the features of each stage."""
STABILITY = 1e-6  # c1 and c2 of the paper

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_HANNING = (0.25, 0.5, 0.25)  # the window of five without its zeros, at a sum of 1
_POOLING_EPSILON = 1e-12


class L2Pooling(nn.Module):
    """The root of blurred squares at every other position, which aliases less than a maximum.

    Source: Ding et al. 2020, after Henaff and Simoncelli 2016.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Float [B, C, H, W] to [B, C, ceil(H / 2), ceil(W / 2)]."""
        window = features.new_tensor(_HANNING)
        channels = features.shape[1]
        blur = torch.outer(window, window).expand(channels, 1, -1, -1)
        squares = F.conv2d(features.square(), blur, stride=2, padding=1, groups=channels)
        return (squares + _POOLING_EPSILON).sqrt()


class Network(nn.Module):
    """VGG16, and for each channel the weights alpha of texture and beta of structure.

    All weights together sum to 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages = stages(KIND, L2Pooling)
        self.alpha = nn.ParameterList(torch.empty(channels) for channels in CHANNELS)
        self.beta = nn.ParameterList(torch.empty(channels) for channels in CHANNELS)

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """How far images are apart, with gradients.

        Args:
            images: float32 [B, 3, H, W], RGB in -1..1, as those of LPIPS.
            others: Likewise.

        Returns:
            float64 [B].
        """
        distances = images.new_zeros(len(images), dtype=torch.float64)
        features = self.features(torch.cat([images, others]))
        for found, alpha, beta in zip(features, self.alpha, self.beta, strict=True):
            texture, structure = _similarities(*found.chunk(2))
            apart = (1 - texture) * alpha + (1 - structure) * beta
            distances = distances + apart.sum(1, dtype=torch.float64)
        return distances

    def features(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W] in 0..1, and what every stage finds in them: [B, C, h, w] each."""
        unit = (images + 1) / 2
        mean, deviation = unit.new_tensor([_MEAN, _DEVIATION])
        found = [unit]
        features = (unit - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        return found


def _similarities(features: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Of texture and of structure: [B, C] each, 1 where features are equal.

    Source: Ding et al. 2020, the terms l and s.
    """
    means = features.mean((2, 3), keepdim=True), others.mean((2, 3), keepdim=True)
    residuals = features - means[0], others - means[1]
    texture = _ratio(means[0] * means[1], means[0].square() + means[1].square())
    variances = residuals[0].square() + residuals[1].square()
    products = residuals[0] * residuals[1]
    structure = _ratio(products.mean((2, 3)), variances.mean((2, 3)))
    return texture.flatten(1), structure


def _ratio(product: Tensor, squares: Tensor) -> Tensor:
    return (2 * product + STABILITY) / (squares + STABILITY)


class Dists:
    """The distance, with its weights.

    Args:
        path: Weights that `benchmarks/dists_weights.py` wrote.

    Attributes:
        network: Its modules, which training does not change.
        source: What the weights were taken from: packages, and SHA-256 of their files.

    Raises:
        WeightsError: The file is missing or of another kind.
    """

    name = "DISTS"

    def __init__(self, path: Path) -> None:
        with weights_of(path, self.name, FORMAT) as (metadata, weights):
            self.source = f"{metadata['source']}, {metadata['of']}"
            with torch.device("meta"):  # draws no weights
                self.network = Network()
            self.network.load_state_dict(weights, assign=True)
        self.network.requires_grad_(False)

    @torch.inference_mode()
    def distance(self, original: npt.NDArray[np.uint8], restored: npt.NDArray[np.uint8]) -> float:
        """How far two images are apart.

        Args:
            original: uint8 [H, W, 3], RGB.
            restored: uint8 [H, W, 3], RGB.

        Returns:
            0 for equal images, about 1 for unlike ones.
        """
        pixels = torch.from_numpy(np.stack([original, restored])).permute(0, 3, 1, 2)
        return float(self.network(*(pixels / 127.5 - 1).split(1)))
