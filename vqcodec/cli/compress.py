"""`vqcodec compress`: an image file to a .vqz file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from vqcodec.cli.console import (
    examples,
    naming,
    print_json,
    print_left_out,
    print_values,
    progress,
    rate_text,
    seconds_text,
)
from vqcodec.cli.options import (
    device_option,
    effort_option,
    force_option,
    json_option,
    keep_of,
    model_option,
    quality_option,
    reading_options,
    target_options,
    tune_option,
    verbosity_options,
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


@click.command(
    epilog=examples(
        "compress photo.jpg photo.vqz --quality 40",
        "compress photo.jpg photo.vqz --size 40kB --effort 9   # never more, searched longest",
        "compress photo.jpg photo.vqz --psnr 32 --report",
        "compress anim.gif third.vqz --frame 2 --strip         # no metadata",
        "compress - - --bpp 0.2 < photo.png > photo.vqz",
    )
)
@click.argument("source", metavar="IN", type=click.Path())
@click.argument("target", metavar="OUT", type=click.Path())
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
@click.option(
    "--report", is_flag=True, help="Also decompress, and print PSNR, bits of every level, seconds."
)
@json_option
@verbosity_options
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
    report: bool,
    as_json: bool,
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

    values = _described(target, compressed, compress_seconds)
    if given and quality is None:
        values |= _met(compressed, "ssimulacra2" if psnr is None else "psnr")
    if report:
        from vqcodec.choosing.rate_control import psnr_of

        start = time.perf_counter()
        with progress("decompress") as advance:
            restored = decompress(compressed.data, model=model, device=device, progress=advance)
        values |= {
            "psnr": psnr_of(image.pixels, restored.pixels),
            "levels": _levels(compressed),
            "decompress_seconds": time.perf_counter() - start,
        }
    write_atomically(target, compressed.data, force=force)
    print_left_out(input_name(source), left_out)
    if as_json:
        print_json({**values, "left_out": left_out}, err=is_standard_stream(target))
    else:
        print_values(_readable(values), err=is_standard_stream(target))


def _described(target: str, compressed: Compressed, seconds: float) -> dict[str, Any]:
    header = compressed.header
    size = len(compressed.data)
    return {
        "file": target,
        "bytes": size,
        "bpp": 8 * size / (header.width * header.height),
        "width": header.width,
        "height": header.height,
        "quality": header.quality,
        "compress_seconds": seconds,
    }


def _met(compressed: Compressed, score: str) -> dict[str, Any]:
    """What met a target."""
    values: dict[str, Any] = {"rate_weight": compressed.rate_weight, "passes": compressed.passes}
    return values if compressed.score is None else {**values, score: compressed.score}


def _levels(compressed: Compressed) -> list[dict[str, float]]:
    """Bits of every level: of its payloads, and the ideal code length the priors promise."""
    from vqcodec.container import unpack

    return [
        {"bits": 8 * sum(map(len, payloads)), "ideal_bits": ideal}
        for payloads, ideal in zip(
            unpack(compressed.data).sections, compressed.ideal_bits, strict=True
        )
    ]


def _readable(values: dict[str, Any]) -> dict[str, object]:
    """What was found as texts."""
    texts: dict[str, object] = {
        "bytes": values["bytes"],
        "bpp": f"{values['bpp']:.4f}",
        "size": rate_text(values["bytes"], values["bpp"]),
    }
    if "passes" in values:
        texts |= {
            "quality": values["quality"],
            "rate weight": f"{values['rate_weight']:.3f}",
            "passes": values["passes"],
        }
    if "psnr" in values:
        texts["psnr"] = f"{values['psnr']:.2f} dB"
    if "ssimulacra2" in values:
        texts["SSIMULACRA 2"] = f"{values['ssimulacra2']:.2f}"
    if "levels" in values:
        texts["levels"] = len(values["levels"])
        for level, each in enumerate(values["levels"]):
            texts[f"level {level}"] = f"{each['bits']} bits, ideal {each['ideal_bits']:.1f}"
        texts["compress"] = seconds_text(values["compress_seconds"])
        texts["decompress"] = seconds_text(values["decompress_seconds"])
    return texts
