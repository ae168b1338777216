"""Search for better indices of the finest level, for the image at hand.

The analysis chooses once, from what the rate model expects. A sweep of the search knows more: what
synthesis makes of the indices (by the gradient of the image's distortion), and what the spatial
prior asks for every index, given all others. It chooses all of them again, by

    curvature * |step|^2 + gradient * step + weight * bits

where a step leads from the code vectors chosen now to others. Bases are orthonormal, but the
curvature is far below 1: the networks behind have learnt to mistrust what is coded, and follow a
step by a part of it. It is measured from sweep to sweep, around every position and along every
latent, by how much the gradient changed with the step. So it has in it that positions move at once,
and see each other's steps in the next sweep only.

Coarser levels are left as they are: searching them as well gained nothing.

Source: choosing by rate and distortion, Chou et al. 1989; refining what is coded for the image at
hand by gradients through the synthesis, Campos et al. 2019; curvature from gradients, Barzilai and
Borwein 1988.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vqcodec.models.autoencoder import PIXEL_SCALE, Autoencoder, Level
from vqcodec.models.natural import Natural

# What follows was chosen on crops of a few photographs.
BIT_WEIGHT = 0.9  # of lmbda; an index also changes what others cost, which the choice cannot see
CURVATURE = 0.3  # before it has been measured
CURVATURE_LIMITS = (0.15, 1.5)
RADIUS = 2  # positions around, over which the curvature is measured
INERTIA = 3.0  # weight of the curvature so far against the mean measurement
RATIO_LIMITS = (0.3, 3.0)  # of a latent's curvature to the mean one
RATIO_INERTIA = 0.1  # weight of the mean curvature against the mean measurement of a latent
ALL_ASK = 3  # first sweeps that ask the prior; of those after them every other one does


def search(
    autoencoder: Autoencoder,
    indices: Sequence[Tensor],
    quality: Tensor,
    code_lengths: Callable[[Tensor], Tensor],
    distortion: Callable[[Tensor], Tensor],
    *,
    free: Tensor,
    sweeps: int,
    rate_weight: float = 1.0,
    natural: Natural | None = None,
) -> Tensor:
    """Better indices of the finest level.

    Args:
        autoencoder: The model's.
        indices: Per level int64 [1, G, H/s, W/s], to start from.
        quality: int64 [1], from 0.
        code_lengths: Indices of the finest level to what the prior asks for every code at every
            position, in bits: float32 [1, G, H/s * W/s, K].
        distortion: Restored pixels [1, H, W, 3], in network units, to a sum of squared errors or
            what stands for it.
        free: Which positions may change: bool [H/s, W/s].
        sweeps: How often to choose again.
        rate_weight: How much more a bit costs than the quality says.
        natural: What the image will be restored by, if not by the autoencoder.

    Returns:
        int64 [1, G, H/s, W/s]: what the last sweep chose, unless an earlier choice cost less than
        the last one that the prior was asked about. The last choice itself is not judged.
    """
    level = autoencoder.levels[-1]
    position = autoencoder.position(quality)
    weight = rate_weight * float(3.0 * autoencoder.lmbda(position) / PIXEL_SCALE**2)
    coarser = [
        each.lookup(chosen.permute(0, 2, 3, 1), position)
        for each, chosen in zip(autoencoder.levels, indices[:-1], strict=False)
    ]
    before = autoencoder.decode(coarser, position) if coarser else None
    curvature = torch.full_like(free, CURVATURE, dtype=torch.float32)[None]
    ratio = torch.ones(level.quantizer.latent_size, device=free.device)
    own = best = indices[-1]
    least = float("inf")
    bits = torch.empty(0)
    last: _Step | None = None
    for sweep in range(sweeps):
        vectors = level.lookup(own.permute(0, 2, 3, 1), position).requires_grad_()
        with torch.enable_grad():
            if natural is None or before is None:
                restored = autoencoder.decode([vectors], position, before).pixels
            else:
                restored = natural(vectors, position, before)
            error = distortion(restored)
            (gradient,) = torch.autograd.grad(error, vectors)
        vectors = vectors.detach()
        if sweep < ALL_ASK or sweep % 2 == 0:
            bits = bits.new_empty(0)  # they are large, and go before the next ones are made
            bits = code_lengths(own)
            spent = bits.gather(-1, own.flatten(2)[..., None]).sum(dtype=torch.float64)
            cost = float(error.detach()) + weight * float(spent)
            if cost < least:
                best, least = own, cost
        if last is not None:
            change = gradient - last.gradient
            more = _around((last.step * change).sum(3) / 2)
            curvature = measured_curvature(curvature, more, _around(last.moved))
            ratio = measured_ratio(last.step, change)
        scale = curvature[..., None] * ratio
        chosen = _choose(level, position, vectors, gradient, scale, BIT_WEIGHT * weight, bits)
        own = torch.where(free, chosen, own)
        step = level.lookup(own.permute(0, 2, 3, 1), position) - vectors
        last = _Step(step, gradient, (step.square() * ratio).sum(3))
    return own if cost == least else best


class _Step(NamedTuple):
    """What a sweep did.

    Attributes:
        step: [1, h, w, size].
        gradient: Before it, [1, h, w, size].
        moved: Square of the step, every latent's by its curvature, [1, h, w].
    """

    step: Tensor
    gradient: Tensor
    moved: Tensor


def _around(values: Tensor) -> Tensor:
    """Means over the positions around each: [1, h, w]."""
    side = 2 * RADIUS + 1
    return F.avg_pool2d(values, side, 1, RADIUS, count_include_pad=False)


def measured_curvature(curvature: Tensor, more: Tensor, moved: Tensor) -> Tensor:
    """The curvature, after the squares of steps, `moved`, have brought so much more than said."""
    inertia = INERTIA * moved.mean() + torch.finfo(moved.dtype).tiny
    return ((more + inertia * curvature) / (moved + inertia)).clamp_(*CURVATURE_LIMITS)


def measured_ratio(step: Tensor, change: Tensor) -> Tensor:
    """The curvature along each latent against the mean one, float32 [size].

    Args:
        step: What was taken, [1, h, w, size].
        change: Of the gradient by it, [1, h, w, size].
    """
    along, moved = (step * change).sum((0, 1, 2)), step.square().sum((0, 1, 2))
    tiny = 1e-12  # without a step, every ratio is 1
    mean = (along.sum() / (moved.sum() + tiny)).clamp(min=tiny)
    inertia = RATIO_INERTIA * moved.mean() + tiny
    return ((along + inertia * mean) / (moved + inertia) / mean).clamp(*RATIO_LIMITS)


def _choose(
    level: Level,
    position: Tensor,
    vectors: Tensor,
    gradient: Tensor,
    scale: Tensor,
    weight: float,
    bits: Tensor,
) -> Tensor:
    """The index of every codebook and position with the least cost, one codebook at a time.

    Args:
        level: The finest one.
        position: Among the knots, [1].
        vectors: What is chosen now, [1, h, w, size].
        gradient: Of the distortion by it, [1, h, w, size].
        scale: The curvature, [1, h, w, size].
        weight: Of one bit against the distortion.
        bits: Of all codes, [1, G, h * w, K].

    Returns:
        int64 [1, G, h, w].
    """
    quantizer = level.quantizer
    # Half the gradient over the curvature completes the square.
    wanted = (vectors - gradient / (2 * scale)).flatten(1, 2)
    scale = scale.flatten(1, 2)
    coded = torch.zeros_like(wanted)
    indices = torch.zeros(bits.shape[:3], dtype=torch.int64, device=bits.device)
    for g, codebook in enumerate(quantizer.codebooks):
        if not bool(quantizer.used(g, position / level.last_knot).all()):
            break
        part = quantizer.slices[g]
        book = codebook.vectors
        distance = book.square().sum(1) - 2 * (wanted - coded)[..., part] @ book.T
        weights = weight / scale[..., part].mean(2, keepdim=True)
        cost = torch.addcmul(distance, weights, bits[:, g, :, : len(book)])
        indices[:, g] = cost.argmin(2)
        coded[..., part] += F.embedding(indices[:, g], book)
    return indices.view(*indices.shape[:2], *vectors.shape[1:3])
