"""Plots of what was measured: PNG files for the folder, SVG for the page, from the same figures.

A figure is drawn in light colours. `svg` exchanges every one of them for a CSS variable of the
same name, so that the page can draw it dark, and prefixes every id, so that many fit into one page.
"""

from __future__ import annotations

import html
import io
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from statistics import fmean
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from scipy.optimize import isotonic_regression

from vqcodec.bench.curves import OURS, PUBLISHED_COLUMNS, is_ours

Results = Mapping[str, Any]
Published = Mapping[str, Sequence[Mapping[str, Any]]]

# Name of the CSS variable -> (light, dark). The hues are Okabe and Ito's, which people of any
# colour vision tell apart, darkened or lightened until they stand out on their background.
COLOURS = {
    "ink": ("#1b2026", "#e8eaed"),
    "faint": ("#5d6670", "#a3abb4"),
    "grid": ("#e4e7ea", "#2c3238"),
    "published": ("#9aa3ad", "#6c757f"),
    "ours": ("#cc4f00", "#ff8a3d"),
    "blue": ("#00619e", "#4ea6e6"),
    "green": ("#00856a", "#2cc49d"),
    "pink": ("#b1478a", "#ec96cb"),
    "brown": ("#856404", "#e2bd3e"),
    "sky": ("#3198d8", "#9fd3f8"),
    "violet": ("#6a4fc4", "#b6a3ff"),
    "level-0": ("#7a2e00", "#ffc9a3"),
    "level-1": ("#d9661f", "#f08a4b"),
    "level-2": ("#f3ac7c", "#a8501a"),
    "level-3": ("#f9d3b9", "#6b3514"),
    "rest": ("#b8bfc6", "#58616a"),
}
LEVELS = [name for name in COLOURS if name.startswith("level-")]

# A codec keeps its colour and marker whichever others are measured beside it.
_MARKS = {
    OURS: ("ours", "o"),
    "jpeg": ("blue", "s"),
    "webp": ("green", "^"),
    "avif": ("pink", "D"),
    "avif-psnr": ("pink", "d"),
    "jpeg2000": ("brown", "v"),
    "jxl": ("sky", "P"),
}
_FURTHER_MARKS = [("violet", "o"), ("level-0", "X"), ("level-1", "p")]  # of ours
_OTHER_MARKS = [("violet", "X"), ("blue", "<"), ("green", ">"), ("pink", "p"), ("brown", "h")]

_BPP_TICKS = [mantissa * 10.0**power for power in range(-4, 3) for mantissa in (1, 2, 3, 5)]
# Rates drawn around those of ours: a published curve may go on for twenty times as far.
_BELOW, _ABOVE = 1.7, 1.9

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,  # names of codecs may hold a dollar
    "text.color": COLOURS["ink"][0],
    "axes.edgecolor": COLOURS["faint"][0],
    "axes.labelcolor": COLOURS["ink"][0],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": COLOURS["grid"][0],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["faint"][0],
    "ytick.color": COLOURS["faint"][0],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "svg.fonttype": "none",
    "svg.hashsalt": "vqcodec",
}
_LINE_HEIGHT = 10.5  # between labels at the margin, in points
_MARGIN = 134  # for them, in points


class Curve(NamedTuple):
    """A curve of one codec, for one metric.

    Attributes:
        key: Names the curve in a figure, the same for every metric: c0, c1...
        name: Of the codec.
        label: Its name beside the curve.
        colour: A key of `COLOURS`.
        marker: As matplotlib calls it, or "" for a thin line.
        measured: Whether it was measured in this run, else published.
        ours: Whether it is vqcodec's, or a further one of ours.
        points: (bpp, value, quality or None), rising in bpp.
    """

    key: str
    name: str
    label: str
    colour: str
    marker: str
    measured: bool
    ours: bool
    points: tuple[tuple[float, float, float | None], ...]


