"""Bytes of plain images: vqcodec with and without lossless files, beside PNG and lossless WebP.

    python benchmarks/plain.py --out benchmarks/plain.md

The images are drawn here, with Pillow and its font, so that anybody has the same; `--suite` adds
the sums of a folder of PngSuite.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click
import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFont

import vqcodec
from vqcodec import image
from vqcodec.bench.command import Command, tracked
from vqcodec.choosing.keeping import AUTO, NEVER
from vqcodec.choosing.rate_control import psnr_of
from vqcodec.cli.options import effort_option, quality_option

SCREEN = 640, 400
PROSE = (
    "indices coarse to fine every level tile prior gives the frequencies of symbols before "
    "synthesis restores pixels and nothing in decoding depends on how they were chosen"
)
WORDS = PROSE.split()
WHITE, BLACK, GREY, BLUE, RED, GREEN = (
    *("#ffffff", "#1a1a1a", "#c8c8c8", "#2468c0", "#c03028", "#309050"),
)

Drawn = PIL.Image.Image
Draw = ImageDraw.ImageDraw


def canvas(size: tuple[int, int] = SCREEN, colour: str = WHITE) -> tuple[Drawn, Draw]:
    picture = PIL.Image.new("RGB", size, colour)
    return picture, ImageDraw.Draw(picture)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def prose(draw: Draw, left: int, top: int, bottom: int, size: int, colour: str, words: int) -> None:
    """Lines of so many words each, from a place down."""
    for n, y in enumerate(range(top, bottom - size, round(1.4 * size))):
        line = " ".join(WORDS[(7 * n + k) % len(WORDS)] for k in range(words))
        draw.text((left, y), line, fill=colour, font=font(size))


def window(title: str, colour: str = WHITE, bar: str = GREY) -> tuple[Drawn, Draw]:
    """A window that fills a screen, with its bar."""
    picture, draw = canvas(colour=colour)
    draw.rectangle((0, 0, SCREEN[0], 27), fill=bar)
    draw.text((12, 6), title, fill=BLACK, font=font(13))
    for n, dot in enumerate((RED, GREEN, BLUE)):
        draw.ellipse((SCREEN[0] - 70 + 22 * n, 8, SCREEN[0] - 58 + 22 * n, 20), fill=dot)
    return picture, draw


def text_on_white() -> Drawn:
    picture, draw = canvas((512, 384))
    prose(draw, 20, 16, 372, 16, BLACK, 9)
    return picture


def pixel_art() -> Drawn:
    """A face of 16 x 16 squares, symmetric, of five colours."""
    rng = np.random.default_rng(3)
    half = rng.integers(5, size=(16, 8))
    palette = np.array([[24, 20, 37], [58, 68, 102], [228, 59, 68], [254, 174, 52], [255] * 3])
    face = palette[np.hstack([half, half[:, ::-1]])].astype(np.uint8)
    return PIL.Image.fromarray(face.repeat(8, 0).repeat(8, 1))


def bar_chart() -> Drawn:
    picture, draw = canvas((512, 384))
    draw.line((50, 30, 50, 340, 490, 340), fill=BLACK, width=2)
    for n, share in enumerate((0.3, 0.55, 0.42, 0.8, 0.66, 0.95, 0.2)):
        left = 70 + 60 * n
        draw.rectangle((left, 340 - 300 * share, left + 40, 339), fill=(BLUE, RED, GREEN)[n % 3])
        draw.text((left + 6, 348), f"Q{n + 1}", fill=BLACK, font=font(14))
        draw.text((left + 2, 322 - 300 * share), f"{share:.0%}", fill=BLACK, font=font(12))
    return picture


def checkers() -> Drawn:
    board = (np.indices((256, 256)) // 16).sum(0) % 2 * 255
    return PIL.Image.fromarray(board.astype(np.uint8)).convert("RGB")


def three() -> Drawn:
    pixels = np.random.default_rng(1).integers(256, size=(3, 3, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def one() -> Drawn:
    return PIL.Image.new("RGB", (1, 1), RED)


def icon() -> Drawn:
    """Drawn four times as large, so that its edges are smooth."""
    picture, draw = canvas((256, 256), BLUE)
    draw.ellipse((40, 40, 216, 216), fill=WHITE)
    draw.polygon([(100, 80), (100, 176), (184, 128)], fill=RED)
    return picture.resize((64, 64), PIL.Image.Resampling.LANCZOS)


def transparent_icon() -> Drawn:
    picture = icon()
    mask = PIL.Image.new("L", (256, 256))
    ImageDraw.Draw(mask).ellipse((4, 4, 252, 252), fill=255)
    picture.putalpha(mask.resize((64, 64), PIL.Image.Resampling.LANCZOS))
    return picture


def gradient() -> Drawn:
    ramp = np.add.outer(np.arange(256), np.arange(384)) * 255 // 638
    return PIL.Image.fromarray(np.stack([ramp, 255 - ramp, ramp // 2 + 64], 2).astype(np.uint8))


def editor() -> Drawn:
    picture, draw = window("notes.txt")
    prose(draw, 16, 40, 390, 13, BLACK, 13)
    return picture


def dark_editor() -> Drawn:
    picture, draw = window("codec.py", "#20242c", "#8890a0")
    for n, y in enumerate(range(40, 380, 18)):
        draw.text((12, y), f"{n + 1:3}", fill="#606878", font=font(13))
        left = 48 + 22 * (n % 4)
        for k in range(3 + n % 4):
            word = WORDS[(5 * n + k) % len(WORDS)]
            draw.text((left, y), word, fill=("#e0e0e0", "#70b0f0", "#e0a060")[k % 3], font=font(13))
            left += round(draw.textlength(word + " ", font=font(13)))
    return picture


def terminal() -> Drawn:
    picture, draw = window("terminal", "#000000")
    prose(draw, 8, 34, 396, 12, "#50e050", 12)
    return picture


def sheet() -> Drawn:
    picture, draw = window("table")
    rng = np.random.default_rng(5)
    for row, y in enumerate(range(28, 400, 20)):
        draw.line((0, y, 640, y), fill=GREY)
        for column, x in enumerate(range(0, 640, 80)):
            draw.line((x, 28, x, 400), fill=GREY)
            value = WORDS[column] if row == 0 else f"{rng.integers(100_000) / 100:.2f}"
            draw.text((x + 6, y + 3), value, fill=BLACK, font=font(12))
    return picture


def files() -> Drawn:
    picture, draw = window("pictures")
    small = icon().resize((48, 48), PIL.Image.Resampling.LANCZOS)
    for n in range(21):
        x, y = 24 + n % 7 * 88, 44 + n // 7 * 112
        picture.paste(small, (x + 8, y))
        draw.text((x, y + 56), WORDS[n][:9], fill=BLACK, font=font(12))
    return picture


def dialog() -> Drawn:
    picture, draw = canvas(colour="#3a6ea5")
    draw.rounded_rectangle((130, 110, 510, 290), 12, fill=WHITE, outline=BLACK)
    prose(draw, 154, 132, 230, 15, BLACK, 5)
    for left, word, colour in ((290, "Cancel", GREY), (400, "Save", "#a8c8f0")):
        draw.rounded_rectangle((left, 244, left + 90, 274), 6, fill=colour)
        draw.text((left + 22, 250), word, fill=BLACK, font=font(14))
    return picture


def plot() -> Drawn:
    picture, draw = window("plot")
    draw.rectangle((60, 50, 610, 360), outline=BLACK)
    for n, colour in enumerate((BLUE, RED, GREEN)):
        curve = [(x, 205 - 120 * math.sin(x / (40 + 15 * n)) * (x / 610)) for x in range(61, 610)]
        draw.line(curve, fill=colour, width=2)
        draw.text((80, 60 + 16 * n), WORDS[n], fill=colour, font=font(13))
    return picture


def street_map() -> Drawn:
    picture, draw = canvas(colour="#e8e4d8")
    rng = np.random.default_rng(8)
    draw.polygon([(0, 260), (180, 210), (420, 300), (640, 250), (640, 400), (0, 400)], "#a8c8e8")
    for _ in range(26):
        ends = [tuple(rng.integers(0, side) for side in SCREEN) for _ in range(2)]
        draw.line(ends, fill=WHITE, width=int(rng.integers(3, 9)))
    for n in range(14):
        place = tuple(rng.integers(10, side - 60) for side in SCREEN)
        draw.text(place, WORDS[n].title(), fill=BLACK, font=font(12))
    return picture


def slide() -> Drawn:
    """Its background is a gradient."""
    ramp = np.linspace((20, 40, 90), (60, 120, 200), SCREEN[1])[:, None].repeat(SCREEN[0], 1)
    picture = PIL.Image.fromarray(ramp.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.text((40, 40), "Coarse to fine", fill=WHITE, font=font(40))
    prose(draw, 60, 130, 340, 22, WHITE, 6)
    return picture


def page_with_picture() -> Drawn:
    """Text around what is no flat colour: waves with noise."""
    picture, draw = window("page")
    rows, columns = np.indices((180, 260))
    waves = 127 + 60 * np.sin(rows / 17 + np.sin(columns / 23)) + 40 * np.cos(columns / 31)
    noise = np.random.default_rng(9).normal(0, 5, (180, 260, 3))
    coloured = np.clip(waves[..., None] * (0.9, 1.0, 0.8) + noise, 0, 255)
    picture.paste(PIL.Image.fromarray(coloured.astype(np.uint8)), (360, 50))
    prose(draw, 16, 44, 230, 13, BLACK, 6)
    prose(draw, 16, 240, 392, 13, BLACK, 13)
    return picture


PLAIN: dict[str, Callable[[], Drawn]] = {
    "1 x 1": one,
    "3 x 3, noise": three,
    "icon": icon,
    "icon with alpha": transparent_icon,
    "pixel art": pixel_art,
    "checkers": checkers,
    "gradient": gradient,
    "bar chart": bar_chart,
    "text on white": text_on_white,
    "screen: editor": editor,
    "screen: dark editor": dark_editor,
    "screen: terminal": terminal,
    "screen: table": sheet,
    "screen: files": files,
    "screen: dialog": dialog,
    "screen: plot": plot,
    "screen: map": street_map,
    "screen: slide": slide,
    "screen: page with a picture": page_with_picture,
}


def size_as(picture: Drawn, image_format: str, **options: object) -> int:
    stream = io.BytesIO()
    picture.save(stream, image_format, **options)
    return len(stream.getvalue())


def coded(picture: Drawn, quality: int, effort: int, lossless: str) -> tuple[bytes, str, str]:
    """The file, its PSNR and the seconds it took, in words."""
    start = time.perf_counter()
    data = bytes(vqcodec.compress(picture, quality=quality, effort=effort, lossless=lossless))
    seconds = time.perf_counter() - start
    original = np.asarray(picture.convert("RGB"))
    psnr = psnr_of(original, vqcodec.decompress(data).pixels)
    return data, "lossless" if math.isinf(psnr) else f"{psnr:.1f}", f"{seconds:.2f}"


def row(name: str, quality: int, effort: int) -> str:
    picture = PLAIN[name]()
    png = size_as(picture, "PNG", optimize=True)
    webp = size_as(picture, "WEBP", lossless=True, exact=True, method=6, quality=100)
    never, never_psnr, never_seconds = coded(picture, quality, effort, NEVER)
    auto, auto_psnr, auto_seconds = coded(picture, quality, effort, AUTO)
    cells = [
        name,
        f"{picture.width} x {picture.height}",
        *(f"{size:,}" for size in (png, webp, len(never))),
        *(never_psnr, never_seconds, f"{len(auto):,}", auto_psnr, auto_seconds),
    ]
    return f"| {' | '.join(cells)} |"


def suite_row(files: list[Path], quality: int, effort: int) -> str:
    """All PNGs of a suite, of 16 bits the nearest of 8: sums, and how many are lossless."""
    png = webp = exact = 0
    sizes, seconds = dict.fromkeys((NEVER, AUTO), 0), dict.fromkeys((NEVER, AUTO), 0.0)
    for file in tracked(files, "suite"):
        content = file.read_bytes()
        picture = image.load(content).to_pil()
        png += len(content)
        webp += size_as(picture, "WEBP", lossless=True, exact=True, method=6, quality=100)
        for lossless in (NEVER, AUTO):
            data, psnr, took = coded(picture, quality, effort, lossless)
            sizes[lossless] += len(data)
            seconds[lossless] += float(took)
        exact += psnr == "lossless"
    cells = [
        *(f"PngSuite, {len(files)} images", "32 x 32"),
        *(f"{size:,}" for size in (png, webp, sizes[NEVER])),
        *("", f"{seconds[NEVER]:.1f}", f"{sizes[AUTO]:,}"),
        *(f"{exact} lossless", f"{seconds[AUTO]:.1f}"),
    ]
    return f"| {' | '.join(cells)} |"


@click.command(cls=Command)
@click.option("--suite", type=click.Path(path_type=Path), help="Folder with PNGs of PngSuite.")
@click.option(
    "--out", type=click.File("w", "utf-8", lazy=True), default="-", help="A Markdown file."
)
@click.option("--images", type=click.Path(path_type=Path), help="Write the images here, and end.")
@click.option("--only", "names", multiple=True, type=click.Choice([*PLAIN]), help="Several.")
@quality_option
@effort_option
def main(
    suite: Path | None,
    out: TextIO,
    images: Path | None,
    names: tuple[str, ...],
    quality: int | None,
    effort: int,
) -> None:
    """Compares the bytes of plain images."""
    if images is not None:
        images.mkdir(parents=True, exist_ok=True)
        for name, draw in PLAIN.items():
            draw().save(images / f"{name.replace(': ', '-').replace(' ', '-')}.png")
        return
    quality = quality or 50
    vqz = ["never", "PSNR, dB", "s", "auto", "PSNR, dB", "s"]
    head = ["image", "size", "PNG", "WebP lossless", *vqz]
    lines = [
        "# Plain images",
        "",
        "Bytes, made by `python benchmarks/plain.py --out benchmarks/plain.md`: PNG optimised,",
        "WebP lossless at its slowest, and vqcodec with `--lossless never` and `--lossless auto`,",
        f"at quality {quality} and effort {effort}. Seconds are of compressing. PSNR is of all",
        "colours, and so of those under full transparency, which are not kept. The images are",
        "drawn by the script; those of PngSuite (`--suite FOLDER`) are what the source archives of",
        "libpng 1.6.39, Go 1.19 and pngjs 0.4.0 hold of its basic and transparent ones.",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
    ]
    vqcodec.compress(PLAIN["icon"](), lossless=NEVER)  # to warm up
    lines += [row(name, quality, effort) for name in tracked(names or [*PLAIN], "images")]
    if suite is not None:
        lines.append(suite_row(sorted(suite.glob("*.png")), quality, effort))
    out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
