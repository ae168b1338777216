from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from vqcodec import codec
from vqcodec.choosing import rate_control as target
from vqcodec.choosing.rate_control import (
    MAX_PASSES,
    meet,
    of_psnr,
    of_size,
    of_ssimulacra2,
    psnr_of,
)
from vqcodec.cli.options import byte_size
from vqcodec.errors import CodecError, TooGoodError
from vqcodec.image import Image, load
from vqcodec.metrics.distortion import ssimulacra2

PIXELS = 768 * 512
COARSE = [1280.0 * 2 ** (-5 * q / 7) for q in range(8)]
FINE = [2048.0 * 2 ** (-8.4 * q / 99) for q in range(100)]


@dataclass
class Made:
    data: bytes
    score: float | None


class Codec:
    """Files whose sizes and PSNRs follow lmbda as those of photographs do.

    Args:
        lmbdas: Of every quality.
        jump: How much larger a file is by every quality, besides what lmbda does.
        gain: By how much effort above 2 makes files larger.
        slope: Of the logarithm of size by that of lmbda.
        step: Sizes are multiples of it.
    """

    def __init__(
        self,
        lmbdas: list[float],
        jump: float = 0.0,
        gain: float = 1.0,
        slope: float = -0.42,
        step: int = 1,
    ) -> None:
        self.lmbdas, self.jump, self.gain, self.slope, self.step = lmbdas, jump, gain, slope, step
        self.calls: list[tuple[int, float, int]] = []

    def __call__(self, quality: int, rate_weight: float, effort: int) -> Made:
        self.calls.append((quality, rate_weight, effort))
        log = math.log(self.lmbdas[quality - 1] * rate_weight / 250)
        size = 12000 * math.exp(self.slope * log + self.jump * quality - 0.03 * log**2)
        size *= self.gain if effort > 2 else 1.0
        whole = max(1, round(size / self.step) * self.step)
        return Made(bytes(whole), 29.5 - 1.2 * log + 0.05 * log**2 + 0.2 * (effort > 2))


@pytest.mark.parametrize("lmbdas", [COARSE, FINE, [200.0]])
@pytest.mark.parametrize("jump", [-0.02, 0.0, 0.02])
@pytest.mark.parametrize("size", [9000, 10500, 12000, 15777])
@pytest.mark.parametrize("effort", [1, 5])
def test_sizes_are_met(lmbdas: list[float], jump: float, size: int, effort: int) -> None:
    jump = jump / len(lmbdas) * 8
    made = Codec(lmbdas, jump, gain=1.05)
    result, passes = meet(of_size(size, PIXELS), lmbdas, effort, made)
    assert 0.98 * size <= len(result.data) <= size
    assert passes == len(made.calls) <= 7
    assert made.calls[-1][2] == effort
    result, _ = meet(of_size(size, PIXELS, above=True), lmbdas, effort, made)
    assert 0.98 * size <= len(result.data) <= 1.02 * size


@pytest.mark.parametrize("lmbdas", [COARSE, FINE])
@pytest.mark.parametrize("wanted", [27.1, 28.0, 30.5, 32.0])
def test_psnrs_are_met(lmbdas: list[float], wanted: float) -> None:
    made = Codec(lmbdas)
    result, passes = meet(of_psnr(wanted, PIXELS), lmbdas, 5, made)
    assert result.score == pytest.approx(wanted, abs=0.1)
    assert passes <= 7


def test_the_nearest_quality_is_taken() -> None:
    """So that the weight of bits stays near that which the quality was trained with."""
    for size in (8000, 12000, 16000):
        made = Codec(FINE)
        meet(of_size(size, PIXELS), FINE, 1, made)
        _, weight, _ = made.calls[-1]
        assert 0.9 < weight < 1.1


def test_asked_effort_comes_last_and_what_it_changes_is_made_up_for() -> None:
    made = Codec(COARSE, gain=1.2)
    result, _ = meet(of_size(10000, PIXELS), COARSE, 9, made)
    assert 9800 <= len(result.data) <= 10000
    efforts = [effort for _, _, effort in made.calls]
    assert efforts == sorted(efforts)
    assert set(efforts) == {target.PROBE_EFFORT, 9}
    assert efforts.count(9) <= 3


@pytest.mark.parametrize("size", [100, 10_000_000])
@pytest.mark.parametrize("lmbdas", [COARSE, FINE])
def test_sizes_out_of_reach(size: int, lmbdas: list[float]) -> None:
    made = Codec(lmbdas)
    smallest, largest = (
        len(made(quality, weight, 5).data) for quality, weight in ((1, 4.0), (len(lmbdas), 0.25))
    )
    made.calls.clear()
    bpp = [f"{8 * each / PIXELS:.3g}" for each in (smallest, largest)]
    expected = f"{smallest:,} to {largest:,} bytes ({bpp[0]} to {bpp[1]} bpp)"
    with pytest.raises(CodecError) as caught:
        meet(of_size(size, PIXELS), lmbdas, 5, made)
    assert str(caught.value).startswith(f"{size:,} bytes (")
    assert str(caught.value).endswith(f"out of reach; of this image the model can make {expected}")
    assert len(made.calls) <= MAX_PASSES + 1


