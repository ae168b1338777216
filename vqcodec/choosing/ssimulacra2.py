"""SSIMULACRA 2 with gradients, of one original against any number of restored images.

    sRGB  ->  linear RGB at six scales  ->  a form of XYB  ->  structure, artifacts, detail lost

Every scale and channel has three maps of errors, each taken as a mean and as a 4-norm: 108 numbers,
whose weighted sum makes the score. Blurs see zeros left and right of an image, and its mirror image
above and below, as in the package `ssimulacra2` that benchmarks judge by; the original in C++ has
zeros on all sides.

Source: https://github.com/cloudinary/ssimulacra2, version 2.1, for the steps and constants.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SCALES = 6
SMALLEST = 8  # pixels a side of a scale
SIGMA, RADIUS = 1.5, 5  # of the blur
C2 = 0.0009  # of the structural similarity

# Linear RGB to what the eye's three receptors take in, and what they start from.
ABSORBANCE = (
    (0.3, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
ABSORBANCE_BIAS = 0.0037930732552754493
# Of X, Y and B - Y: factors and offsets that make them positive and alike in size.
FACTORS, OFFSETS = (14.0, 1.0, 1.0), (0.42, 0.01, 0.55)

# Six numbers a channel and scale: structure, artifacts and detail lost as means, then as 4-norms.
# fmt: off
WEIGHTS = (
    # X
    0.0, 0.0007376606707406586, 0.0, 0.0, 0.0007793481682867309, 0.0,
    0.0, 0.0004371155730107379, 0.0, 1.1041726426657346, 0.00066284834129271,
    0.00015231632783718752,
    0.0, 0.0016406437456599754, 0.0, 1.8422455520539298, 11.441172603757666, 0.0,
    0.0007989109436015163, 0.000176816438078653, 0.0, 1.8787594979546387, 10.94906990605142, 0.0,
    0.0007289346991508072, 0.9677937080626833, 0.0, 0.00014003424285435884, 0.9981766977854967,
    0.00031949755934435053,
    0.0004550992113792063, 0.0, 0.0, 0.0013648766163243398, 0.0, 0.0,
    # Y
    0.0, 0.0, 0.0, 7.466890328078848, 0.0, 17.445833984131262,
    0.0006235601634041466, 0.0, 0.0, 6.683678146179332, 0.00037724407979611296, 1.027889937768264,
    225.20515300849274, 0.0, 0.0, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985,
    176.39317598450694, 0.0, 0.0, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408,
    0.0, 0.0, 0.0, 34.77906344483772, 44.835625328877896, 0.0,
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    # B - Y
    0.0, 0.0008680556573291698, 0.0, 0.0, 0.0, 0.0,
    0.0, 0.0005313191874358747, 0.0, 0.00016533814161379112, 0.0, 0.0,
    0.0, 0.0, 0.0, 0.0004179171803251336, 0.0017290828234722833, 0.0,
    0.0020827005846636437, 0.0, 0.0, 8.826982764996862, 23.19243343998926, 0.0,
    95.1080498811086, 0.9863978034400682, 0.9834382792465353, 0.0012286405048278493,
    171.2667255897307, 0.9807858872435379,
    0.0, 0.0, 0.0, 0.0005130064588990679, 0.0, 0.00010854057858411537,
)
# fmt: on
WEIGHT = 0.9562382616834844  # of the weighted sum
POLYNOMIAL = (2.326765642916932, -0.020884521182843837, 6.248496625763138e-05)
EXPONENT = 0.6276336467831387


class _Scale(NamedTuple):
    """The original at a scale: [3, h, w] each.

    Attributes:
        image: In the form of XYB.
        mean: Blurred.
        variance: Within the blur.
    """

    image: Tensor
    mean: Tensor
    variance: Tensor


class Ssimulacra2:
    """The score of restored images against an original.

    Args:
        original: In 0..255, [H, W, 3] of any dtype, on any device; H and W are 8 or more.
        dtype: Of all that is computed. In float32 a score is off by some 0.02.
    """

    def __init__(self, original: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self._scales = []
        self._dtype = dtype
        for image in _pyramid(original.to(dtype)):
            mean, square = _blurred(torch.cat([image, image.square()])).chunk(2)
            self._scales.append(_Scale(image, mean, square - mean.square()))

    def score(self, restored: Tensor) -> Tensor:
        """The score, at most 100; see `vqcodec.metrics.distortion.ssimulacra2`.

        Args:
            restored: In 0..255, [H, W, 3].
        """
        error = WEIGHT * self.error(restored)
        first, second, third = POLYNOMIAL
        shaped = first * error + second * error.square() + third * error.pow(3)
        # The root's slope is infinite at 0.
        return 100.0 - 10.0 * shaped.clamp(min=1e-12).pow(EXPONENT)

    def error(self, restored: Tensor) -> Tensor:
        """The weighted sum of errors that the score falls with.

        Args:
            restored: In 0..255, [H, W, 3].
        """
        pyramid = _pyramid(restored.to(self._dtype))
        errors = torch.stack(
            [_errors(of, image) for of, image in zip(self._scales, pyramid, strict=True)], 1
        )
        # Of an image with fewer scales, the first weights count.
        weights = errors.new_tensor(WEIGHTS[: errors.numel()])
        return weights @ errors.flatten()


def _pyramid(pixels: Tensor) -> list[Tensor]:
    """Pixels [H, W, 3] to the form of XYB at every scale, [3, h, w]."""
    values = pixels.permute(2, 0, 1).clamp(0, 255) / 255
    dark = values / 12.92
    linear = torch.where(values <= 0.04045, dark, ((values + 0.055) / 1.055).pow(2.4))
    found: list[Tensor] = []
    while len(found) < SCALES and min(linear.shape[1:]) >= SMALLEST:
        found.append(_positive_xyb(linear))
        linear = F.avg_pool2d(linear, 2, ceil_mode=True, count_include_pad=False)
    return found


def _positive_xyb(linear: Tensor) -> Tensor:
    """Linear RGB [3, h, w] to X, Y and B - Y, positive: [3, h, w]."""
    absorbed = torch.einsum("ij,jhw->ihw", linear.new_tensor(ABSORBANCE), linear)
    long, middle, short = (absorbed + ABSORBANCE_BIAS).pow(1 / 3) - ABSORBANCE_BIAS ** (1 / 3)
    x, y = (long - middle) / 2, (long + middle) / 2
    xyb = zip((x, y, short - y), FACTORS, OFFSETS, strict=True)
    return torch.stack([each * factor + offset for each, factor, offset in xyb])


def _blurred(maps: Tensor) -> Tensor:
    """Maps [N, h, w], blurred."""
    places = torch.arange(-RADIUS, RADIUS + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-places.square() / (2 * SIGMA**2))
    kernel, count = kernel / kernel.sum(), len(maps)
    across = kernel.view(1, 1, 1, -1).expand(count, 1, 1, -1)
    down = kernel.view(1, 1, -1, 1).expand(count, 1, -1, 1)
    found = F.conv2d(maps[None], across, padding=(0, RADIUS), groups=count)
    top, bottom = found[:, :, :RADIUS].flip(2), found[:, :, -RADIUS:].flip(2)
    return F.conv2d(torch.cat([top, found, bottom], 2), down, groups=count)[0]


def _errors(of: _Scale, image: Tensor) -> Tensor:
    """Structure, artifacts and detail lost, as means and 4-norms: [3, 6]."""
    maps = torch.cat([image, image.square(), image * of.image])
    mean, square, product = _blurred(maps).chunk(3)
    variance, covariance = square - mean.square(), product - mean * of.mean
    luminance = 1 - (mean - of.mean).square()
    contrast = (2 * covariance + C2) / (variance + of.variance + C2)
    structure = (1 - luminance * contrast).clamp(min=0)
    edges = (1 + (image - mean).abs()) / (1 + (of.image - of.mean).abs()) - 1
    errors = torch.stack([structure, edges.clamp(min=0), (-edges).clamp(min=0)], 1).flatten(2)
    # Not a root of 0, whose slope is infinite.
    norms = (errors.pow(4).mean(2) + 1e-32).pow(0.25)
    return torch.cat([errors.mean(2), norms], 1)
