"""Two images beside each other, by every metric that needs no weights."""

from __future__ import annotations

from dataclasses import dataclass

from vqcodec.choosing.rate_control import psnr_of, ssimulacra2_of
from vqcodec.choosing.ssimulacra2 import SMALLEST
from vqcodec.errors import ImageError
from vqcodec.image import Image, economical


@dataclass(frozen=True)
class Comparison:
    """How near the colours of two images are.

    Attributes:
        psnr: In dB; infinite if they are equal.
        ms_ssim: At most 1, which is equality; None where it cannot be measured.
        ssimulacra2: At most 100; None where it cannot be measured.
        missing: Names of what could not be measured, and why.
        differences: What the metrics don't see, in a few words each.
    """

    psnr: float
    ms_ssim: float | None
    ssimulacra2: float | None
    missing: dict[str, str]
    differences: tuple[str, ...]


def compare(original: Image, other: Image) -> Comparison:
    """Measures how near an image is to its original, SSIMULACRA 2 in float64.

    Colours under full transparency count for nothing.

    Raises:
        ImageError: the images have different sizes.
    """
    if original.pixels.shape != other.pixels.shape:
        reason = f"is {_size(other)}, and what it is compared with is {_size(original)}"
        raise ImageError(f"{reason}; give images of equal size")
    differences = []
    if _alpha(original) != _alpha(other):
        differences.append("transparency")
    if original.icc != other.icc:
        differences.append("colour profile")
    first, second = economical(original).pixels, economical(other).pixels
    missing: dict[str, str] = {}
    ms_ssim = None
    try:
        from vqcodec.metrics import distortion
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("vqcodec"):
            raise
        missing["MS-SSIM"] = f"{error.name} is not installed; pip install 'vqcodec[bench]'"
    else:
        ms_ssim = distortion.ms_ssim(first, second)
        if ms_ssim is None:
            missing["MS-SSIM"] = f"a side is below {distortion.MS_SSIM_SIDE} pixels"
    ssimulacra2 = None
    if min(first.shape[:2]) >= SMALLEST:
        ssimulacra2 = ssimulacra2_of(first, second)
    else:
        missing["SSIMULACRA 2"] = f"a side is below {SMALLEST} pixels"
    return Comparison(psnr_of(first, second), ms_ssim, ssimulacra2, missing, tuple(differences))


def _size(image: Image) -> str:
    height, width = image.pixels.shape[:2]
    return f"{width} x {height}"


def _alpha(image: Image) -> bytes | None:
    """What is transparent; None if nothing is."""
    if image.alpha is None or int(image.alpha.min()) == 255:
        return None
    return image.alpha.tobytes()