def test_psnr_out_of_reach() -> None:
    with pytest.raises(
        CodecError, match=r"60 dB are out of reach.* make \d\d\.\d\d to \d\d\.\d\d dB"
    ):
        meet(of_psnr(60, PIXELS), COARSE, 5, Codec(COARSE))


@pytest.mark.parametrize(
    ("wanted", "too_good"),
    [(of_psnr(60, PIXELS), True), (of_psnr(9, PIXELS), False), (of_size(10**7, PIXELS), False)],
)
def test_only_a_score_above_the_reach_is_too_good(wanted: target.Target, too_good: bool) -> None:
    with pytest.raises(CodecError, match="out of reach") as caught:
        meet(wanted, COARSE, 5, Codec(COARSE))
    assert isinstance(caught.value, TooGoodError) == too_good
    assert ("--lossless auto" in str(caught.value)) == too_good


def test_sizes_between_two_that_are_next_to_each_other() -> None:
    made = Codec(COARSE, step=1000)
    with pytest.raises(CodecError, match=r"nearest are 10,000 bytes \(.*\) and 11,000 bytes"):
        meet(of_size(10500, PIXELS), COARSE, 1, made)
    assert len(made.calls) <= MAX_PASSES


def test_a_model_that_cannot_weigh_rate_makes_one_size() -> None:
    made = Codec([100.0])
    size = len(made(1, 1.0, 1).data)
    result, passes = meet(of_size(size, PIXELS), None, 1, made)
    assert (len(result.data), passes) == (size, 1)
    with pytest.raises(CodecError, match=rf"can make {size:,} bytes"):
        meet(of_size(2 * size, PIXELS), None, 1, made)


def test_the_lowest_of_many_qualities_reach_further_down() -> None:
    weights = [target.rate_weight(quality, 100) for quality in range(1, 101)]
    assert weights[0] == pytest.approx(1.2)
    assert weights[11:] == [1.0] * 89
    asked = [weight * lmbda for weight, lmbda in zip(weights, FINE, strict=True)]
    assert asked == sorted(set(asked), reverse=True)
    assert {target.rate_weight(quality, 8) for quality in range(1, 9)} == {1.0}
    assert target.rate_weight(1, 1) == 1.0


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("make", [of_size, of_psnr])
def test_what_is_no_target(make: Callable[[float, int], object], value: float) -> None:
    with pytest.raises(CodecError, match=r"give a size above 0|give one above 0"):
        make(value, PIXELS)


def test_an_image_that_comes_back_exactly_has_a_finite_psnr() -> None:
    """Below some lmbda this one does: the search must go on with numbers."""
    weights = []

    def attempt(quality: int, rate_weight: float, effort: int) -> Made:
        weights.append(rate_weight)
        log = math.log(FINE[quality - 1] * rate_weight)
        return Made(b"", math.inf if log < 5 else 50 - log)

    assert meet(of_psnr(44.0, PIXELS), FINE, 5, attempt)[0].score == pytest.approx(44.0, abs=0.1)
    with pytest.raises(
        CodecError, match=r"^55 dB cannot be met; the nearest are 4\d\.\d\d dB and 100"
    ):
        meet(of_psnr(55.0, PIXELS), FINE, 5, attempt)
    assert all(math.isfinite(weight) for weight in weights)


@pytest.mark.parametrize("size", [10**400, -1, 0], ids=["huge", "negative", "none"])
def test_sizes_that_no_file_has(size: int) -> None:
    with pytest.raises(CodecError, match="no file has such a size"):
        of_size(size, PIXELS)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1.001MB", 1_001_000), ("40kB", 40_000), ("0.5Ki", 512), ("7", 7), ("1e4", 10_000)],
)
def test_sizes_in_words(text: str, size: int) -> None:
    assert byte_size(text) == size


@pytest.mark.parametrize("text", ["9" * 400, "0.1", "kB", "-3", "e4", "nan", "4 0"])
def test_words_that_are_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no size"):
        byte_size(text)


def test_psnr() -> None:
    first = np.zeros((3, 4, 3), np.uint8)
    second = first.copy()
    assert psnr_of(first, second) == math.inf
    second[1, 2, 0] = 6
    assert psnr_of(first, second) == pytest.approx(10 * math.log10(255**2 / 1.0))


# Real files of the packaged model: the tiny one's random weights know no rate from distortion.


