"""How far a restored image is from the original, by well-kept libraries."""

from __future__ import annotations

import io
import warnings

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from pytorch_msssim import ms_ssim as _ms_ssim
from skimage.metrics import peak_signal_noise_ratio
from ssimulacra2 import compute_ssimulacra2

Pixels = npt.NDArray[np.uint8]

MS_SSIM_SIDE = 161
"""Shortest side, in pixels, that the five scales of MS-SSIM can be taken of."""
SSIMULACRA2_SIDE = 8
"""Shortest side, in pixels, that SSIMULACRA 2 has a scale for."""


def psnr(original: Pixels, restored: Pixels) -> float:
    """PSNR over all samples of the RGB image.

    Args:
        original: uint8 [H, W, 3].
        restored: uint8 [H, W, 3].

    Returns:
        In dB; infinite if the images are equal.
    """
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(original, restored, data_range=255))


def ms_ssim(original: Pixels, restored: Pixels) -> float | None:
    """Multi-scale structural similarity, mean over R, G and B.

    Args:
        original: uint8 [H, W, 3].
        restored: uint8 [H, W, 3].

    Returns:
        At most 1, which is equality; None for images with a side below `MS_SSIM_SIDE`.

    Source: Wang et al. 2003.
    """
    if min(original.shape[:2]) < MS_SSIM_SIDE:
        return None
    tensors = [
        torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
        for pixels in (original, restored)
    ]
    return float(_ms_ssim(*tensors, data_range=255))


def ssimulacra2(original: Pixels, restored: Pixels) -> float | None:
    """SSIMULACRA 2: about 30 is low quality, 50 medium, 70 high, 90 visually lossless.

    Args:
        original: uint8 [H, W, 3], sRGB.
        restored: uint8 [H, W, 3], sRGB.

    Returns:
        At most 100; None for images with a side below `SSIMULACRA2_SIDE`.
    """
    if min(original.shape[:2]) < SSIMULACRA2_SIDE:
        return None
    with warnings.catch_warnings():
        # What the library leaves to numpy and Pillow to complain about is not ours to change.
        warnings.simplefilter("ignore")
        return float(compute_ssimulacra2(_as_file(original), _as_file(restored)))


def _as_file(pixels: Pixels) -> io.BytesIO:
    """The library reads files; this one costs no compression."""
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "PPM")
    stream.seek(0)
    return stream
