"""MS-SSIM with gradients, of one original against any number of restored images.

    contrast and structure at five scales, and luminance at the last  ->  their weighted product

Source: Wang et al. 2003; on the channels R, G and B, as the package `pytorch_msssim` that
benchmarks judge by.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SIDE, SIGMA = 11, 1.5  # of the window
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


class _Scale(NamedTuple):
    """The original at a scale.

    Attributes:
        image: [3, h, w].
        mean: Within the window, as all that follows: [3, h - 10, w - 10].
        variance: Likewise.
    """

    image: Tensor
    mean: Tensor
    variance: Tensor


class MsSsim:
    """MS-SSIM of restored images; of an image too small for five scales, of those it has.

    Args:
        original: In 0..255, [H, W, 3] of any dtype, on any device; H and W are 11 or more.
        dtype: Of all that is computed.
    """

    def __init__(self, original: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self._scales = []
        self._dtype = dtype
        for image in _pyramid(original.to(dtype)):
            mean, square = _windows(torch.cat([image, image.square()])).chunk(2)
            self._scales.append(_Scale(image, mean, square - mean.square()))

    def error(self, restored: Tensor) -> Tensor:
        """1 - MS-SSIM, the mean over the channels.

        Args:
            restored: In 0..255, [H, W, 3].
        """
        factors: list[Tensor] = []
        for of, image in zip(self._scales, _pyramid(restored.to(self._dtype)), strict=True):
            maps = torch.cat([image, image.square(), image * of.image])
            mean, square, product = _windows(maps).chunk(3)
            variance, covariance = square - mean.square(), product - mean * of.mean
            alike = (2 * covariance + C2) / (variance + of.variance + C2)
            if len(factors) == len(self._scales) - 1:
                means = (2 * mean * of.mean + C1) / (mean.square() + of.mean.square() + C1)
                alike = means * alike
            factors.append(alike.mean((1, 2)))
        # Of an image with fewer scales, the first weights count.
        weights = factors[0].new_tensor(WEIGHTS[: len(factors)])
        # Not a root of 0, whose slope is infinite.
        products = torch.stack(factors, 1).clamp(min=1e-6).pow(weights / weights.sum())
        return 1 - products.prod(1).mean()


def _pyramid(pixels: Tensor) -> list[Tensor]:
    """Pixels [H, W, 3] at every scale, [3, h, w]."""
    image = pixels.permute(2, 0, 1)
    found = [image]
    while len(found) < len(WEIGHTS) and -(-min(image.shape[1:]) // 2) >= SIDE:
        padding = [side % 2 for side in image.shape[1:]]
        image = F.avg_pool2d(image, 2, padding=padding)
        found.append(image)
    return found


def _windows(maps: Tensor) -> Tensor:
    """Means of maps [N, h, w] within the window: [N, h - 10, w - 10]."""
    places = torch.arange(SIDE, device=maps.device, dtype=maps.dtype) - SIDE // 2
    kernel = torch.exp(-places.square() / (2 * SIGMA**2))
    kernel, count = kernel / kernel.sum(), len(maps)
    across = kernel.view(1, 1, 1, -1).expand(count, 1, 1, -1)
    down = kernel.view(1, 1, -1, 1).expand(count, 1, -1, 1)
    return F.conv2d(F.conv2d(maps[None], down, groups=count), across, groups=count)[0]
