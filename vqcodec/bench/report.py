"""The report of a benchmark: one page that needs nothing beside it, and the plots as PNG files.

The page is `report.html`, a Jinja2 template that includes `head.html`, `report.css` and
`report.js`. It loads nothing: its policy forbids it, and plots and images are inside.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import numpy.typing as npt
import PIL.Image
from markupsafe import Markup

from vqcodec.bench import curves, plots
from vqcodec.bench.curves import OURS, is_ours
from vqcodec.bench.plots import Published, Results
from vqcodec.bench.results import decimals
from vqcodec.bench.tables import own_names
from vqcodec.errors import CodecError
from vqcodec.files import write_atomically

PAGE = "report.html"
PLOTS = "plots"
_WEBP_SIDE = 16383  # the longest of a WebP file
DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

# owner/name@commit:path, as the sources of published curves are given
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{7,40}):(\S+)")


@dataclass(frozen=True)
class Version:
    """One version of a view.

    Attributes:
        label: Codec and setting, or what else it is.
        bytes: Of its file.
        bpp: Bits per pixel of its file.
        psnr: Against the original in dB, or None for the original itself.
        pixels: uint8 [H, W, 3].
    """

    label: str
    bytes: int
    bpp: float
    psnr: float | None
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """An image to look at in several versions.

    Attributes:
        name: Of the image.
        width: In pixels.
        height: In pixels.
        versions: The original first.
    """

    name: str
    width: int
    height: int
    versions: list[Version]


def write(folder: Path, results: Results, views: Sequence[View], published: Published) -> None:
    """Writes `report.html` and `plots/*.png` to a folder, in place of earlier ones.

    Args:
        folder: That exists.
        results: See `vqcodec.bench.results`.
        views: To look at in the page.
        published: Curve name -> points with `bpp`, `psnr_db`, `ms_ssim`, `lpips` and `source`;
            empty if the images are not those of the published curves.

    Raises:
        OutputError: a file cannot be written.
        CodecError: the folder for the plots cannot be made.
    """
    plot_folder = folder / PLOTS
    try:
        plot_folder.mkdir(exist_ok=True)
    except OSError as error:
        reason = f"cannot be made ({error.strerror}); choose another place"
        raise CodecError(reason).in_file(plot_folder) from error
    for name, data in plot_files(results, published).items():
        write_atomically(plot_folder / name, data, force=True)
    write_atomically(folder / PAGE, page(results, views, published).encode(), force=True)


def plot_files(results: Results, published: Published) -> dict[str, bytes]:
    """The plots that the results have numbers for: name of a PNG file -> its bytes."""
    files = {}
    for metric in results["metrics"]:
        drawn = plots.curves(results, published, metric)
        if _is_measured(drawn):
            figure, _ = plots.rate_distortion(drawn, plots.axis_label(metric))
            files[f"rd-{metric['key']}.png"] = plots.png(figure)
    shares = plots.bit_shares(results)
    if shares:
        files["bits.png"] = plots.png(plots.bits(shares))
    scaling = (results["profile"] or {}).get("scaling")
    if scaling:
        files["scaling.png"] = plots.png(plots.scaling(scaling))
    return files


def page(results: Results, views: Sequence[View], published: Published) -> str:
    """The report as one HTML document."""
    drawn = _plots(results, published)
    metrics = results["metrics"]
    codecs = results["codecs"]
    profile = results["profile"] or {}
    return (
        environment()
        .get_template(PAGE)
        .render(
            made=results["made"],
            images=results["images"],
            missing=results["missing"],
            metrics=metrics,
            codecs=codecs,
            colours=plots.COLOURS,
            findings=findings(results),
            plots=drawn,
            curves=plots.curves(results, published, metrics[0]) if metrics else [],
            comparisons=[
                {"name": name, **compared}
                for codec, name in own_names(results).items()
                if any((compared := _comparisons(results, codec)).values())
            ],
            qualities=_qualities(results),
            level_colours=plots.LEVELS,
            level_name=plots.level_name,
            speed=_speed(results),
            speed_bpp=curves.SPEED_BPP,
            views=views,
            bits=profile.get("bits") or [],
            stages=profile.get("stages") or [],
            raster=profile.get("raster") or [],
            scaling=_scaling(profile.get("scaling")),
            profile_seconds=profile.get("seconds"),
            published={
                name: sorted({str(row["source"]) for row in rows})
                for name, rows in published.items()
            },
            marks={plot["key"]: plot["marks"] for plot in drawn},
        )
    )


def environment() -> jinja2.Environment:
    """What renders the pages: the templates beside this module, with its filters."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        {
            "number": number,
            "signed": signed,
            "percent": percent,
            "seconds": seconds,
            "memory": memory,
            "file_size": file_size,
            "source": source,
            "swatch": plots.swatch,
            "data_uri": data_uri,
            "decimals": decimals,
        }
    )
    return found


# --- numbers -------------------------------------------------------------------------------------


