"""What is read of pictures of every kind, against what Chromium shows of the same files.

    python benchmarks/inputs.py --out benchmarks/inputs.md

Colours are compared as sRGB, by the profile that is kept, where neither is transparent. Needs
selenium, chromium and its driver.
"""

from __future__ import annotations

import base64
import contextlib
import io
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import click
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageCms

from vqcodec.errors import CodecError, ImageError
from vqcodec.image import Image, load
from vqcodec.image.colour import profile

WIDTH, HEIGHT = 96, 64
ORIENTATION, MAKE, GPS = 0x0112, 0x010F, 0x8825
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
DISPLAY_P3 = profile((0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), SRGB_CURVE, False)
GREY_2_2 = profile((), (2.2,), True)
DRAW = """
const done = arguments[arguments.length - 1], picture = new Image();
picture.onload = () => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(picture, 0, 0);
  const samples = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let text = '';
  for (const each of samples) text += String.fromCharCode(each);
  done([canvas.width, canvas.height, btoa(text)]);
};
picture.onerror = () => done(null);
picture.src = arguments[0];
"""
Shown = npt.NDArray[np.uint8]
Browser = Callable[[bytes], "Shown | None"]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A function from a picture's file to what Chromium shows of it: uint8 [H,W,4], or None.

    Raises:
        CodecError: selenium or Chromium is not installed.
    """
    program, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    try:
        from selenium import webdriver
    except ImportError as error:
        raise CodecError("selenium is not installed; pip install selenium") from error
    if program is None or driver is None:
        raise CodecError("chromium is not installed; apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--force-color-profile=srgb"):
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path=driver)
    window = webdriver.Chrome(options=options, service=service)

    def shown(encoded: bytes) -> Shown | None:
        address = f"data:;base64,{base64.b64encode(encoded).decode()}"
        found: Any = window.execute_async_script(DRAW, address)
        if found is None:
            return None
        width, height, samples = found
        return np.frombuffer(base64.b64decode(samples), np.uint8).reshape(height, width, 4)

    try:
        window.set_script_timeout(60)
        yield shown
    finally:
        window.quit()


def as_srgb(image: Image) -> npt.NDArray[np.uint8]:
    """Its colours by its profile, uint8 [H,W,3]."""
    channels = image.pixels[:, :, 0] if image.grey else image.pixels
    picture = PIL.Image.fromarray(np.ascontiguousarray(channels))
    if image.icc is None:
        return np.asarray(picture.convert("RGB"))
    source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(image.icc))
    intent = PIL.ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = PIL.ImageCms.profileToProfile(
        picture, source, PIL.ImageCms.createProfile("sRGB"), intent, "RGB"
    )
    assert converted is not None
    return np.asarray(converted)


def difference(image: Image, shown: Shown) -> str:
    """Mean and largest difference of colours that both show, in words."""
    colours = as_srgb(image)
    if colours.shape[:2] != shown.shape[:2]:
        return f"shows {shown.shape[1]} x {shown.shape[0]}"
    alpha = np.full(colours.shape[:2], 255) if image.alpha is None else image.alpha
    seen = (shown[:, :, 3] > 200) & (alpha > 0)
    apart = np.abs(colours.astype(int) - shown[:, :, :3])[seen]
    return f"{apart.mean():.2f}, at most {apart.max()}"


def scene() -> npt.NDArray[np.uint8]:
    """Red grows to the right, green downwards; a blue corner at the upper left."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    corner = (columns < WIDTH / 4) & (rows < HEIGHT / 4)
    channels = (40 + 2 * columns, 30 + 3 * rows, np.where(corner, 230, 60))
    return np.stack(channels, axis=2).clip(0, 255).astype(np.uint8)


