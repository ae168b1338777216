"""What the search makes small: squared error, or that and what SSIMULACRA 2 finds."""

from __future__ import annotations

import torch
from torch import Tensor

from vqcodec.choosing.ssimulacra2 import SMALLEST, Ssimulacra2
from vqcodec.models.autoencoder import PIXEL_MEAN, PIXEL_SCALE


class Distortion:
    """How far restored pixels are from the original, in network units squared.

    Args:
        original: uint8 [1, H, W, 3], padding included.
        real: Rows and columns that are the image's, from the top left; what is beyond them does not
            count.
        score: Share of SSIMULACRA 2 in the gradient at the pixels, where this is called first; for
            images that are too small for it, nothing.
    """

    def __init__(self, original: Tensor, real: tuple[int, int], score: float = 0.0) -> None:
        height, width = real
        self._real = (slice(None), slice(0, max(0, height)), slice(0, max(0, width)))
        pixels = original[self._real]
        self._target = (pixels.float() - PIXEL_MEAN) / PIXEL_SCALE
        self._share = score if min(height, width) >= SMALLEST else 0.0
        self._score = Ssimulacra2(pixels[0]) if self._share else None
        self._unit: Tensor | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """The distortion of pixels in network units, float32 [1, H, W, 3]."""
        real = pixels[self._real]
        squared = (real - self._target).square().sum()
        if self._score is None:
            return squared
        error = self._score.error(real[0] * PIXEL_SCALE + PIXEL_MEAN)
        if self._unit is None:
            sizes = [
                torch.autograd.grad(each, real, retain_graph=True)[0].norm()
                for each in (squared, error)
            ]
            self._unit = sizes[0] / sizes[1].clamp(min=torch.finfo(torch.float32).tiny)
        return (1 - self._share) * squared + self._share * self._unit * error