@pytest.fixture(scope="module")
def photo(coffee: Path) -> Image:
    return Image(load(coffee).pixels[100:228, 200:392].copy(), grey=False)


def test_files_have_the_size(photo: Image) -> None:
    """Alpha included, which is most of it here."""
    noise = np.random.default_rng(0).integers(16, size=photo.pixels.shape[:2], dtype=np.uint8)
    image = replace(photo, alpha=noise)
    size = len(codec.compress(image, quality=3, effort=1).data) - 100
    result = codec.compress(image, size=size, effort=3)
    assert 0.98 * size <= len(result.data) <= size
    assert 1 <= result.passes <= MAX_PASSES


@pytest.mark.parametrize("bpp", [0.12, 0.3])
def test_files_have_the_bpp(photo: Image, bpp: float) -> None:
    result = codec.compress(photo, bpp=bpp, effort=1)
    assert 8 * len(result.data) / (128 * 192) == pytest.approx(bpp, rel=0.02)


@pytest.mark.parametrize("grey", [False, True])
def test_images_have_the_psnr(photo: Image, grey: bool) -> None:
    pixels = np.repeat(photo.pixels[..., 1:2], 3, 2) if grey else photo.pixels
    image = Image(pixels, grey=grey)
    result = codec.compress(image, psnr=28.0, effort=3)
    restored = codec.decompress(result.data)
    assert result.score == psnr_of(image.pixels, restored.pixels)
    assert result.score == pytest.approx(28.0, abs=0.1)


@pytest.mark.parametrize("value", [100, math.nan, -math.inf])
def test_what_is_no_ssimulacra2(value: float) -> None:
    with pytest.raises(CodecError, match="give one below 100"):
        of_ssimulacra2(value, PIXELS)


@pytest.mark.parametrize("score", [30, 55.5])
def test_images_have_the_ssimulacra2(photo: Image, score: float) -> None:
    result = codec.compress(photo, ssimulacra2=score, tune="ssimulacra2", effort=3)
    found = ssimulacra2(photo.pixels, codec.decompress(result.data).pixels)
    assert result.score == pytest.approx(found, abs=1e-3)
    assert result.score == pytest.approx(score, abs=0.5)


def test_the_score_is_of_what_the_file_is_made_for(photo: Image) -> None:
    result = codec.compress(photo, psnr=27, tune="natural", effort=2)
    restored = codec.decompress(result.data)
    assert result.score == psnr_of(photo.pixels, restored.pixels)
    faithful = codec.decompress(result.data, synthesis="faithful")
    assert not np.array_equal(restored.pixels, faithful.pixels)


@pytest.mark.parametrize("wanted", [{"psnr": 70.0}, {"ssimulacra2": 99.0}])
def test_what_only_a_lossless_file_reaches(photo: Image, wanted: dict[str, Any]) -> None:
    result = codec.compress(photo, **wanted, effort=1)
    np.testing.assert_array_equal(codec.decompress(result.data).pixels, photo.pixels)
    assert result.header.lossless
    with pytest.raises(TooGoodError, match=r"out of reach; .*, and --lossless auto keeps every"):
        codec.compress(photo, **wanted, effort=1, lossless="never")


def test_a_psnr_below_the_reach_is_none_of_a_lossless_file(photo: Image) -> None:
    with pytest.raises(CodecError, match="5 dB are out of reach"):
        codec.compress(photo, psnr=5, effort=1)


def test_too_small_for_ssimulacra2(tiny_model: Path) -> None:
    image = Image(np.full((7, 30, 3), 77, np.uint8), grey=False)
    with pytest.raises(CodecError, match="needs 8 pixels a side, and the image has 30 x 7"):
        codec.compress(image, ssimulacra2=50, lossless="never", model=tiny_model)


def test_a_tiny_image_names_what_it_can_be(tiny_model: Path) -> None:
    image = Image(np.full((1, 1, 3), 77, np.uint8), grey=False)
    size = len(codec.compress(image, model=tiny_model).data)
    with pytest.raises(CodecError, match=r"\d+ bytes \([\d,]+.*bpp\)"):
        codec.compress(image, size=size // 2, model=tiny_model)


def test_targets_exclude_each_other(photo: Image, tiny_model: Path) -> None:
    with pytest.raises(CodecError, match="exclude each other"):
        codec.compress(photo, size=1000, psnr=30, model=tiny_model)
    with pytest.raises(CodecError, match="exclude each other"):
        codec.compress(photo, quality=1, bpp=0.5, model=tiny_model)


@pytest.mark.parametrize("effort", [0, 10, -1])
def test_no_such_effort(photo: Image, tiny_model: Path, effort: int) -> None:
    with pytest.raises(CodecError, match=f"no effort {effort}; give one from 1 to 9"):
        codec.compress(photo, effort=effort, model=tiny_model)