def written(picture: PIL.Image.Image, format: str, **options: Any) -> bytes:
    """A file of it."""
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def png(pixels: npt.NDArray[Any], colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of uint8 or uint16 [H,W,C], with more chunks before the pixels."""
    wide = pixels.dtype == np.uint16
    rows = b"".join(b"\0" + row.astype(">u2" if wide else np.uint8).tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", *pixels.shape[1::-1], 8 << wide, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        checksum = zlib.crc32(kind + body)
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)
    return content


def exif(orientation: int) -> bytes:
    """With a maker and a position."""
    block = PIL.Image.Exif()
    block[ORIENTATION], block[MAKE] = orientation, "Maker"
    block.get_ifd(GPS).update({1: "N", 2: (12.0, 34.0, 56.0)})
    return block.tobytes()


def pictures(shift: int = 0) -> dict[str, bytes]:
    """Files by what they are, of the scene moved to the right."""
    rgb = np.roll(scene(), shift, 1)
    picture, deep = PIL.Image.fromarray(rgb), rgb.astype(np.uint16) * 257
    deep += np.arange(WIDTH, dtype=np.uint16)[:, np.newaxis]
    grey, ramp = picture.convert("L"), np.add.outer(np.arange(HEIGHT), 2 * np.arange(WIDTH))
    alpha = PIL.Image.fromarray((ramp % 256).astype(np.uint8))
    transparent = picture.copy()
    transparent.putalpha(alpha)
    frames = [PIL.Image.fromarray(np.roll(rgb, 8 * n, 1)) for n in range(3)]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 60_000}
    jpeg = written(picture, "JPEG", quality=95)
    found = {
        "JPEG": jpeg,
        "JPEG, progressive": written(picture, "JPEG", quality=95, progressive=True),
        "JPEG, Display P3": written(picture, "JPEG", quality=95, icc_profile=DISPLAY_P3),
        "JPEG, CMYK without profile": written(picture.convert("CMYK"), "JPEG", quality=95),
        "JPEG, cut": jpeg[: len(jpeg) * 3 // 4],
        "JPEG, without end": jpeg[:-2],
        "PNG": written(picture, "PNG"),
        "PNG, grey with a profile": written(grey, "PNG", icc_profile=GREY_2_2),
        "PNG, grey with a profile of RGB": written(grey, "PNG", icc_profile=DISPLAY_P3),
        "PNG, palette": written(picture.quantize(16), "PNG"),
        "PNG, alpha": written(transparent, "PNG"),
        "PNG, a transparent colour": png(rgb, 2, (b"tRNS", struct.pack(">3H", *rgb[0, 0]))),
        "PNG, 16-bit RGB": png(deep, 2),
        "PNG, 16-bit grey with alpha": png(deep[:, :, :2], 4),
        "PNG, gamma 1": png(rgb, 2, (b"gAMA", struct.pack(">I", 100_000))),
        "PNG, cICP of Display P3": png(rgb, 2, (b"cICP", bytes([12, 13, 0, 1]))),
        "PNG, cICP of PQ": png(deep, 2, (b"cICP", bytes([9, 16, 0, 1]))),
        "PNG, animated": written(frames[0], "PNG", **animated),
        "GIF, animated": written(frames[0], "GIF", **animated),
        "WebP, animated": written(frames[0], "WEBP", lossless=True, **animated),
        "AVIF, alpha": written(transparent, "AVIF"),
        "BMP": written(picture, "BMP"),
        "TIFF, 16-bit grey": written(PIL.Image.fromarray(deep[:, :, 0]), "TIFF"),
        "TIFF, CIE L*a*b*": written(PIL.Image.merge("LAB", [grey, grey, grey]), "TIFF"),
    }
    for orientation in range(2, 9):
        for format in ("JPEG", "PNG", "AVIF", "WEBP"):
            name = f"{format.replace('WEBP', 'WebP')}, EXIF orientation {orientation}"
            found[name] = written(picture, format, quality=90, exif=exif(orientation))
    return found


def row(name: str, encoded: bytes, shown: Shown | None) -> str:
    """A line of the table."""
    try:
        try:
            image, how = load(encoded), ""
        except ImageError:
            image, how = load(encoded, allow_damaged=True), "`--allow-damaged`: "
    except ImageError as error:
        there = "not shown" if shown is None else "shown"
        return f"| {name} | refused: {error} | | | {there} |"
    mode = ("L" if image.grey else "RGB") + ("" if image.alpha is None else "A")
    size = f"{how}{mode} {image.pixels.shape[1]} x {image.pixels.shape[0]}"
    kept = [word for word, there in (("profile", image.icc), ("EXIF", image.exif)) if there]
    apart = "not shown" if shown is None else difference(image, shown)
    return f"| {name} | {size} | {', '.join(kept)} | {'; '.join(image.left_out)} | {apart} |"


@click.command()
@click.option(
    "--out", type=click.File("w", "utf-8", lazy=True), default="-", help="File for the table."
)
def main(out: TextIO) -> None:
    """Compare what is read of every kind of picture with what Chromium shows."""
    lines = [
        "# What comes back of a picture",
        "",
        "What `vqcodec` reads of files of each kind, and by how many of 255 levels Chromium shows",
        "other colours: the mean, and the most (`python benchmarks/inputs.py --out",
        "benchmarks/inputs.md`). Chromium does not turn WebP by EXIF.",
        "",
        "| file | read as | kept | left out | Chromium's colours differ by |",
        "| --- | --- | --- | --- | --- |",
    ]
    with browser() as shown:
        lines += [row(name, encoded, shown(encoded)) for name, encoded in pictures().items()]
    out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