def curves(results: Results, published: Published, metric: Mapping[str, str]) -> list[Curve]:
    """The curves of a metric: ours, the measured peers, the published ones.

    Those without a value of the metric have no points.

    Args:
        results: Of the run.
        published: Curve name -> points with `bpp`, `psnr_db`, `ms_ssim`, `lpips`.
        metric: One of the results' metrics; MS-SSIM is given in dB, -10 log10(1 - x).
    """
    key, column = metric["key"], PUBLISHED_COLUMNS.get(metric["key"], "")
    measured = [codec for codec in results["codecs"] if codec["measured"] == "all"]
    measured.sort(key=lambda codec: not is_ours(codec["key"]))
    further, others = itertools.cycle(_FURTHER_MARKS), itertools.cycle(_OTHER_MARKS)
    marks = {
        codec["name"]: _MARKS.get(codec["key"])
        or next(further if is_ours(codec["key"]) else others)
        for codec in measured
    }
    found: list[Curve] = []
    for codec in measured:
        name, ours = codec["name"], is_ours(codec["key"])
        label = OURS if codec["key"] == OURS else name
        own = [point for point in results["points"] if point["codec"] == codec["key"]]
        points = _drawable(own, key, key)
        found.append(Curve(f"c{len(found)}", name, label, *marks[name], True, ours, points))
    for name, rows in published.items():
        colour, _ = marks.get(name, ("published", ""))
        points = _drawable(rows, column, key)
        found.append(Curve(f"c{len(found)}", name, name, colour, "", False, False, points))
    return found


def shown(metric: str, value: float) -> float:
    """A metric's value as it is drawn: MS-SSIM in dB, the others as they are."""
    return -10 * math.log10(1 - value) if metric == "ms_ssim" else value


def axis_label(metric: Mapping[str, str]) -> str:
    """What stands at the axis of a metric."""
    unit = "dB" if metric["key"] == "ms_ssim" else metric.get("unit", "")
    label = f"{metric['name']}, {unit}" if unit else metric["name"]
    return f"{label} (lower is better)" if metric.get("better") == "lower" else label


def _drawable(
    rows: Iterable[Mapping[str, Any]], column: str, metric: str
) -> tuple[tuple[float, float, float | None], ...]:
    found = (
        (row["bpp"], shown(metric, value), row.get("quality"))
        for row in rows
        if (value := row.get(column)) is not None
        and row["bpp"] > 0
        and not (metric == "ms_ssim" and value >= 1)
    )
    return tuple(sorted((each for each in found if math.isfinite(each[1])), key=itemgetter(0)))


def swatch(marker: str) -> str:
    """Points of an SVG polygon in the shape of a marker, 8 units wide, around (0, 0)."""
    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    corners = np.asarray(path.to_polygons(closed_only=False)[0])
    corners = corners * 4 / np.abs(corners).max()
    return " ".join(f"{x:.2f},{-y:.2f}" for x, y in corners)


# --- figures -------------------------------------------------------------------------------------


class Mark(NamedTuple):
    """A point of a drawn curve.

    Attributes:
        curve: Key of its curve.
        x: From the left, as a share of the figure's width.
        y: From the top, as a share of its height.
        bpp: Bits per pixel.
        value: Of the metric, as drawn.
        quality: Of the codec, or None for a published point.
    """

    curve: str
    x: float
    y: float
    bpp: float
    value: float
    quality: float | None


