"""What a quality promises: the PSNR that it gives photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

EXPECTED: Mapping[str, Sequence[tuple[int, float]]] = {
    "hvq-photo-2": (
        (1, 26.9),
        (10, 27.9),
        (25, 29.4),
        (50, 32.3),
        (75, 36.0),
        (90, 37.4),
        (100, 37.7),
    ),
}
"""By model, qualities and mean PSNR in dB: what `python benchmarks/expected_psnr.py` prints."""
FAR = 5.0
"""Decibels below what is expected that are far."""


def expected_psnr(model_id: str, quality: int) -> float | None:
    """PSNR in dB, interpolated between the qualities that were measured; None if none were."""
    points = EXPECTED.get(model_id, ())
    for (low, below), (high, above) in pairwise(points):
        if low <= quality <= high:
            return below + (above - below) * (quality - low) / (high - low)
    return None


def advice(model_id: str, quality: int, psnr: float) -> str | None:
    """What to say of a file if its PSNR, in dB, is far below what its quality promises."""
    expected = expected_psnr(model_id, quality)
    if expected is None or psnr > expected - FAR:
        return None
    reason = f"only {psnr:.1f} dB, where photographs have about {expected:.0f} at quality {quality}"
    return f"{reason}; --lossless always keeps every pixel, a higher --quality more"
