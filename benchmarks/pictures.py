"""Makes the pictures of the main README: crops at equal bytes, and the rate-distortion plot.

    python benchmarks/pictures.py

Of each photograph the whole is compressed, and the centre is shown: no crop is chosen by what it
looks like. JPEG, WebP and AVIF have whole numbers for qualities, so bytes that all three come near
to are looked for first; vqcodec is then given a size that it must not exceed.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import matplotlib
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

import vqcodec
from vqcodec.bench import plots
from vqcodec.bench.codecs import PEERS
from vqcodec.bench.curves import published
from vqcodec.image import load

Pixels = npt.NDArray[np.uint8]

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
RESULTS = HERE / "results" / "hvq-photo-2" / "results.json"
FIXTURES = HERE.parent / "tests" / "fixtures"
PHOTOGRAPHS = ("coffee.png", "chelsea.png")

# Crops at equal bytes
SHOWN_PEERS = ("jpeg", "webp", "avif")
BPP = (0.15, 0.20)  # of the whole photograph, where JPEG still has qualities
QUALITIES = range(51)
SPREAD = 0.03  # of the most bytes, which none is farther below
CROP = (100, 150)  # rows and columns
ENLARGED = 2
GAP, LABEL, TEXT = 8, 34, 19
COLUMNS = 3

# Rate and distortion
CURVES = {  # name of the curve: its colour and its name here
    "MLIC+": ("published", "MLIC+ (published)"),
    "VTM": ("faint", "VTM (published)"),
    "vqcodec hvq-photo-2": ("ours", "vqcodec"),
    "AVIF": ("pink", "AVIF"),
    "WebP": ("green", "WebP"),
    "JPEG": ("blue", "JPEG"),
}
PAPER = ("#ffffff", "#0d1117")
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": plots.COLOURS["ink"][0],
    "axes.edgecolor": plots.COLOURS["faint"][0],
    "axes.labelcolor": plots.COLOURS["ink"][0],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": plots.COLOURS["grid"][0],
    "xtick.color": plots.COLOURS["faint"][0],
    "ytick.color": plots.COLOURS["faint"][0],
    "ytick.major.size": 0,
    "svg.fonttype": "none",
    "svg.hashsalt": "vqcodec",
}


@dataclass(frozen=True)
class Shown:
    """A photograph as one codec restores it.

    Attributes:
        name: Of the codec.
        size: Bytes of the file; None for the original.
        pixels: uint8 [H, W, 3].
        quality: Of the codec, in words.
    """

    name: str
    size: int | None
    pixels: Pixels
    quality: str = ""


def psnr(original: Pixels, restored: Pixels) -> float:
    """PSNR in dB of uint8 [H, W, 3]."""
    error = np.mean((original.astype(float) - restored) ** 2)
    return 10 * math.log10(255**2 / error)


def nearest_sizes(sizes: Sequence[Sequence[int]], low: float, high: float) -> list[int]:
    """One size of each codec, as equal as can be.

    Args:
        sizes: Of each codec's files, by quality.
        low: Bytes that the first codec's file must have.
        high: Bytes that it must not exceed.

    Returns:
        The number of the quality of each codec; of equally good ones those of most bytes.
    """
    best = (math.inf, 0, [0] * len(sizes))
    for size in (size for size in sizes[0] if low <= size <= high):
        nearest = [min(range(len(own)), key=lambda n: abs(own[n] - size)) for own in sizes]
        found = [own[n] for own, n in zip(sizes, nearest, strict=True)]
        best = min(best, (max(found) / min(found), -size, nearest))
    return best[2]


def at_equal_bytes(pixels: Pixels) -> list[Shown]:
    """The original, and what every codec makes of it from as many bytes, within `SPREAD`.

    Raises:
        click.ClickException: there are no such qualities.
    """
    low, high = (bpp * pixels.size / 3 / 8 for bpp in BPP)
    peers = [PEERS[key] for key in SHOWN_PEERS]
    files = [[peer.encode(pixels, quality).data for quality in QUALITIES] for peer in peers]
    chosen = nearest_sizes([[len(data) for data in own] for own in files], low, high)
    shown = [Shown("original", None, pixels)]
    for peer, own, quality in zip(peers, files, chosen, strict=True):
        data = own[quality]
        shown.append(Shown(peer.name, len(data), peer.decode(data), f"quality {quality}"))
    taken = [each.size for each in shown if each.size is not None]
    compressed = vqcodec.compress(pixels, size=sum(taken) // len(taken))
    data = bytes(compressed)
    quality = f"quality {compressed.header.quality}"
    shown.append(Shown("vqcodec", len(data), vqcodec.decompress(data).pixels, quality))
    sizes = [each.size for each in shown if each.size is not None]
    if min(sizes) < (1 - SPREAD) * max(sizes):
        raise click.ClickException(f"no qualities give equal bytes: {sizes}")
    return shown


def font(bold: bool = False) -> PIL.ImageFont.FreeTypeFont:
    """The font of labels, one that matplotlib brings along."""
    weight = "bold" if bold else "normal"
    path = font_manager.findfont(font_manager.FontProperties("DejaVu Sans", weight=weight))
    return PIL.ImageFont.truetype(path, TEXT)


def sheet(photographs: Sequence[Sequence[Shown]]) -> PIL.Image.Image:
    """Centres of photographs, two rows each: the whole, the original, vqcodec; the peers."""
    height, width = (side * ENLARGED for side in CROP)
    rows = 2 * len(photographs)
    size = (COLUMNS * (width + GAP) - GAP, rows * (height + LABEL) + (len(photographs) - 1) * GAP)
    page = PIL.Image.new("RGB", size, "white")
    draw = PIL.ImageDraw.Draw(page)
    for n, (original, *peers, ours) in enumerate(photographs):
        top = n * (2 * (height + LABEL) + GAP)
        crop = _centre(original.pixels)
        cells = [None, original, ours, *peers]
        for place, each in enumerate(cells):
            left = place % COLUMNS * (width + GAP)
            above = top + place // COLUMNS * (height + LABEL)
            whole = _whole(original.pixels, crop, width, height)
            picture = whole if each is None else _enlarged(each.pixels[crop])
            page.paste(picture, (left, above))
            name, rest = "whole photograph", ""
            if each is not None:
                name = each.name
            if each is not None and each.size is not None:
                rest = f"{each.size:,} B, {psnr(original.pixels, each.pixels):.2f} dB"
            line = above + height + 4
            draw.text((left, line), name, "#1b2026", font(bold=each is ours))
            draw.text((left + width, line), rest, "#1b2026", font(), anchor="ra")
    return page


def _centre(pixels: Pixels) -> tuple[slice, slice]:
    starts = [(side - shown) // 2 for side, shown in zip(pixels.shape, CROP, strict=False)]
    return tuple(slice(start, start + n) for start, n in zip(starts, CROP, strict=True))


def _enlarged(pixels: Pixels) -> PIL.Image.Image:
    rows, columns = pixels.shape[:2]
    size = (columns * ENLARGED, rows * ENLARGED)
    return PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.LANCZOS)


def _whole(pixels: Pixels, crop: tuple[slice, slice], width: int, height: int) -> PIL.Image.Image:
    """The photograph as small as a cell, with a frame around the crop."""
    picture = PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.Resampling.LANCZOS)
    scales = (height / pixels.shape[0], width / pixels.shape[1])
    (top, bottom), (left, right) = (
        (part.start * scale, part.stop * scale) for part, scale in zip(crop, scales, strict=True)
    )
    PIL.ImageDraw.Draw(picture).rectangle((left, top, right, bottom), outline="white", width=2)
    return picture


def rate_distortion(results: Mapping[str, Any]) -> str:
    """PSNR against rate as an SVG file, which is dark where the page is.

    Args:
        results: Of `vqcodec bench`.
    """
    metric = next(each for each in results["metrics"] if each["key"] == "psnr")
    drawn = {}
    for curve in reversed(plots.curves(results, published(), metric)):
        drawn[curve.name] = curve  # a measured one takes the place of a published one
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(560 / 72, 400 / 72), dpi=72, layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_xlim(0.05, 1.6)
        axes.set_ylim(24.5, 40.5)
        axes.xaxis.set_major_locator(FixedLocator([0.05, 0.1, 0.2, 0.5, 1.0, 1.5]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("bits per pixel (logarithmic), means of the 24 Kodak images")
        axes.set_ylabel("PSNR, dB")
        axes.grid(axis="x", visible=False)
        for name, (colour, label) in CURVES.items():
            curve = drawn[name]
            thin = not curve.measured
            axes.plot(
                [bpp for bpp, _, _ in curve.points],
                [value for _, value, _ in curve.points],
                color=plots.COLOURS[colour][0],
                linewidth=1.4 if thin else 3.0 if curve.ours else 2.0,
                linestyle=(0, (5, 2) if colour == "faint" else (2, 2)) if thin else "-",
                marker="" if thin else "o",
                markersize=6 if curve.ours else 4,
                markeredgewidth=0,
                zorder=3 if curve.ours else 2,
                label=label,
            )
        axes.legend(loc="upper left", frameon=False)
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", facecolor="#fefefe", metadata=nothing)
    return _themed(stream.getvalue())


def _themed(text: str) -> str:
    """A figure in light colours to one whose colours follow the reader's."""
    text = text[text.index("<svg") :]
    text = re.sub(r'(height|width)="([\d.]+)pt"', r'\1="\2"', text)
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?(?=[;\"])", "Helvetica, Arial, sans-serif", text)
    pairs = {**plots.COLOURS, "paper": PAPER}
    text = text.replace("#fefefe", PAPER[0])
    for name, (light, _) in pairs.items():
        text = text.replace(light, f"var(--{name})")
    used = [name for name in pairs if f"var(--{name})" in text]
    themes = ["".join(f"--{name}:{pairs[name][n]};" for name in used) for n in (0, 1)]
    rules = f"svg{{{themes[0]}}}@media(prefers-color-scheme:dark){{svg{{{themes[1]}}}}}"
    text = text.replace("<defs>", f"<style>{rules}</style>\n<defs>", 1)
    return re.sub(r"\n\s*", "\n", text)


@click.command()
@click.option("--only", type=click.Choice(["crops", "plot"]), help="Make this one alone.")
def main(only: str | None) -> None:
    """Make the pictures of the main README, in benchmarks/pictures."""
    PICTURES.mkdir(exist_ok=True)
    if only != "plot":
        photographs = []
        for name in PHOTOGRAPHS:
            pixels = load(FIXTURES / name).pixels
            photographs.append(at_equal_bytes(pixels))
            for each in photographs[-1][1:]:
                assert each.size is not None
                bpp = 8 * each.size / (pixels.size / 3)
                click.echo(
                    f"{name}  {each.name:8} {each.quality:11} {each.size:,} bytes, {bpp:.3f} bpp, "
                    f"{psnr(pixels, each.pixels):.2f} dB"
                )
        sheet(photographs).save(PICTURES / "equal-bytes.webp", quality=94, method=6)
    if only != "crops":
        text = rate_distortion(json.loads(RESULTS.read_text()))
        (PICTURES / "rate-distortion.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