def number(value: float | None, decimals: int = 2) -> str:
    """A number with a real minus and thousands apart; a dash for one that is not there."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "\N{INFINITY}"
    text = f"{value:,.{decimals}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    if text.startswith("-"):
        return MINUS + text[1:] if text.strip("-0.") else text[1:]
    return text


def signed(value: float | None, decimals: int = 1) -> str:
    """As `number`, with a plus where it belongs."""
    text = number(value, decimals)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def percent(value: float | None) -> str:
    """Signed, to a tenth."""
    return f"{signed(value)}\N{NO-BREAK SPACE}%"


def seconds(value: float | None) -> str:
    """Seconds or milliseconds to three figures."""
    if value is None or not math.isfinite(value):
        return DASH
    value, unit = (value * 1000, "ms") if value < 0.9995 else (value, "s")
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{number(value, decimals)}\N{NO-BREAK SPACE}{unit}"


def memory(value: float | None) -> str:
    """Bytes in megabytes or gigabytes, of 1000 each."""
    if value is None or not math.isfinite(value):
        return DASH
    if value < 999.5e6:
        return f"{number(value / 1e6, 0)}\N{NO-BREAK SPACE}MB"
    return f"{number(value / 1e9, 2)}\N{NO-BREAK SPACE}GB"


def file_size(value: float) -> str:
    """Bytes to three figures in kB or MB, of 1000 each."""
    value, unit = (value / 1e6, "MB") if value >= 999.5e3 else (value / 1e3, "kB")
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{number(value, decimals)}\N{NO-BREAK SPACE}{unit}"


def source(text: str) -> Markup:
    """A source of published numbers, with a link where it has an address."""
    repository = _REPOSITORY.fullmatch(text)
    if repository:
        name, commit, path = repository.groups()
        address = f"https://github.com/{name}/blob/{commit}/{path}"
    elif text.startswith(("https://", "http://")):
        address = text
    else:
        return Markup("{}").format(text)
    return Markup('<a href="{}" rel="noreferrer">{}</a>').format(address, text)


# --- what the page says --------------------------------------------------------------------------


class Finding(NamedTuple):
    """A line at the top of the page.

    Attributes:
        figure: What it found, short.
        text: What that is.
        detail: Where, and what else.
        good: Whether it speaks for vqcodec; None if it does not compare.
    """

    figure: str
    text: str
    detail: str
    good: bool | None


def findings(results: Results) -> list[Finding]:
    """What the results say about vqcodec beside each measured peer, and beside slow ones."""
    found = []
    others = {
        metric["key"]: metric["name"].partition(" (")[0].replace(" ", "\N{NO-BREAK SPACE}")
        for metric in results["metrics"][1:]
    }
    for name, by_metric in _comparisons(results, OURS)["measured"].items():
        first = results["metrics"][0]
        delta = _bd_rate(by_metric.get(first["key"]))
        if delta is None:
            text = f"no {first['name']} is reached by both vqcodec and {name}"
            found.append(Finding(DASH, text, "", None))
            continue
        overlap = by_metric[first["key"]]["overlap_bpp"]
        details = [f"{number(overlap[0], 3)} to {number(overlap[1], 3)} bpp"] if overlap else []
        details += [
            f"{label}\N{NO-BREAK SPACE}{percent(_bd_rate(by_metric.get(key)))}"
            for key, label in others.items()
            if _bd_rate(by_metric.get(key)) is not None
        ]
        text = f"bits for the same {first['name']} as {name}"
        found.append(Finding(percent(delta), text, "; ".join(details), delta < 0))
    for row in _speed(results):
        if row["faster"] is not None:
            factor = row["faster"]
            figure = f"{number(factor, 1 if factor < 20 else 0)}\N{MULTIPLICATION SIGN}"
            text = f"as fast to decode as {row['name']}"
            detail = f"{seconds(row['own'])} against {seconds(row['decode_seconds'])}"
            found.append(Finding(figure, text, detail, factor > 1))
    return found


def _bd_rate(comparison: Mapping[str, Any] | None) -> float | None:
    """BD-rate in percent by PCHIP."""
    if comparison is None:
        return None
    delta: float | None = (comparison["bd_rate_percent"] or {}).get("pchip")
    return delta


def _comparisons(results: Results, codec: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Of a codec of ours: source -> anchor -> metric -> comparison, the weakest anchors first."""
    by_source: dict[str, dict[str, dict[str, Any]]] = {"measured": {}, "published": {}}
    for comparison in results["comparisons"]:
        if comparison.get("codec", OURS) != codec:
            continue
        by_anchor = by_source[comparison["source"]].setdefault(comparison["anchor"], {})
        by_anchor[comparison["metric"]] = comparison
    first = results["metrics"][0]["key"] if results["metrics"] else ""

    def weakest_first(item: tuple[str, dict[str, Any]]) -> tuple[bool, float]:
        delta = _bd_rate(item[1].get(first))
        return delta is None, delta or 0.0

    return {
        name: dict(sorted(anchors.items(), key=weakest_first))
        for name, anchors in by_source.items()
    }


