"""Rate-distortion curves: means over images, Bjontegaard deltas, and what others published.

A point is a mapping with "bpp" and a value a metric; a curve is the points of one codec. Every
metric is compared on a scale where more is better: MS-SSIM in dB, -10 log10(1 - MS-SSIM), a metric
of which less is better with its sign turned, the others as they are.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import bjontegaard
from scipy.interpolate import PchipInterpolator

Row = Mapping[str, Any]
Curve = list[tuple[float, float]]
"""Points (bpp, value on the scale of comparison), both rising."""

OURS = "vqcodec"
"""Key of our codec; further ones of ours begin with it and a hyphen."""
METHODS = ("pchip", "akima")
SPEED_BPP = 0.3
"""Bits per pixel at which codecs' speeds are compared."""
COSTS = ("encode_seconds", "decode_seconds", "encode_peak", "decode_peak")

_PUBLISHED = Path(__file__).with_name("published_kodak.csv")
# Metric -> column. Published LPIPS is left out: of which network it is, is not certain.
PUBLISHED_COLUMNS = {"psnr": "psnr_db", "ms_ssim": "ms_ssim", "dists": "dists"}
_KODAK_SIZES = {(768, 512), (512, 768)}


def is_ours(codec: str) -> bool:
    """Whether a codec is vqcodec or a further one of ours, by its key."""
    return codec == OURS or codec.startswith(f"{OURS}-")


# Points


def means(rows: Sequence[Row], metrics: Sequence[Row]) -> list[dict[str, Any]]:
    """A point for every codec and quality: bpp and metrics averaged over the images.

    Args:
        rows: The measurements, one for each codec, image and quality.
        metrics: Those to average, by their "key".

    Returns:
        In the order of the codecs, by rising bpp, with median seconds and the largest peaks. What a
        row lacks, its point lacks too.
    """
    joins: dict[str, Callable[[list[float]], float]] = {
        **dict.fromkeys(["bpp", *(metric["key"] for metric in metrics)], fmean),
        **dict.fromkeys(["encode_seconds", "decode_seconds"], median),
        **dict.fromkeys(["encode_peak", "decode_peak"], max),
    }
    alike: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        alike.setdefault((row["codec"], row["quality"]), []).append(row)
    found = []
    for (codec, quality), own in alike.items():
        point: dict[str, Any] = {"codec": codec, "quality": quality}
        for name, join in joins.items():
            values: list[Any] = [row.get(name) for row in own]
            point[name] = None if None in values else join(values)
        found.append(point)
    codecs = list(dict.fromkeys(codec for codec, _ in alike))
    return sorted(found, key=lambda point: (codecs.index(point["codec"]), point["bpp"]))


def speeds(results: Row) -> list[dict[str, Any]]:
    """What every codec takes for an image.

    Args:
        results: See `vqcodec.bench.results`.

    Returns:
        Rows of "codec" (an entry of the results'), "quality" and "bpp" of its point nearest to
        `SPEED_BPP`, and `COSTS` there; of a codec without files, quality and bpp are None.
    """
    found = []
    for codec in results["codecs"]:
        own = _of(results["points"], codec["key"])
        near = min(own, key=lambda point: abs(point["bpp"] - SPEED_BPP), default=None)
        runs = _of(results["speed"], codec["key"]) if near is None else [near]
        row: dict[str, Any] = {"codec": codec, "quality": None, "bpp": None, **costs(runs)}
        found.append(row if near is None else row | {key: near[key] for key in ("quality", "bpp")})
    return found


def costs(rows: Sequence[Row]) -> dict[str, float | None]:
    """Each of `COSTS`: median seconds, the largest peaks, None where no row has any."""
    found: dict[str, float | None] = {}
    for name in COSTS:
        values = [row[name] for row in rows if row.get(name) is not None]
        join: Callable[[list[float]], float] = max if name.endswith("peak") else median
        found[name] = join(values) if values else None
    return found


