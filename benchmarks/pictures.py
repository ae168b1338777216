"""Makes the pictures of the main README: crops at equal bytes, syntheses, rate and distortion.

    python benchmarks/pictures.py

Of each photograph the whole is compressed, and the centre is shown: no crop is chosen by what it
looks like. JPEG, WebP and AVIF have whole numbers for qualities, so bytes that all three come near
to are looked for first; vqcodec is then given a size that it must not exceed. So it is for both
syntheses and AVIF at several rates.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import matplotlib
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import vqcodec
from vqcodec.bench import plots
from vqcodec.bench.codecs import PEERS, matched
from vqcodec.bench.command import Command
from vqcodec.bench.curves import published
from vqcodec.bench.images import Pixels, picture
from vqcodec.errors import CodecError
from vqcodec.metrics.distortion import psnr

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

# Both syntheses and AVIF
RATES = (0.06, 0.12, 0.25)  # of the whole photograph
RATES_CROP = (170, 150)

# Rate and distortion
CURVES = {  # name of the curve: its colour and its name here
    "MLIC+": ("published", "MLIC+ (published)"),
    "VTM": ("faint", "VTM (published)"),
    "vqcodec hvq-photo-2": ("ours", "vqcodec"),
    "AVIF": ("pink", "AVIF"),
    "WebP": ("green", "WebP"),
    "JPEG": ("blue", "JPEG"),
}
INK = plots.COLOURS["ink"][0]
DASHES = {"published": (0, (2, 2)), "faint": (0, (5, 2))}
TICKS = (0.05, 0.1, 0.2, 0.5, 1.0, 1.5)
PAPER = ("#ffffff", "#0d1117")
STYLE: Any = {**plots.STYLE, "font.size": 12, "xtick.major.size": 3.5}


class Shown(NamedTuple):
    """A photograph as one codec restores it.

    Attributes:
        name: Of the codec.
        quality: The codec's.
        size: Bytes of the file.
        pixels: uint8 [H, W, 3].
    """

    name: str
    quality: int
    size: int
    pixels: Pixels


def nearest_sizes(sizes: Sequence[Sequence[int]], low: float, high: float) -> list[int]:
    """One size of each codec, as equal as can be.

    Args:
        sizes: Of each codec's files, by quality.
        low: Bytes that the first codec's file must have.
        high: Bytes that it must not exceed.

    Returns:
        The number of the quality of each codec; of equally good ones those of most bytes.
    """
    found = []
    for size in (size for size in sizes[0] if low <= size <= high):
        nearest = [min(range(len(own)), key=lambda n: abs(own[n] - size)) for own in sizes]
        taken = [own[n] for own, n in zip(sizes, nearest, strict=True)]
        found.append((max(taken) / min(taken), -size, nearest))
    return min(found)[2]


def at_equal_bytes(pixels: Pixels) -> list[Shown]:
    """What every codec makes of a photograph from as many bytes, within `SPREAD`, ours at last.

    Raises:
        CodecError: there are no such qualities.
    """
    low, high = (bpp * pixels.size / 3 / 8 for bpp in BPP)
    peers = [PEERS[key] for key in SHOWN_PEERS]
    files = [[peer.encode(pixels, quality).data for quality in QUALITIES] for peer in peers]
    chosen = nearest_sizes([[len(data) for data in own] for own in files], low, high)
    shown = []
    for peer, own, quality in zip(peers, files, chosen, strict=True):
        shown.append(Shown(peer.name, quality, len(own[quality]), peer.decode(own[quality])))
    mean = sum(each.size for each in shown) // len(shown)
    compressed = vqcodec.compress(pixels, size=mean)
    data = bytes(compressed)
    restored = vqcodec.decompress(data).pixels
    shown.append(Shown("vqcodec", compressed.header.quality, len(data), restored))
    sizes = [each.size for each in shown]
    if min(sizes) < (1 - SPREAD) * max(sizes):
        raise CodecError(f"no qualities give equal bytes: {sizes}")
    return shown


def at_rate(pixels: Pixels, bpp: float) -> list[Shown]:
    """AVIF from at most so many bits per pixel, if it can, and both syntheses from its bytes."""
    avif = PEERS["avif"]
    quality, data = matched(avif, pixels, round(bpp * pixels.size / 3 / 8))
    shown = [Shown(avif.name, quality, len(data), avif.decode(data))]
    for name, tune in (("faithful", "psnr"), ("natural", "natural")):
        compressed = vqcodec.compress(pixels, max_size=len(data), tune=tune)
        restored = vqcodec.decompress(bytes(compressed)).pixels
        size = len(bytes(compressed))
        shown.append(Shown(f"vqcodec, {name}", compressed.header.quality, size, restored))
    return shown


def font(bold: bool = False) -> PIL.ImageFont.FreeTypeFont:
    """The font of labels, one that matplotlib brings along."""
    weight = "bold" if bold else "normal"
    path = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
    return PIL.ImageFont.truetype(path, TEXT)


def sheet(photographs: Sequence[tuple[Pixels, Sequence[Shown]]]) -> PIL.Image.Image:
    """Centres of photographs, two rows each: the whole, the original, vqcodec; the peers."""
    height, width = (side * ENLARGED for side in CROP)
    rows = 2 * len(photographs)
    size = (COLUMNS * (width + GAP) - GAP, rows * (height + LABEL) + (len(photographs) - 1) * GAP)
    page = PIL.Image.new("RGB", size, "white")
    draw = PIL.ImageDraw.Draw(page)
    for n, (pixels, (*peers, ours)) in enumerate(photographs):
        top, left = ((side - shown) // 2 for side, shown in zip(pixels.shape, CROP, strict=False))
        box = (left, top, left + CROP[1], top + CROP[0])

        def cell(pixels: Pixels, box: tuple[int, ...] | None = box) -> PIL.Image.Image:
            whole = PIL.Image.fromarray(pixels)
            return whole.crop(box).resize((width, height), PIL.Image.Resampling.LANCZOS)

        whole = cell(pixels, None)
        scales = (width / pixels.shape[1], height / pixels.shape[0]) * 2
        frame = [edge * scale for edge, scale in zip(box, scales, strict=True)]
        PIL.ImageDraw.Draw(whole).rectangle(frame, outline="white", width=2)
        cells = [("whole photograph", "", whole), ("original", "", cell(pixels))]
        for each in (ours, *peers):
            rest = f"{each.size:,} B, {psnr(pixels, each.pixels):.2f} dB"
            cells.append((each.name, rest, cell(each.pixels)))
        for place, (name, rest, image) in enumerate(cells):
            x = place % COLUMNS * (width + GAP)
            y = n * GAP + (2 * n + place // COLUMNS) * (height + LABEL)
            page.paste(image, (x, y))
            line = y + height + 4
            draw.text((x, line), name, INK, font(bold=name == ours.name))
            draw.text((x + width, line), rest, INK, font(), anchor="ra")
    return page


def rates(pixels: Pixels, shown: Sequence[tuple[float, Sequence[Shown]]]) -> PIL.Image.Image:
    """The centre of a photograph, a row a rate: AVIF, both syntheses, the original."""
    height, width = (side * ENLARGED for side in RATES_CROP)
    columns = len(shown[0][1]) + 1
    page = PIL.Image.new(
        "RGB", (columns * (width + GAP) - GAP, len(shown) * (height + LABEL)), "white"
    )
    draw = PIL.ImageDraw.Draw(page)
    top, left = ((a - b) // 2 for a, b in zip(pixels.shape, RATES_CROP, strict=False))
    box = (left, top, left + RATES_CROP[1], top + RATES_CROP[0])
    for row, (_, own) in enumerate(shown):
        cells = [(each.name, f"{each.size:,} B", each.pixels) for each in own]
        for column, (name, rest, image) in enumerate([*cells, ("original", "", pixels)]):
            x, y = column * (width + GAP), row * (height + LABEL)
            cell = PIL.Image.fromarray(image).crop(box)
            page.paste(cell.resize((width, height), PIL.Image.Resampling.LANCZOS), (x, y))
            draw.text((x, y + height + 4), name, INK, font())
            draw.text((x + width, y + height + 4), rest, INK, font(), anchor="ra")
    return page


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
        axes = figure.add_subplot(xlim=(0.05, 1.6), ylim=(24.5, 40.5), xscale="log")
        axes.set_xticks(TICKS, [f"{bpp:g}" for bpp in TICKS])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("bits per pixel (logarithmic), means of the 24 Kodak images")
        axes.set_ylabel("PSNR, dB")
        axes.grid(axis="x", visible=False)
        for name, (colour, label) in CURVES.items():
            curve = drawn[name]
            bpp, values, _ = zip(*curve.points, strict=True)
            axes.plot(
                bpp,
                values,
                color=plots.COLOURS[colour][0],
                linewidth=3.0 if curve.ours else 2.0 if curve.measured else 1.4,
                linestyle=DASHES.get(colour, "-"),
                marker="o" if curve.measured else "",
                markersize=6 if curve.ours else 4,
                markeredgewidth=0,
                zorder=3 if curve.ours else 2,
                label=label,
            )
        axes.legend(loc="upper left", frameon=False)
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", facecolor=PAPER[0], metadata=nothing)
    return _themed(stream.getvalue())


def _themed(text: str) -> str:
    """A figure in light colours to one whose colours follow the reader's."""
    text = text[text.index("<svg") :]
    text = re.sub(r'(height|width)="([\d.]+)pt"', r'\1="\2"', text)
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?(?=[;\"])", "Helvetica, Arial, sans-serif", text)
    day = night = ""
    for name, (light, dark) in {**plots.COLOURS, "paper": PAPER}.items():
        if light in text:
            text = text.replace(light, f"var(--{name})")
            day += f"--{name}:{light};"
            night += f"--{name}:{dark};"
    rules = f"svg{{{day}}}@media(prefers-color-scheme:dark){{svg{{{night}}}}}"
    text = text.replace("<defs>", f"<style>{rules}</style>\n<defs>", 1)
    return re.sub(r"\n\s*", "\n", text)


@click.command(cls=Command)
@click.option(
    "--only", type=click.Choice(["crops", "syntheses", "plot"]), help="Make this one alone."
)
def main(only: str | None) -> None:
    """Make the pictures of the main README, in benchmarks/pictures."""
    if only in (None, "syntheses"):
        for name in PHOTOGRAPHS:
            pixels = picture(FIXTURES / name)
            shown = [(bpp, at_rate(pixels, bpp)) for bpp in RATES]
            page = rates(pixels, shown)
            page.save(PICTURES / f"syntheses-{Path(name).stem}.webp", quality=94, method=6)
            for bpp, own in shown:
                for each in own:
                    click.echo(f"{name}  {bpp:g} bpp  {each.name}: {each.size:,} bytes")
    if only in (None, "crops"):
        photographs = []
        for name in PHOTOGRAPHS:
            pixels = picture(FIXTURES / name)
            shown = at_equal_bytes(pixels)
            photographs.append((pixels, shown))
            for each in shown:
                click.echo(
                    f"{name}  {each.name:8} quality {each.quality:<3} {each.size:,} bytes, "
                    f"{8 * each.size / (pixels.size / 3):.3f} bpp, "
                    f"{psnr(pixels, each.pixels):.2f} dB"
                )
        sheet(photographs).save(PICTURES / "equal-bytes.webp", quality=94, method=6)
    if only in (None, "plot"):
        text = rate_distortion(json.loads(RESULTS.read_text()))
        (PICTURES / "rate-distortion.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