def _qualities(results: Results) -> dict[str, Any]:
    """A row for each quality of ours: its point, what it is above each anchor, its bits.

    Bits are those of vqcodec, not of further ones of ours.
    """
    above: dict[str, dict[tuple[str, float], float | None]] = defaultdict(dict)
    for row in results["above"]:
        above[row["anchor"]][row.get("codec", OURS), row["quality"]] = row["db"]
    shares = {(OURS, row["quality"]): row for row in plots.bit_shares(results)}
    names = own_names(results)
    rows = [
        {
            "point": point,
            "name": names[point["codec"]],
            "above": [by_point.get(which) for by_point in above.values()],
            "shares": shares.get(which),
        }
        for point in results["points"]
        if is_ours(point["codec"])
        for which in [(point["codec"], point["quality"])]
    ]
    levels = max((len(row["levels"]) for row in shares.values()), default=0)
    return {"anchors": list(above), "rows": rows, "levels": levels}


def _speed(results: Results) -> list[dict[str, Any]]:
    """A row for each codec; with how many times as fast vqcodec is as those without files."""
    rows = curves.speeds(results)
    own_quality = next((row["quality"] for row in rows if row["codec"]["key"] == OURS), None)
    for row in rows:
        codec = row["codec"]
        only = codec["measured"] == "speed"
        row |= {"name": codec["name"], "ours": is_ours(codec["key"]), "only": only, "faster": None}
        images = {each["image"] for each in results["speed"] if each["codec"] == codec["key"]}
        same = [
            each
            for each in results["rows"]
            if each["codec"] == OURS and each["quality"] == own_quality and each["image"] in images
        ]
        own = curves.costs(same)["decode_seconds"]
        if own and row["decode_seconds"]:
            row |= {"faster": row["decode_seconds"] / own, "own": own}
    return rows


# --- plots and images ----------------------------------------------------------------------------


def _is_measured(drawn: Iterable[plots.Curve]) -> bool:
    return any(curve.measured and curve.points for curve in drawn)


def _plots(results: Results, published: Published) -> list[dict[str, Any]]:
    """Of every metric that was measured: the plot wide and narrow, and where its points are."""
    found = []
    for metric in results["metrics"]:
        drawn = plots.curves(results, published, metric)
        if not _is_measured(drawn):
            continue
        label = plots.axis_label(metric)
        plot: dict[str, Any] = {"key": metric["key"], "name": metric["name"], "marks": {}}
        for form in ("wide", "narrow"):
            figure, marks = plots.rate_distortion(drawn, label, narrow=form == "narrow")
            title = f"{label} against bits per pixel"
            plot[form] = Markup(plots.svg(figure, f"{metric['key']}-{form}", title))
            plot["marks"][form] = [_tooltip(mark, metric, drawn) for mark in marks]
        found.append(plot)
    return found


def _tooltip(
    mark: plots.Mark, metric: Mapping[str, str], drawn: Sequence[plots.Curve]
) -> dict[str, Any]:
    """Where a point is, and what the page says of it."""
    curve = next(curve for curve in drawn if curve.key == mark.curve)
    quality = "" if mark.quality is None else f"quality {mark.quality:g}, "
    unit = "dB" if metric["key"] == "ms_ssim" else metric.get("unit", "")
    digits = 2 if metric["key"] == "ms_ssim" else decimals(metric["key"])
    value = f"{number(mark.value, digits)} {unit}"
    return {
        "curve": mark.curve,
        "x": mark.x,
        "y": mark.y,
        "name": curve.name if curve.measured else f"{curve.name} (published)",
        "text": f"{quality}{number(mark.bpp, 3)} bpp, {value}".strip(),
    }


def _scaling(scaling: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not scaling:
        return None
    title = "Seconds and peak memory against megapixels"
    return {
        "rows": scaling["rows"],
        "fit": scaling.get("fit") or {},
        "wide": Markup(plots.svg(plots.scaling(scaling), "scaling-wide", title)),
        "narrow": Markup(plots.svg(plots.scaling(scaling, narrow=True), "scaling-narrow", title)),
    }


def data_uri(pixels: npt.NDArray[np.uint8], icc: bytes | None = None) -> str:
    """An image as an address that holds all of it, losslessly: WebP, or PNG if smaller.

    Args:
        pixels: uint8 [H, W] or [H, W, C], as `Image.channels` has them.
        icc: Their colour profile, or None for sRGB.
    """
    image = PIL.Image.fromarray(pixels)
    coded = {}
    for kind, options in (("webp", {"lossless": True, "method": 4}), ("png", {})):
        if kind == "webp" and max(image.size) > _WEBP_SIDE:
            continue
        stream = io.BytesIO()
        image.save(stream, kind, icc_profile=icc, **options)
        coded[kind] = stream.getvalue()
    kind = min(coded, key=lambda name: len(coded[name]))
    return f"data:image/{kind};base64,{base64.b64encode(coded[kind]).decode('ascii')}"
