"""`vqcodec compress`: an image file to a .vqz file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from vqcodec.cli.console import naming, print_left_out, print_values, progress
from vqcodec.cli.options import (
    device_option,
    effort_option,
    force_option,
    keep_of,
    model_option,
    quality_option,
    quiet_option,
    reading_options,
    target_options,
    tune_option,
)
from vqcodec.errors import OutputError
from vqcodec.files import (
    check_different,
    check_writable,
    input_name,
    is_standard_stream,
    read_bytes,
    write_atomically,
)

if TYPE_CHECKING:
    from vqcodec.codec import Compressed


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@quality_option
@target_options
@effort_option
@tune_option
@click.option(
    "--synthesis",
    type=click.Choice(["faithful", "natural"]),
    help="What decompress restores with unless told otherwise; what it is tuned for if not given.",
)
@model_option
@device_option
@reading_options
@click.option(
    "--tile",
    type=int,
    default=1024,
    show_default=True,
    metavar="N",
    help="Side of a tile in pixels, a power of two from 32 to 4096; smaller needs less memory.",
)
@force_option
@quiet_option
@click.option(
    "--report", is_flag=True, help="Also decompress, and print PSNR, bits of every level, seconds."
)
def command(
    source: str,
    target: str,
    quality: int | None,
    bpp: float | None,
    size: int | None,
    max_size: int | None,
    psnr: float | None,
    ssimulacra2: float | None,
    effort: int,
    tune: str,
    synthesis: str | None,
    model: str | None,
    device: str,
    strip: bool,
    keep_metadata: bool,
    frame: int | None,
    tone_map: bool,
    allow_damaged: bool,
    tile: int,
    force: bool,
    quiet: bool,
    report: bool,
) -> None:
    """Compress an image to a .vqz file.

    Of --quality, --bpp, --size, --max-size, --psnr and --ssimulacra2 give one. Prints the bytes of
    OUT and its bits per pixel (bpp), and the quality that met a target.
    """
    targets = {
        "bpp": bpp,
        "size": size,
        "max-size": max_size,
        "psnr": psnr,
        "ssimulacra2": ssimulacra2,
    }
    given = [name for name, value in {"quality": quality, **targets}.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(
            f"--{given[0]} and --{given[1]} exclude each other; give one of them."
        )
    keep = keep_of(strip, keep_metadata)
    check_different(source, target)
    check_writable(target, force=force)
    content = read_bytes(source)

    from vqcodec.image import economical, load, names_a_picture

    if names_a_picture(target) and not force:
        reason = "has the ending of a picture, which a .vqz file is not"
        raise OutputError(f"{reason}; use --force to name it so").in_file(target)
    with naming(source):
        image = load(
            content,
            keep=keep,
            frame=frame or 0,
            tone_map=tone_map,
            allow_damaged=allow_damaged,
        )
    image = economical(image)  # which is what a report compares
    # Who names a frame knows of the others.
    left_out = [each for each in image.left_out if frame is None or "(--frame)" not in each]

    # After the image: a wrong file is told without waiting for torch.
    from vqcodec.codec import compress, decompress

    start = time.perf_counter()
    with progress("compress") as advance:
        compressed = compress(
            image,
            quality=quality,
            bpp=bpp,
            size=size,
            max_size=max_size,
            psnr=psnr,
            ssimulacra2=ssimulacra2,
            effort=effort,
            tune=tune,
            synthesis=synthesis,
            model=model,
            device=device,
            tile=tile,
            progress=advance,
        )
    compress_seconds = time.perf_counter() - start

    values = _rate(compressed)
    if given and quality is None:
        values |= _met(compressed, "SSIMULACRA 2" if psnr is None else "psnr")
    if report:
        from vqcodec.choosing.rate_control import psnr_of

        start = time.perf_counter()
        with progress("decompress") as advance:
            restored = decompress(compressed.data, model=model, device=device, progress=advance)
        values |= {
            "psnr": f"{psnr_of(image.pixels, restored.pixels):.2f} dB",
            **_levels(compressed),
            "compress": f"{compress_seconds:.2f} s",
            "decompress": f"{time.perf_counter() - start:.2f} s",
        }
    write_atomically(target, compressed.data, force=force)
    print_left_out(input_name(source), left_out, quiet=quiet)
    print_values(values, err=is_standard_stream(target))


def _rate(compressed: Compressed) -> dict[str, object]:
    header = compressed.header
    size = len(compressed.data)
    return {"bytes": size, "bpp": f"{8 * size / (header.width * header.height):.4f}"}


def _met(compressed: Compressed, score: str) -> dict[str, object]:
    """What met a target."""
    values: dict[str, object] = {
        "quality": compressed.header.quality,
        "rate weight": f"{compressed.rate_weight:.3f}",
        "passes": compressed.passes,
    }
    if compressed.score is not None:
        values[score] = f"{compressed.score:.2f}{' dB' * (score == 'psnr')}"
    return values


def _levels(compressed: Compressed) -> dict[str, object]:
    """Bits of every level: of its payloads, and the ideal code length the priors promise."""
    from vqcodec.container import unpack

    sections = unpack(compressed.data).sections
    values: dict[str, object] = {"levels": len(sections)}
    for level, (payloads, ideal) in enumerate(zip(sections, compressed.ideal_bits, strict=True)):
        bits = 8 * sum(map(len, payloads))
        values[f"level {level}"] = f"{bits} bits, ideal {ideal:.1f}"
    return values
