"""Means, Bjontegaard deltas against an independent computation, and the published curves."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bjontegaard", reason="belongs to the extra `bench`")

import numpy as np
import published_jpeg
from scipy.integrate import quad
from scipy.interpolate import PchipInterpolator

from vqcodec.bench import curves
from vqcodec.image import load

PSNR = {"key": "psnr", "name": "PSNR", "unit": "dB", "better": "higher"}
MS_SSIM = {"key": "ms_ssim", "name": "MS-SSIM", "unit": "", "better": "higher"}
ALEX = {"key": "lpips", "name": "LPIPS (AlexNet)", "unit": "", "better": "lower"}
VGG = {"key": "lpips", "name": "LPIPS (VGG)", "unit": "", "better": "lower"}
DISTS = {"key": "dists", "name": "DISTS", "unit": "", "better": "lower"}
BUTTERAUGLI = {"key": "butteraugli", "name": "Butteraugli", "unit": "", "better": "lower"}

# Means over the 24 Kodak images, Pillow 13: bpp and PSNR.
JPEG = [  # optimized, progressive, 4:2:0
    (0.15427, 23.8522),
    (0.26837, 26.6718),
    (0.45818, 29.1445),
    (0.61500, 30.4915),
    (0.74344, 31.4220),
    (0.86484, 32.1738),
    (0.99593, 32.9076),
    (1.31531, 34.5221),
]
WEBP = [  # method 6
    (0.10257, 25.6749),
    (0.21742, 28.1086),
    (0.27442, 28.9319),
    (0.37749, 30.1936),
    (0.57722, 32.2019),
    (0.76866, 33.7324),
    (0.93904, 34.8720),
]
AVIF = [  # speed 6, 4:2:0
    (0.10560, 26.8068),
    (0.16296, 28.1326),
    (0.24846, 29.6072),
    (0.38238, 31.2798),
    (0.60268, 33.3987),
    (0.88862, 35.4279),
]


def points(codec: str, curve: list[tuple[float, float]], key: str = "psnr") -> list[dict[str, Any]]:
    return [
        {"codec": codec, "quality": n, "bpp": bpp, "psnr": None, key: value}
        for n, (bpp, value) in enumerate(curve, 1)
    ]


def codec(key: str, measured: str = "all") -> dict[str, str]:
    return {"key": key, "name": key.upper(), "settings": "", "measured": measured}


def logarithmic(rates: list[float], gain: float) -> list[tuple[float, float]]:
    """A curve that doubles its rate for every 5 dB."""
    return [(rate, 30 + gain + 5 * math.log2(rate)) for rate in rates]


# Means


def test_means_of_bpp_and_metrics_medians_of_seconds_largest_peaks() -> None:
    def row(image: str, quality: int, bpp: float, **values: Any) -> dict[str, Any]:
        return {"codec": "jpeg", "image": image, "quality": quality, "bpp": bpp, **values}

    times = {"encode_seconds": 1.0, "decode_seconds": 2.0, "encode_peak": 7, "decode_peak": None}
    rows = [
        row("a", 9, 0.5, psnr=30.0, lpips=None, **times),
        row("b", 9, 0.7, psnr=32.0, lpips=0.5, **times | {"encode_seconds": 5.0}),
        row("c", 9, 0.9, psnr=40.0, lpips=0.5, **times | {"encode_peak": 9}),
        row("a", 5, 0.1, psnr=20.0, lpips=0.5, **times),
    ]
    low, high = curves.means(rows, [PSNR, ALEX])
    assert (low["codec"], low["quality"], high["quality"]) == ("jpeg", 5, 9)
    assert (low["psnr"], low["lpips"]) == (20, 0.5)
    assert high["bpp"] == pytest.approx(0.7)
    assert high["psnr"] == 34
    assert high["lpips"] is None
    assert (high["encode_seconds"], high["decode_seconds"]) == (1, 2)
    assert (high["encode_peak"], high["decode_peak"]) == (9, None)


# Curves


@pytest.mark.parametrize("metric", [PSNR, MS_SSIM, ALEX])
def test_natural_inverts_comparable(metric: dict[str, str]) -> None:
    assert curves.natural(curves.comparable(0.9, metric), metric) == pytest.approx(0.9)
    assert curves.comparable(0.95, MS_SSIM) == pytest.approx(13.0103)
    assert curves.comparable(1.0, MS_SSIM) == math.inf
    assert curves.comparable(0.2, ALEX) > curves.comparable(0.3, ALEX)


def test_rising_drops_ends_that_fold_back() -> None:
    whole = [(0.1, 25.0), (0.2, 27.0), (0.4, 30.0), (0.8, 33.0)]
    folded = [(0.05, 25.5), *whole, (0.9, 32.9)]
    assert curves.rising(points("jpeg", folded[::-1]), PSNR) == whole
    assert curves.rising(points("jpeg", [*whole, whole[2]]), PSNR) == whole
    assert curves.rising(points("jpeg", [*whole, (1.0, math.inf)]), PSNR) == whole


def test_rising_gives_up_what_is_no_curve() -> None:
    assert curves.rising([], PSNR) == []
    assert curves.rising([{"bpp": 0.1, "psnr": None}], PSNR) == []
    broken = [(0.1, 25.0), (0.2, 27.0), (0.3, 26.0), (0.4, 28.0)]
    assert curves.rising(points("jpeg", broken), PSNR) == []


@pytest.mark.parametrize("method", curves.METHODS)
def test_bjontegaard_deltas_of_curves_that_are_known(method: str) -> None:
    anchor = logarithmic([0.1, 0.2, 0.4, 0.8, 1.6], 0)
    better = logarithmic([0.15, 0.3, 0.6], 5)
    rate, distortion = curves.bjontegaard_deltas(anchor, better, method)
    assert rate == pytest.approx(-50)
    assert distortion == pytest.approx(5)


def test_no_deltas_of_one_point_or_apart() -> None:
    anchor = logarithmic([0.1, 0.2, 0.4], 0)
    one, apart = logarithmic([0.2], 3), logarithmic([4, 8], 30)
    for other in (one, apart, []):
        assert curves.bjontegaard_deltas(anchor, other, "pchip") == (None, None)
        assert curves.overlap(anchor, other, 0) is None


def test_deltas_where_only_one_axis_overlaps() -> None:
    anchor, far_better = logarithmic([0.1, 0.2, 0.4], 0), logarithmic([0.1, 0.2, 0.4], 15)
    rate, distortion = curves.bjontegaard_deltas(anchor, far_better, "pchip")
    assert rate is None
    assert distortion == pytest.approx(15)


def test_value_at_a_rate() -> None:
    curve = logarithmic([0.1, 0.2, 0.4, 0.8], 0)
    ((bpp, value),) = logarithmic([0.3], 0)
    assert curves.value_at(curve, bpp) == pytest.approx(value)
    assert curves.value_at(curve, 1.0) is None
    assert curves.value_at(curve, 0.8) == pytest.approx(curve[-1][1])


def test_below_a_rate() -> None:
    curve = logarithmic([0.1, 0.2, 0.4, 0.8], 0)
    assert curves.below(curve, None) == curve
    assert curves.below(curve, 1.0) == curve
    *kept, end = curves.below(curve, 0.3)
    assert kept == curve[:2]
    assert end == pytest.approx(logarithmic([0.3], 0)[0])
    assert curves.below(curve, 0.4) == [*curve[:2], pytest.approx(curve[2])]
    assert curves.below(curve, 0.05) == []


# Comparisons


def independent(
    anchor: list[tuple[float, float]], curve: list[tuple[float, float]]
) -> tuple[float, float]:
    """BD-rate in % and BD-distortion: PCHIP on the logarithm of the rate, and quadrature."""
    found = []
    for x, y in ((1, 0), (0, 1)):
        axes = []
        for each in (anchor, curve):
            plane = np.array([(math.log(bpp), value) for bpp, value in each])
            axes.append((plane[:, x], plane[:, y]))
        lowest, highest = max(a[0] for a, _ in axes), min(a[-1] for a, _ in axes)
        knots = sorted({float(v) for a, _ in axes for v in a if lowest < v < highest})
        areas = [
            sum(
                quad(PchipInterpolator(a, b), start, end, epsabs=1e-13, epsrel=1e-13)[0]
                for start, end in itertools.pairwise([lowest, *knots, highest])
            )
            for a, b in axes
        ]
        found.append((areas[1] - areas[0]) / (highest - lowest))
    return 100 * (math.exp(found[0]) - 1), found[1]


@pytest.mark.parametrize("peer", [WEBP, AVIF], ids=["webp", "avif"])
def test_jpeg_against_peers_is_what_an_independent_computation_gives(
    peer: list[tuple[float, float]],
) -> None:
    """JPEG stands in the place of vqcodec: what is compared with every anchor."""
    both = points(curves.OURS, JPEG) + points("peer", peer)
    (found,) = curves.comparisons(both, [codec(curves.OURS), codec("peer")], [PSNR], {})
    rate, distortion = independent(peer, JPEG)
    assert found["bd_rate_percent"]["pchip"] == pytest.approx(rate, rel=1e-6)
    assert found["bd_distortion"]["pchip"] == pytest.approx(distortion, rel=1e-6)
    assert found["bd_rate_percent"]["akima"] == pytest.approx(rate, rel=0.02)
    assert rate > 50
    assert found["overlap_metric"] == [max(JPEG[0][1], peer[0][1]), min(JPEG[-1][1], peer[-1][1])]
    assert found["overlap_bpp"] == [max(JPEG[0][0], peer[0][0]), min(JPEG[-1][0], peer[-1][0])]
    assert (found["anchor"], found["source"], found["metric"]) == ("PEER", "measured", "psnr")


def test_published_ms_ssim_is_compared_in_decibels() -> None:
    published = curves.published()
    jpeg, webp = (
        [(row["bpp"], row["ms_ssim"]) for row in published[name]] for name in ("JPEG", "WebP")
    )
    (found,) = curves.comparisons(
        points(curves.OURS, jpeg, "ms_ssim"), [], [MS_SSIM], {"WebP": published["WebP"]}
    )
    rate, distortion = independent(
        *([(bpp, -10 * math.log10(1 - value)) for bpp, value in each] for each in (webp, jpeg))
    )
    assert found["bd_rate_percent"]["pchip"] == pytest.approx(rate, rel=1e-6)
    assert found["bd_distortion"]["pchip"] == pytest.approx(distortion, rel=1e-6)
    assert found["overlap_metric"] == pytest.approx([webp[0][1], jpeg[-1][1]])
    assert found["source"] == "published"


def test_less_lpips_at_the_same_rate_is_better() -> None:
    worse, better = ([(rate, c / rate) for rate in (0.1, 0.2, 0.4)] for c in (0.03, 0.015))
    both = points(curves.OURS, better, "lpips") + points("jpeg", worse, "lpips")
    (found,) = curves.comparisons(both, [codec("jpeg")], [VGG], {})
    assert found["bd_rate_percent"]["pchip"] < -40
    assert found["bd_distortion"]["pchip"] > 0
    assert found["overlap_metric"] == pytest.approx([0.075, 0.15])


@pytest.mark.parametrize("metric", [PSNR, ALEX, DISTS, BUTTERAUGLI])
def test_half_the_bits_at_every_distortion_is_a_bd_rate_of_minus_half(
    metric: dict[str, str],
) -> None:
    sign, key = (1 if metric["better"] == "higher" else -1), metric["key"]
    anchor = [(rate, sign * math.log2(rate)) for rate in (0.1, 0.2, 0.4, 0.8)]
    both = points("jpeg", anchor, key)
    both += points(curves.OURS, [(rate / 2, value) for rate, value in anchor], key)
    (found,) = curves.comparisons(both, [codec("jpeg")], [metric], {})
    assert found["bd_rate_percent"]["pchip"] == pytest.approx(-50)
    assert found["bd_distortion"]["pchip"] == pytest.approx(1)  # better by what doubles the rate
    assert found["overlap_metric"] == pytest.approx(sorted((anchor[0][1], anchor[-1][1])))


def test_every_codec_of_ours_is_compared_with_every_peer() -> None:
    ours = logarithmic([0.1, 0.2, 0.4], 0)
    both = points("jpeg", [(2 * rate, value) for rate, value in ours])
    both += points(curves.OURS, ours)
    both += points("vqcodec-natural", [(4 * rate, value) for rate, value in ours])
    codecs = [codec(key) for key in (curves.OURS, "vqcodec-natural", "jpeg")]
    found = curves.comparisons(both, codecs, [PSNR], {})
    assert [(each["codec"], each["anchor"]) for each in found] == [
        (curves.OURS, "JPEG"),
        ("vqcodec-natural", "JPEG"),
    ]
    rates = [each["bd_rate_percent"]["pchip"] for each in found]
    assert rates == pytest.approx([-50, 100])
    above = curves.above(both, codecs, [PSNR])
    assert [each["codec"] for each in above] == [curves.OURS] * 3 + ["vqcodec-natural"] * 3


def test_comparisons_below_a_rate() -> None:
    """Twice as good as the anchor up to 0.4 bpp, and as good as it from 0.8 on."""
    anchor = logarithmic([0.05, 0.1, 0.2, 0.4, 0.8, 1.6], 0)
    ours = [*logarithmic([0.05, 0.1, 0.2, 0.4], 5), *anchor[-1:]]
    both = points(curves.OURS, ours) + points("jpeg", anchor)
    (whole,) = curves.comparisons(both, [codec("jpeg")], [PSNR], {})
    (low,) = curves.comparisons(both, [codec("jpeg")], [PSNR], {}, most=0.4)
    assert low["bd_rate_percent"]["pchip"] == pytest.approx(-50)
    assert low["overlap_bpp"] == pytest.approx([0.05, 0.4])
    assert whole["bd_rate_percent"]["pchip"] > -50


def test_anchors_are_measured_peers_and_published_curves_that_have_the_metric() -> None:
    ours = logarithmic([0.1, 0.2, 0.4], 0)
    both = points(curves.OURS, ours) + points("jpeg", logarithmic([4, 8, 16], 30))
    codecs = [codec(curves.OURS), codec("jpeg"), codec("mbt2018", "speed")]
    found = curves.comparisons(both, codecs, [PSNR, VGG], curves.published())
    measured = [each for each in found if each["source"] == "measured"]
    assert [(each["anchor"], each["metric"]) for each in measured] == [
        ("JPEG", "psnr"),
        ("JPEG", "lpips"),
    ]
    for each in measured:
        assert each["bd_rate_percent"] == {"pchip": None, "akima": None}
        assert each["overlap_bpp"] is None
        assert each["overlap_metric"] is None
    others = found[2:]
    assert {each["anchor"] for each in others} == {*curves.published()}
    assert {each["metric"] for each in others} == {"psnr"}


def test_above_measured_anchors() -> None:
    both = points(curves.OURS, logarithmic([0.1, 0.3, 0.9], 2))
    both += points("jpeg", logarithmic([0.2, 0.4, 0.8], 0))
    codecs = [codec(curves.OURS), codec("jpeg"), codec("mbt2018", "speed")]
    found = curves.above(both, codecs, [PSNR])
    assert [(each["anchor"], each["quality"]) for each in found] == [("JPEG", n) for n in (1, 2, 3)]
    assert found[0]["db"] is None
    assert found[1]["db"] == pytest.approx(2, abs=1e-9)
    assert found[2]["db"] is None


# Published curves


def test_published_curves_have_sources_and_plausible_values() -> None:
    published = curves.published()
    assert {name: len(curve) for name, curve in published.items()} == {
        "AV1": 12,
        "BPG 4:4:4": 8,
        "Cool-Chic 5.0": 5,
        "ELIC": 6,
        "HiFiC": 3,
        "JPEG": 19,
        "JPEG 2000": 19,
        "MLIC+": 6,
        "MS-ILLM": 6,
        "MS-ILLM (no GAN)": 8,
        "QARV": 16,
        "Toderici 2017": 32,
        "VTM": 8,
        "WebP": 19,
        "bmshj2018-factorized": 8,
        "bmshj2018-hyperprior": 8,
        "cheng2020-anchor": 6,
        "mbt2018": 8,
        "mbt2018-mean": 8,
    }
    for row in itertools.chain(*published.values()):
        repository, _, path = row["source"].partition(":")
        assert repository.count("/") == 1
        assert len(repository.partition("@")[2]) >= 7
        assert path
        assert 0.01 < row["bpp"] < 5
        assert row["psnr_db"] is not None or row["ms_ssim"] is not None
        for column, lowest, highest in (
            ("psnr_db", 20, 50),
            ("ms_ssim", 0.7, 1),
            ("lpips", 0, 0.3),
            ("dists", 0, 0.3),
            ("encode_s", 0, 300),
            ("decode_s", 0, 300),
        ):
            assert row[column] is None or lowest < row[column] < highest, row


def test_published_curves_rise_and_lose_no_point() -> None:
    for name, curve in curves.published().items():
        columns = ((PSNR, "psnr_db"), (MS_SSIM, "ms_ssim"), (ALEX, "lpips"), (DISTS, "dists"))
        for metric, column in columns:
            known = [row for row in curve if row[column] is not None]
            assert len(curves.rising(curve, metric, column)) == len(known), (name, column)


def test_is_kodak() -> None:
    images = [{"name": f"kodim{n:02}.png", "width": 768, "height": 512} for n in range(1, 25)]
    upright = [*images[1:], images[0] | {"width": 512, "height": 768}]
    assert curves.is_kodak(images)
    assert curves.is_kodak(upright)
    assert not curves.is_kodak(images[1:])
    assert not curves.is_kodak([*images[1:], images[0] | {"width": 256}])
    assert not curves.is_kodak([*images[1:], images[0] | {"name": "other.png"}])


def test_measured_jpeg_against_a_published_curve(
    monkeypatch: pytest.MonkeyPatch, coffee: Path
) -> None:
    pixels = load(coffee).pixels
    points = [
        published_jpeg.measured_point([pixels], "JPEG", quality, {})
        for quality in published_jpeg.QUALITIES
    ]
    monkeypatch.setattr(published_jpeg, "published_points", {"JPEG": points}.__getitem__)
    for row in published_jpeg.published_differences([pixels], "JPEG", {}):
        assert row[3:] == pytest.approx((0, 0, 0), abs=1e-9)
    ((_, _, _, at_rate, percent, decibels),) = published_jpeg.published_differences(
        [pixels], "JPEG", {"optimize": True}, [30]
    )
    assert at_rate > 0.1
    assert percent < -1
    assert decibels == pytest.approx(0, abs=1e-9)


def test_the_script_reads_the_package_s_published_curves() -> None:
    webp = [(row["bpp"], row["psnr_db"]) for row in curves.published()["WebP"]]
    assert published_jpeg.published_points("WebP") == webp
    assert len(webp) == len(published_jpeg.QUALITIES)
