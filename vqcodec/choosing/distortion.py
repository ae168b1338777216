"""What the search makes small: squared error, and what SSIMULACRA 2 and MS-SSIM find."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vqcodec.choosing.ms_ssim import SIDE as WINDOW
from vqcodec.choosing.ms_ssim import MsSsim
from vqcodec.choosing.ssimulacra2 import SMALLEST, Ssimulacra2
from vqcodec.choosing.tunes import Tune
from vqcodec.models.autoencoder import PIXEL_MEAN, PIXEL_SCALE


class Distortion:
    """How far restored pixels are from the original, in network units squared.

    Args:
        original: uint8 [1, H, W, 3], padding included.
        real: Rows and columns that are the image's, from the top left; what is beyond them does not
            count.
        tune: Shares of SSIMULACRA 2 and MS-SSIM in the gradient at the pixels, where this is called
            first; of images that are too small for one of them, it has none.
    """

    def __init__(self, original: Tensor, real: tuple[int, int], tune: Tune | None = None) -> None:
        height, width = real
        self._real = (slice(None), slice(0, max(0, height)), slice(0, max(0, width)))
        pixels = original[self._real]
        self._target = (pixels.float() - PIXEL_MEAN) / PIXEL_SCALE
        tune, side = tune or Tune(), min(height, width)
        self._errors: list[tuple[float, Callable[[Tensor], Tensor]]] = []
        if tune.score and side >= SMALLEST:
            self._errors.append((tune.score, Ssimulacra2(pixels[0]).error))
        if tune.structure and side >= WINDOW:
            self._errors.append((tune.structure, MsSsim(pixels[0]).error))
        self._units: list[Tensor] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        """The distortion of pixels in network units, float32 [1, H, W, 3]."""
        real = pixels[self._real]
        squared = (real - self._target).square().sum()
        levels = real[0] * PIXEL_SCALE + PIXEL_MEAN
        errors = [error(levels) for _, error in self._errors]
        if self._errors and not self._units:
            first, *others = (_slope(each, real) for each in (squared, *errors))
            self._units = [first / each for each in others]
        shares = [share for share, _ in self._errors]
        found: Tensor = (1 - sum(shares)) * squared
        for share, unit, error in zip(shares, self._units, errors, strict=True):
            found = found + share * unit * error
        return found


def _slope(error: Tensor, pixels: Tensor) -> Tensor:
    """The norm of an error's gradient at the pixels, above 0."""
    (gradient,) = torch.autograd.grad(error, pixels, retain_graph=True)
    size: Tensor = gradient.norm()
    return size.clamp(min=torch.finfo(torch.float32).tiny)