def rate_distortion(
    drawn: Sequence[Curve], label: str, *, narrow: bool = False
) -> tuple[Figure, list[Mark]]:
    """Distortion against rate, the rate on a logarithmic axis around the rates of ours.

    Args:
        drawn: At least one of them with points.
        label: Of the axis of distortion.
        narrow: For a phone: no labels at the curves' ends.

    Returns:
        The figure, and where in it the points are.
    """
    drawn = [curve for curve in drawn if curve.points]
    width, height = (330, 330) if narrow else (760, 450)
    left, right, top, bottom = (34, 8, 24, 36) if narrow else (34, _MARGIN, 24, 36)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        axes = figure.add_axes(
            (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
        )
        axes.set_title(label, loc="left", fontsize=10, fontweight="bold", x=-left / width)
        axes.set_xlabel("bits per pixel (logarithmic)", color=COLOURS["faint"][0])
        low, high = _rates(drawn)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(FixedLocator([t for t in _BPP_TICKS if low <= t <= high]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(7))
        axes.grid(axis="x", visible=False)
        axes.set_ylim(*_values(drawn, low, high))
        for curve in drawn:
            _draw(axes, curve, narrow)
        if not narrow:
            _label_ends(axes, drawn)
        return figure, _marks_within(figure, axes, drawn)


def _rates(drawn: Sequence[Curve]) -> tuple[float, float]:
    around = [curve for curve in drawn if curve.ours] or drawn
    rates = [bpp for curve in around for bpp, _, _ in curve.points]
    return min(rates) / _BELOW, max(rates) * _ABOVE


def _values(drawn: Sequence[Curve], low: float, high: float) -> tuple[float, float]:
    inside = [
        (value, curve.measured)
        for curve in drawn
        for bpp, value, _ in curve.points
        if low <= bpp <= high
    ]
    values = [value for value, _ in inside]
    measured = [value for value, is_measured in inside if is_measured]
    values += [end[1] for curve in drawn if (end := _end(curve, low, high))]
    # What one published curve does far from ours would squeeze all others together.
    bottom = min([float(np.percentile(values, 2)), *measured])
    top = max(values)
    pad = 0.04 * (top - bottom) or 1.0
    return bottom - pad, top + pad


def _draw(axes: Axes, curve: Curve, narrow: bool) -> None:
    colour = COLOURS[curve.colour][0]
    scale = 0.8 if narrow else 1.0
    width = 2.8 if curve.ours else 1.8 if curve.measured else 1.0
    size = 7.5 if curve.ours else 5.5 if curve.measured else 2.4
    axes.plot(
        [bpp for bpp, _, _ in curve.points],
        [value for _, value, _ in curve.points],
        color=colour,
        linewidth=width * scale,
        linestyle="-" if curve.measured or curve.colour == "published" else (0, (2, 1.5)),
        marker=curve.marker or "o",
        markersize=size * scale,
        markeredgewidth=0,
        zorder=4 if curve.ours else 3 if curve.measured else 2,
        gid=f"{curve.key}.line",
    )


def _label_ends(axes: Axes, drawn: Sequence[Curve]) -> None:
    """Names every curve beside the plot, each as near to the height of its end as fits."""
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    ends = []
    for curve in drawn:
        end = _end(curve, low, high)
        if end is not None and bottom <= end[1] <= top:
            x, y = axes.transAxes.inverted().transform(axes.transData.transform(end))
            ends.append((float(y), float(x), curve))
    ends.sort(key=lambda end: end[0])
    gap = _LINE_HEIGHT / axes.bbox.height
    steps = gap * np.arange(len(ends))
    # Least squares from where the curves end, at least a line apart and within the plot.
    heights = isotonic_regression([y - step for (y, _, _), step in zip(ends, steps, strict=True)])
    fitting = np.clip(heights.x, 0.0, max(0.0, 1.0 - steps[-1])) + steps if ends else []
    for (y, x, curve), height in zip(ends, fitting, strict=True):
        colour = COLOURS[curve.colour][0]
        axes.add_line(
            Line2D(
                [x, 1.026] if x > 0.99 else [x + 0.012, 1.0, 1.026],
                [y, height] if x > 0.99 else [y, y, height],
                transform=axes.transAxes,
                clip_on=False,
                color=colour,
                linewidth=0.6,
                linestyle="-" if x > 0.99 else (0, (1, 2)),
                zorder=1,
                gid=f"{curve.key}.leader",
            )
        )
        axes.text(
            1.031,
            height,
            curve.label,
            transform=axes.transAxes,
            color=COLOURS["faint"][0] if curve.colour == "published" else colour,
            fontsize=10 if curve.ours else 9 if curve.measured else 8,
            fontweight="bold" if curve.measured else "normal",
            verticalalignment="center_baseline",
            gid=f"{curve.key}.label",
        )


def _end(curve: Curve, low: float, high: float) -> tuple[float, float] | None:
    """Where a curve leaves the plot on the right, or its last point in it."""
    rates = np.log([bpp for bpp, _, _ in curve.points])
    if rates[0] > np.log(high) or rates[-1] < np.log(low):
        return None
    end = min(np.log(high), rates[-1])
    return float(np.exp(end)), float(np.interp(end, rates, [value for _, value, _ in curve.points]))


def _marks_within(figure: Figure, axes: Axes, drawn: Sequence[Curve]) -> list[Mark]:
    found = []
    for curve in drawn:
        for bpp, value, quality in curve.points:
            x, y = axes.transData.transform((bpp, value))
            if axes.bbox.contains(x, y):
                x, y = x / figure.bbox.width, 1 - y / figure.bbox.height
                found.append(Mark(curve.key, round(x, 5), round(y, 5), bpp, value, quality))
    return found


def bit_shares(results: Results) -> list[dict[str, Any]]:
    """Where the bits of our files are, quality by quality.

    Returns:
        Rows of `quality`, `levels` (mean bits per pixel of every level) and `rest`, what the
        header, the checksums and the coder add, in bits per pixel.
    """
    pixels = {image["name"]: image["width"] * image["height"] for image in results["images"]}
    by_quality: dict[float, list[tuple[list[float], float]]] = defaultdict(list)
    for row in results["rows"]:
        if row["codec"] == OURS and row.get("level_bits"):
            size = pixels[row["image"]]
            levels = [bits / size for bits in row["level_bits"]]
            by_quality[row["quality"]].append((levels, 8 * row["bytes"] / size - sum(levels)))
    return [
        {
            "quality": quality,
            "levels": [fmean(bits) for bits in zip(*(levels for levels, _ in rows), strict=True)],
            "rest": max(0.0, fmean(rest for _, rest in rows)),
        }
        for quality, rows in sorted(by_quality.items())
    ]


def bits(shares: Sequence[Mapping[str, Any]]) -> Figure:
    """Bits per pixel of every level, stacked, a bar a quality.

    Args:
        shares: At least one row of `bit_shares`.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), dpi=72, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title("Bits per pixel by level", loc="left", fontsize=10, fontweight="bold")
        axes.set_xlabel("quality", color=COLOURS["faint"][0])
        axes.grid(axis="x", visible=False)
        positions = np.arange(len(shares))
        base = np.zeros(len(shares))
        parts = [
            (level_name(n, count), LEVELS[n % len(LEVELS)], [row["levels"][n] for row in shares])
            for count in [len(shares[0]["levels"])]
            for n in range(count)
        ]
        parts.append(("header, checksums", "rest", [row["rest"] for row in shares]))
        for name, colour, heights in parts:
            axes.bar(
                positions, heights, 0.7, bottom=base, color=COLOURS[colour][0], label=name,
                edgecolor="white", linewidth=0.6,
            )  # fmt: skip
            base += np.array(heights)
        axes.set_xticks(positions, [f"{row['quality']:g}" for row in shares])
        axes.legend(frameon=False, reverse=True, loc="upper left")
        return figure


def level_name(level: int, count: int) -> str:
    """What a level is called: its number, and for the ends what it is."""
    end = "coarsest" if level == 0 else "finest" if level == count - 1 else ""
    return f"level {level} ({end})" if end and count > 1 else f"level {level}"


def scaling(measured: Mapping[str, Any], *, narrow: bool = False) -> Figure:
    """Seconds and peak memory against megapixels, each with its fitted line.

    Args:
        measured: `rows` and `fit` of the results' scaling.
        narrow: For a phone: one plot above the other.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=(330 / 72, 480 / 72) if narrow else (760 / 72, 270 / 72),
            dpi=72,
            layout=ConstrainedLayoutEngine(hspace=0.08, wspace=0.06),
        )
        plots = figure.subplots(2, 1) if narrow else figure.subplots(1, 2)
        for axes, what, label, unit in zip(
            plots, ("seconds", "peak"), ("Seconds", "Peak memory, GB"), (1.0, 1e-9), strict=True
        ):
            axes.set_title(label, loc="left", fontsize=10, fontweight="bold")
            axes.set_xlabel("megapixels", color=COLOURS["faint"][0])
            axes.grid(axis="x", visible=False)
            axes.yaxis.set_major_locator(MaxNLocator(5))
            for verb, colour, marker in (("compress", "ours", "o"), ("decompress", "blue", "s")):
                column, light = f"{verb}_{what}", COLOURS[colour][0]
                rows = [row for row in measured["rows"] if row.get(column) is not None]
                if not rows:
                    continue
                sizes = [row["megapixels"] for row in rows]
                values = [row[column] * unit for row in rows]
                axes.plot(
                    sizes, values, marker, color=light, markersize=6, markeredgewidth=0, label=verb
                )
                if fit := (measured.get("fit") or {}).get(column):
                    ends = np.array([0.0, max(sizes)])
                    line = (fit["intercept"] + fit["slope"] * ends) * unit
                    axes.plot(ends, line, color=light, linewidth=1.2)
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            if axes.get_legend_handles_labels()[1]:
                axes.legend(frameon=False, loc="best", handletextpad=0.3)
        return figure


# --- files ---------------------------------------------------------------------------------------


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file, light, at twice the page's size."""
    stream = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="png", dpi=144, facecolor="white")
    return stream.getvalue()


def svg(figure: Figure, prefix: str, label: str) -> str:
    """The figure as an SVG element for a page.

    Colours are CSS variables of the names of `COLOURS`; what was drawn for a curve has its key as
    `data-curve`.

    Args:
        figure: To draw.
        prefix: Of every id, different for every figure of a page.
        label: For those who do not see it.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # A style element would reach the whole page, which brings the same rule for its figures.
    text = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'\bid="(c\d+)\.', r'data-curve="\1" id="\1.', text)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?(?=[;\"])", "var(--font)", text)
    for name, (light, _) in COLOURS.items():
        text = text.replace(light, f"var(--{name})")
    size = re.search(r'viewBox="[^"]*"', text)
    assert size is not None
    text = re.sub(
        r"<svg[^>]*>",
        f'<svg class="figure" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" {size[0]} role="img" '
        f'aria-label="{html.escape(label)}">',
        text,
        count=1,
    )
    return re.sub(r"\n\s*", "\n", text)
