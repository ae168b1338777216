"""`vqcodec compare`: how near an image is to another one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from vqcodec.ambient import ordinary_state
from vqcodec.cli.console import (
    examples,
    naming,
    print_json,
    print_note,
    print_values,
    progress,
    rate_text,
)
from vqcodec.cli.options import (
    device_option,
    json_option,
    max_pixels_option,
    model_option,
    verbosity_options,
)
from vqcodec.container import MAGIC
from vqcodec.files import STANDARD_STREAM, input_name, read_bytes

if TYPE_CHECKING:
    from vqcodec.image import Image
    from vqcodec.metrics.comparison import Comparison


@click.command(
    epilog=examples(
        "compare photo.png photo.vqz",
        "compare photo.png photo.avif --json",
        "compare photo.png photo.vqz --synthesis natural",
    )
)
@click.argument("first", metavar="A", type=click.Path())
@click.argument("second", metavar="B", type=click.Path())
@click.option(
    "--synthesis",
    metavar="NAME|FILE",
    help="What restores .vqz files: faithful, natural or a file, as in `decompress`.",
)
@model_option
@device_option
@json_option
@max_pixels_option
@verbosity_options
@ordinary_state()
def command(
    first: str,
    second: str,
    synthesis: str | None,
    model: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Measure how near image B is to image A.

    Each may be a picture of any kind or a .vqz file. Prints PSNR, MS-SSIM and SSIMULACRA 2 of the
    colours as 8-bit RGB, and bytes and bits per pixel (bpp) of both files.
    """
    if first == second == STANDARD_STREAM:
        raise click.UsageError("Standard input gives one image: name a file.")
    contents = [read_bytes(each) for each in (first, second)]
    images = []
    for source, content in zip((first, second), contents, strict=True):
        with naming(source):
            images.append(_read(content, model, synthesis, device))

    from vqcodec.metrics.comparison import compare

    with naming(second):
        found = compare(*images)
    files = [
        {
            "file": click.format_filename(source),
            "bytes": len(content),
            "bpp": 8 * len(content) / (image.pixels.shape[0] * image.pixels.shape[1]),
        }
        for source, content, image in zip((first, second), contents, images, strict=True)
    ]
    if as_json:
        print_json(_described(files, images[0], found))
    else:
        print_values(_readable(files, images[0], found))
    for name, reason in found.missing.items():
        print_note(f"{name} left out: {reason}")
    for difference in found.differences:
        print_note(f"{input_name(second)}: another {difference}, which is not compared")


def _read(content: bytes, model: str | None, synthesis: str | None, device: str) -> Image:
    if not content.startswith(MAGIC):
        from vqcodec.image import load

        return load(content)

    from vqcodec.codec import decompress

    with progress("decompress") as advance:
        return decompress(
            content, model=model, synthesis=synthesis, device=device, progress=advance
        )


def _described(files: list[dict[str, Any]], image: Image, found: Comparison) -> dict[str, Any]:
    height, width = image.pixels.shape[:2]
    return {
        "a": files[0],
        "b": files[1],
        "width": width,
        "height": height,
        "psnr": found.psnr,
        "ms_ssim": found.ms_ssim,
        "ssimulacra2": found.ssimulacra2,
        "missing": found.missing,
        "differences": found.differences,
    }


def _readable(files: list[dict[str, Any]], image: Image, found: Comparison) -> dict[str, object]:
    height, width = image.pixels.shape[:2]
    texts: dict[str, object] = {"size": f"{width}x{height}"}
    for name, each in zip(("A", "B"), files, strict=True):
        texts[name] = f"{each['file']}, {rate_text(each['bytes'], each['bpp'])}"
        texts[f"bytes of {name}"] = each["bytes"]
    equal = math.isinf(found.psnr)
    texts["PSNR"] = "infinite, the colours are equal" if equal else f"{found.psnr:.2f} dB"
    if found.ms_ssim is not None:
        texts["MS-SSIM"] = f"{found.ms_ssim:.4f}"
    if found.ssimulacra2 is not None:
        texts["SSIMULACRA 2"] = f"{found.ssimulacra2:.2f}"
    return texts
