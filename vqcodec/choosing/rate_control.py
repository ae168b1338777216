"""Rate control: finds what makes a file of a wanted size, or an image of a wanted score.

There is one knob, lmbda: what a bit is worth. The quality that was trained at the nearest lmbda
goes into the header, and what is left between the two is a factor on the cost of bits when indices
are chosen (`rate_weight`). So the gaps between qualities are filled, and no decoder knows of it.

Size and scores fall as lmbda rises: in practice, not by any theorem. Each pass compresses the
image; the next lmbda comes from the line through the last passes on both sides of the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from vqcodec.arguments import real
from vqcodec.choosing.ssimulacra2 import SMALLEST, Ssimulacra2
from vqcodec.choosing.wanted import Wanted
from vqcodec.container import Header
from vqcodec.errors import CodecError, TooGoodError
from vqcodec.weights_file import Model

MAX_PASSES = 10
PROBE_EFFORT = 2  # until it is near; what the asked effort changes is then made up for
NEAR = 4.0  # in tolerances
BEYOND = math.log(4.0)  # how far lmbda may leave the qualities' range
LARGEST = 1e15  # bytes
TOLERANCE = 0.02  # of the size
TOLERANCE_DB = 0.1
TOLERANCE_SSIMULACRA2 = 0.5
LOWEST_WEIGHT = 1.2  # of the rate at the lowest of many qualities; `hvq-photo-2` starts at 0.06 bpp
LOWEST_QUALITIES = 11  # over which it falls to 1
MANY_QUALITIES = 100
EXACT_DB = 100.0  # stands for the infinite PSNR of equal images; one sample off is at most 96 dB
CLOSEST = 1e-4  # of lmbda's logarithm: where nothing lies between


def rate_weight(quality: int, qualities: int) -> float:
    """How much more a bit costs than was trained for, at a quality that was asked for.

    It stretches the lower end of a fine scale of qualities beyond the lmbdas that were trained.
    """
    if qualities < MANY_QUALITIES:
        return 1.0
    share = max(0.0, 1.0 - (quality - 1) / LOWEST_QUALITIES)
    return math.exp(share * math.log(LOWEST_WEIGHT))


class Attempt(Protocol):
    """What one pass gives.

    Attributes:
        data: The bytes of the file.
        score: Of the image that the file decodes to; None if nobody needs it.
    """

    @property
    def data(self) -> bytes: ...  # noqa: D102

    @property
    def score(self) -> float | None: ...  # noqa: D102


A = TypeVar("A", bound=Attempt)

Score = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.uint8]], float]
"""An original and what is restored, uint8 [H, W, 3] each, to what is the better the higher."""


@dataclass(frozen=True)
class Target:
    """What to meet.

    Attributes:
        asked: What was asked for, in words.
        aim: The logarithm of the bytes that are not fixed, or the score.
        low: The least that will do.
        high: The most that will do.
        slope: Typical change with the logarithm of lmbda, below 0.
        pixels: Of the image.
        fixed: Bytes that lmbda does not change.
        score: What an image scores, from the original and what is restored; None for bytes.
        unit: Of the score, with a format: "{} dB".
        max_size: Bytes, if the best file that fits is wanted; None if it is to be met.
    """

    asked: str
    aim: float
    low: float
    high: float
    slope: float
    pixels: int
    fixed: int = 0
    score: Score | None = None
    unit: str = "{}"
    max_size: int | None = None

    def value(self, attempt: Attempt) -> float:
        """What to compare with the target."""
        if self.score is None:
            return math.log(len(attempt.data) - self.fixed)
        assert attempt.score is not None
        return min(attempt.score, EXACT_DB)

    @property
    def most(self) -> float | None:
        """The most bytes of the file that will do; None if a score is wanted."""
        return None if self.score is not None else self.fixed + math.exp(self.high)

    def met(self, value: float) -> bool:
        """Whether a value will do."""
        return self.low <= value <= self.high

    def near(self, value: float) -> bool:
        """Whether a value is so near that the effort makes more of a difference."""
        return abs(value - self.aim) <= NEAR * (self.high - self.low) / 2

    def words(self, *values: float) -> str:
        """Values, lowest first, as in "3,104 to 24,210 bytes (0.063 to 0.492 bpp)"."""
        ordered = sorted(set(values))
        if self.score is not None:
            return self.unit.format(" to ".join(f"{value:.2f}" for value in ordered))
        sizes = [self.fixed + round(math.exp(value)) for value in ordered]
        rates = " to ".join(f"{8 * size / self.pixels:.3g}" for size in sizes)
        return f"{' to '.join(f'{size:,}' for size in sizes)} bytes ({rates} bpp)"


def target_of(wanted: Wanted, header: Header, extras: Mapping[int, bytes]) -> Target | None:
    """What to meet of what is wanted, or None if a quality is to be used.

    Args:
        wanted: A bpp within `TOLERANCE`, a size that is never exceeded, or a score within
            `TOLERANCE_DB` or `TOLERANCE_SSIMULACRA2`.
        header: Of the file.
        extras: Of the file, which have nothing to do with the pixels' colours.

    Raises:
        CodecError: it can't be.
    """
    pixels, fixed = header.pixels, sum(map(len, extras.values()))
    if wanted.bpp is not None:
        return of_size(real(wanted.bpp, "bpp") * pixels / 8, pixels, fixed=fixed, above=True)
    if wanted.size is not None:
        return of_size(real(wanted.size, "size"), pixels, fixed=fixed)
    if wanted.max_size is not None:
        target = of_size(real(wanted.max_size, "size"), pixels, fixed=fixed)
        return replace(target, max_size=wanted.max_size)
    if wanted.ssimulacra2 is not None:
        return of_ssimulacra2(real(wanted.ssimulacra2, "ssimulacra2"), pixels)
    return None if wanted.psnr is None else of_psnr(real(wanted.psnr, "psnr"), pixels)


def of_size(size: float, pixels: int, *, fixed: int = 0, above: bool = False) -> Target:
    """Bytes of the file, all of them; within `TOLERANCE`.

    Args:
        size: Bytes.
        pixels: Of the image.
        fixed: Bytes of it that have nothing to do with the pixels' colours.
        above: Whether more than `size` will do, too.

    Raises:
        CodecError: it is no size.
    """
    if not 0 < size < LARGEST:
        raise CodecError(
            f"no file has such a size; give a size above 0 and below {LARGEST:g} bytes"
        )
    size = float(size)
    if size <= fixed:
        reason = f"alpha channel and metadata alone take {fixed:,} bytes, more than {size:,.0f}"
        raise CodecError(f"{reason}; give a larger size, or an image without them (--strip)")
    least, most = size * (1 - TOLERANCE), size * (1 + TOLERANCE * above)
    # Not to the last digit: 98 % of 100 bytes are 98 bytes, whatever a logarithm rounds to.
    limits = (least - 1e-6, (least + most) / 2, most + 1e-6)
    low, aim, high = (math.log(max(limit - fixed, 1e-6)) for limit in limits)
    asked = f"{round(size):,} bytes ({8 * size / pixels:.3g} bpp)"
    return Target(asked, aim, low, high, -0.42, pixels, fixed)


def of_psnr(psnr: float, pixels: int) -> Target:
    """PSNR in dB; within `TOLERANCE_DB`.

    Raises:
        CodecError: it is no PSNR.
    """
    if not (math.isfinite(psnr) and psnr > 0):
        raise CodecError(f"no image has a PSNR of {psnr:g} dB; give one above 0")
    low, high = psnr - TOLERANCE_DB, psnr + TOLERANCE_DB
    return Target(f"{psnr:g} dB", psnr, low, high, -1.2, pixels, score=psnr_of, unit="{} dB")


def of_ssimulacra2(score: float, pixels: int) -> Target:
    """SSIMULACRA 2; within `TOLERANCE_SSIMULACRA2`.

    Raises:
        CodecError: it is no such score.
    """
    if not (math.isfinite(score) and score < 100):
        raise CodecError(f"no image has a SSIMULACRA 2 of {score:g}; give one below 100")
    low, high = score - TOLERANCE_SSIMULACRA2, score + TOLERANCE_SSIMULACRA2
    unit = "a SSIMULACRA 2 of {}"
    asked = unit.format(f"{score:g}")
    return Target(asked, score, low, high, -13.0, pixels, score=ssimulacra2_of, unit=unit)


def meet(
    target: Target,
    lmbdas: Sequence[float] | None,
    effort: int,
    attempt: Callable[[int, float, int], A],
) -> tuple[A, int]:
    """Compresses until the target is met.

    Args:
        target: What to meet.
        lmbdas: Of every quality, falling; None for a model of one quality that cannot weigh rate.
        effort: Of the file.
        attempt: Quality from 1, rate weight, and effort to what they give.

    Returns:
        What met the target, and how many passes it took, at most `MAX_PASSES`; an error may take
        one more.

    Raises:
        TooGoodError: it is a score above all that can be reached.
        CodecError: it is out of reach, or between two results that are next to each other.
    """
    knob = _Knob(target, lmbdas)
    now = min(PROBE_EFFORT, effort)
    values: list[float] = []
    for count in range(1, MAX_PASSES + 1):
        result = attempt(knob.quality, knob.rate_weight, now)
        value = target.value(result)
        if target.met(value) and now == effort:
            return result, count
        values.append(value)
        stuck = not knob.step(value)
        if now == effort and stuck:
            break
        if now != effort and (stuck or target.near(value) or 2 * count == MAX_PASSES):
            now = effort
            knob.settle()
            values.clear()
    if knob.at_end:
        knob.to_other_end()
        other = target.value(attempt(knob.quality, knob.rate_weight, effort))
        reach = f"of this image the model can make {target.words(value, other)}"
        reason = f"{target.asked} are out of reach; {reach}"
        if target.score is not None and value < target.low:
            raise TooGoodError(f"{reason}, and --lossless auto keeps every pixel then")
        raise CodecError(reason)
    sides = (
        max((value for value in values if value < target.low), default=None),
        min((value for value in values if value > target.high), default=None),
    )
    nearest = " and ".join(target.words(side) for side in sides if side is not None)
    raise CodecError(f"{target.asked} cannot be met; the nearest are {nearest}, ask for these")


def best_that_fits(
    target: Target,
    size: int,
    lmbdas: Sequence[float] | None,
    best: tuple[int, float],
    effort: int,
    attempt: Callable[[int, float, int], A],
) -> tuple[A, int]:
    """The best file of at most so many bytes.

    Args:
        target: Of `size`.
        size: Bytes.
        lmbdas: As of `meet`.
        best: Quality and rate weight of the best file there is.
        effort: As of `meet`.
        attempt: As of `meet`.

    Returns:
        The best file that was found, and how many passes it took.

    Raises:
        CodecError: none fits.
    """
    fitting: list[A] = []
    passes = 0

    def tried(quality: int, weight: float, effort_now: int) -> A:
        nonlocal passes
        passes += 1
        result = attempt(quality, weight, effort_now)
        if effort_now == effort and len(result.data) <= size:
            fitting.append(result)
        return result

    tried(*best, effort)
    if not fitting:
        try:
            return meet(target, lmbdas, effort, tried)[0], passes
        except CodecError:
            if not fitting:
                raise
    return max(fitting, key=lambda result: len(result.data)), passes


def made(
    attempt: Callable[[int, float, int, Score | None], A],
    target: Target | None,
    quality: int,
    model: Model,
    effort: int,
    plain: bool,
) -> tuple[A, int]:
    """The file of a quality, or what meets a target, or the best that fits.

    Args:
        attempt: As of `meet`, and what the image is to score by; None if nobody needs it.
        target: What to meet; None for the quality.
        quality: From 1.
        model: The model.
        effort: As of `meet`.
        plain: Whether the image may look poor at the quality, so that its PSNR is needed.

    Returns:
        The file, and how many passes it took.

    Raises:
        CodecError: as of `meet` and `best_that_fits`.
    """
    if target is None:
        weight = rate_weight(quality, model.qualities)
        return attempt(quality, weight, effort, psnr_of if plain else None), 1

    def scored(quality: int, weight: float, effort: int) -> A:
        return attempt(quality, weight, effort, target.score)

    lmbdas = model.autoencoder.lmbdas()
    if target.max_size is None:
        return meet(target, lmbdas, effort, scored)
    best = model.qualities, rate_weight(model.qualities, model.qualities)
    return best_that_fits(target, target.max_size, lmbdas, best, effort, scored)


class _Knob:
    """Lmbda, turned towards a target.

    Attributes:
        at_end: Whether the target is beyond the end of its range.
    """

    def __init__(self, target: Target, lmbdas: Sequence[float] | None) -> None:
        self.target = target
        self.trained = [math.log(lmbda) for lmbda in lmbdas or [1.0]]
        beyond = BEYOND if lmbdas else 0.0
        self.ends = (self.trained[-1] - beyond, self.trained[0] + beyond)
        self.place = self.trained[(len(self.trained) - 1) // 2]
        self.slope = target.slope
        self.kept: int | None = None
        self.at_end = False
        self.above: tuple[float, float] | None = None  # lmbda's logarithm and the value there
        self.below: tuple[float, float] | None = None

    @property
    def quality(self) -> int:
        """The one that was trained nearest to lmbda, or the one that is kept, from 1."""
        return self._nearest(self.place) if self.kept is None else self.kept

    @property
    def rate_weight(self) -> float:
        """What is left of lmbda."""
        return math.exp(self.place - self.trained[self.quality - 1])

    def settle(self) -> None:
        """Keeps the quality that is nearest now, and forgets all values but their slope."""
        self.kept = self._nearest(self.place)
        self.at_end = False
        self.above = self.below = None

    def to_other_end(self) -> None:
        """Turns it all the way back."""
        self.kept = None
        self.place = self.ends[self.place == self.ends[0]]

    def step(self, value: float) -> bool:
        """Turns it on from where it is, where it gave a value; False if there is no way on."""
        here = (self.place, value)
        aim = self.target.aim
        before = self.above if value > aim else self.below
        if value > aim:
            self.above = here
        else:
            self.below = here
        if self.above and self.below:
            return self._step_between(self.above, self.below)
        if before:
            slope = (value - before[1]) / (self.place - before[0])
            self.slope = min(max(slope, 3 * self.target.slope), self.target.slope / 3)
        low, high = self.ends
        place = min(max(self.place + (aim - value) / self.slope, low), high)
        self.at_end = place == self.place
        self.place = place
        return not self.at_end

    def _step_between(self, above: tuple[float, float], below: tuple[float, float]) -> bool:
        """Regula falsi, from where a value is too large and where it is too small."""
        gap = below[0] - above[0]
        if abs(gap) < CLOSEST:
            return False
        slope = (below[1] - above[1]) / gap
        if slope < 0:
            self.slope = slope
        aim = self.target.aim
        share = (aim - above[1]) / (below[1] - above[1])
        self.place = above[0] + gap * min(max(share, 0.1), 0.9)
        qualities = [self._nearest(place) for place, _ in (above, below)]
        if self.kept is None and abs(qualities[0] - qualities[1]) <= 1:
            # What the other quality gave is no bound for this one: values jump between them.
            self.kept = self._nearest(self.place)
            if qualities[0] != self.kept:
                self.above = None
            if qualities[1] != self.kept:
                self.below = None
        return True

    def _nearest(self, place: float) -> int:
        distances = [abs(place - trained) for trained in self.trained]
        return 1 + distances.index(min(distances))


def psnr_of(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    """PSNR in dB over all samples of two uint8 [H, W, 3]; infinite if they are equal."""
    # Row by row: a float copy of a large image would not fit in memory.
    total = sum(
        int(np.sum((a.astype(np.int32) - b) ** 2)) for a, b in zip(first, second, strict=True)
    )
    return math.inf if total == 0 else 10 * math.log10(255**2 * first.size / total)


@torch.inference_mode()
def ssimulacra2_of(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    """SSIMULACRA 2 of what is restored, the second of two uint8 [H, W, 3].

    Raises:
        CodecError: a side is below 8 pixels.
    """
    if min(first.shape[:2]) < SMALLEST:
        raise CodecError(
            f"SSIMULACRA 2 needs {SMALLEST} pixels a side, and the image has "
            f"{first.shape[1]} x {first.shape[0]}; ask for another target"
        )
    original, restored = (torch.from_numpy(pixels.copy()) for pixels in (first, second))
    return float(Ssimulacra2(original, torch.float64).score(restored))