def published() -> dict[str, list[dict[str, Any]]]:
    """Curves on the 24 Kodak images as others published them, by the name of the codec.

    Returns:
        Points with "bpp", "psnr_db", "ms_ssim", "lpips", "dists", "encode_s" and "decode_s"
        (seconds an image on their machines), each a number or None, and "source": repository,
        commit and file.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    with _PUBLISHED.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            name, source = row.pop("codec"), row.pop("source")
            numbers = {column: float(text) if text else None for column, text in row.items()}
            found.setdefault(name, []).append({**numbers, "source": source})
    return found


def is_kodak(images: Sequence[Row]) -> bool:
    """Whether images are those of the published curves, by their names and sizes.

    Args:
        images: "name", "width" and "height" of each.
    """
    names = sorted(Path(image["name"]).stem for image in images)
    return names == [f"kodim{n:02}" for n in range(1, 25)] and all(
        (image["width"], image["height"]) in _KODAK_SIZES for image in images
    )


# Curves


def comparable(value: float, metric: Row) -> float:
    """A value on the scale of comparison; infinite for an MS-SSIM of 1."""
    if metric["key"] == "ms_ssim":
        return -10 * math.log10(1 - value) if value < 1 else math.inf
    return -value if metric["better"] == "lower" else value


def natural(value: float, metric: Row) -> float:
    """The inverse of `comparable`."""
    if metric["key"] == "ms_ssim":
        return float(1 - 10 ** (-value / 10))
    return -value if metric["better"] == "lower" else value


def rising(points: Iterable[Row], metric: Row, column: str | None = None) -> Curve:
    """The part of a curve on which rate and metric rise together.

    A Bjontegaard delta needs the rate as a function of the metric too, and a measured curve may
    fold back where a codec reaches its limits. Points are dropped at the ends only, as few as
    possible: the longest unbroken stretch stays. If that would drop half of the points or more,
    nothing stays, because the rest would not stand for the codec. Equal points count as one.

    Args:
        points: Of one codec; those without a finite value do not count.
        metric: Its "key" and "better".
        column: Where the points have the metric, if not under its key.
    """
    name = column or metric["key"]
    values = ((each["bpp"], each.get(name)) for each in points)
    known = {(bpp, comparable(value, metric)) for bpp, value in values if value is not None}
    ordered = sorted(point for point in known if math.isfinite(point[1]))
    stretches: list[Curve] = [ordered[:1]]
    for before, after in itertools.pairwise(ordered):
        if before[0] < after[0] and before[1] < after[1]:
            stretches[-1].append(after)
        else:
            stretches.append([after])
    longest = max(stretches, key=len)
    return longest if 2 * len(longest) > len(ordered) else []


def bjontegaard_deltas(
    anchor: Curve, curve: Curve, method: str
) -> tuple[float | None, float | None]:
    """BD-rate and BD-distortion of a curve against an anchor, over the range that both cover.

    Args:
        anchor: What is compared with.
        curve: What is compared.
        method: How to interpolate, one of `METHODS`.

    Returns:
        The mean difference in rate at equal distortion in %, negative if the curve needs fewer
        bits; the mean difference in distortion at equal rate on the scale of comparison, positive
        if the curve is better. None where there is no common range, or a curve of one point.

    Source: Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33.
    """
    if min(len(anchor), len(curve)) < 2:
        return None, None
    axes = [[point[axis] for point in each] for each in (anchor, curve) for axis in (0, 1)]
    options = {"method": method, "require_matching_points": False, "min_overlap": 0}
    return (
        float(bjontegaard.bd_rate(*axes, **options)) if overlap(anchor, curve, 1) else None,
        float(bjontegaard.bd_psnr(*axes, **options)) if overlap(anchor, curve, 0) else None,
    )


def overlap(anchor: Curve, curve: Curve, axis: int) -> tuple[float, float] | None:
    """The range of bpp (axis 0) or of the metric (axis 1) that both curves cover, if any."""
    if not anchor or not curve:
        return None
    # Both rise.
    lowest, highest = max(anchor[0][axis], curve[0][axis]), min(anchor[-1][axis], curve[-1][axis])
    return (lowest, highest) if lowest < highest else None


def value_at(curve: Curve, bpp: float) -> float | None:
    """What a curve reaches at a rate; None outside of the curve."""
    if len(curve) < 2 or not curve[0][0] <= bpp <= curve[-1][0]:
        return None
    found = PchipInterpolator([math.log(rate) for rate, _ in curve], [each for _, each in curve])
    return float(found(math.log(bpp)))


def below(curve: Curve, bpp: float | None) -> Curve:
    """The part of a curve up to a rate, with a point there; all of it for None."""
    if bpp is None:
        return curve
    end = value_at(curve, bpp)
    kept = [point for point in curve if point[0] < bpp]
    return kept if end is None else [*kept, (bpp, end)]


# Comparisons


def comparisons(
    points: Sequence[Row],
    codecs: Sequence[Row],
    metrics: Sequence[Row],
    published: Mapping[str, Sequence[Row]],
    most: float | None = None,
) -> list[dict[str, Any]]:
    """Bjontegaard deltas of each codec of ours against every anchor, by every metric.

    Args:
        points: From `means`.
        codecs: "key", "name" and "measured" of each; those measured for speed alone do not count.
        metrics: "key", "name" and "better" of each.
        published: From `published` if `is_kodak`, else empty. A curve counts for those of
            `PUBLISHED_COLUMNS` that it has.
        most: Bits per pixel above which no curve counts, or None.

    Returns:
        By codec, anchor and metric: "bd_rate_percent" and "bd_distortion" by `METHODS` as
        `bjontegaard_deltas` gives them, MS-SSIM in dB; "overlap_metric" (MS-SSIM as it is) and
        "overlap_bpp", [lowest, highest]. Null where there is no common range.
    """
    anchors = [
        ({"anchor": anchor["name"], "source": "measured", "metric": metric["key"]}, metric, theirs)
        for anchor in _anchors(codecs)
        for metric in metrics
        for theirs in [rising(_of(points, anchor["key"]), metric)]
    ]
    anchors += [
        ({"anchor": name, "source": "published", "metric": metric["key"]}, metric, theirs)
        for name, curve in published.items()
        for metric in metrics
        if (column := PUBLISHED_COLUMNS.get(metric["key"]))
        and (theirs := rising(curve, metric, column))
    ]
    found = []
    for own in _own(points):
        curves = {each["key"]: below(rising(_of(points, own), each), most) for each in metrics}
        found += [
            {"codec": own, **what, **_deltas(below(theirs, most), curves[metric["key"]], metric)}
            for what, metric, theirs in anchors
        ]
    return found


def above(points: Sequence[Row], codecs: Sequence[Row], metrics: Sequence[Row]) -> list[Row]:
    """PSNR of each codec of ours above the measured anchors' curves at the same rate.

    Args:
        points: From `means`.
        codecs: As for `comparisons`.
        metrics: As for `comparisons`.

    Returns:
        "codec", "anchor", "quality" and "db" by codec, anchor and rising rate; null outside of the
        anchor's curve.
    """
    psnr = next(metric for metric in metrics if metric["key"] == "psnr")
    return [
        {
            "codec": own,
            "anchor": anchor["name"],
            "quality": point["quality"],
            "db": None if reached is None else point["psnr"] - reached,
        }
        for own in _own(points)
        for anchor in _anchors(codecs)
        for theirs in [rising(_of(points, anchor["key"]), psnr)]
        for point in _of(points, own)
        if point["psnr"] is not None
        for reached in [value_at(theirs, point["bpp"])]
    ]


def _own(points: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(point["codec"] for point in points if is_ours(point["codec"])))


def _anchors(codecs: Sequence[Row]) -> list[Row]:
    return [each for each in codecs if not is_ours(each["key"]) and each["measured"] == "all"]


def _of(points: Sequence[Row], codec: str) -> list[Row]:
    return [point for point in points if point["codec"] == codec]


def _deltas(theirs: Curve, ours: Curve, metric: Row) -> dict[str, Any]:
    deltas = {method: bjontegaard_deltas(theirs, ours, method) for method in METHODS}
    values, rates = overlap(theirs, ours, 1), overlap(theirs, ours, 0)
    return {
        "bd_rate_percent": {method: rate for method, (rate, _) in deltas.items()},
        "bd_distortion": {method: distortion for method, (_, distortion) in deltas.items()},
        "overlap_metric": values and sorted(natural(value, metric) for value in values),
        "overlap_bpp": rates and list(rates),
    }
