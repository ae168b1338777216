"""`vqcodec decompress`: a .vqz file to an image file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from vqcodec.cli.console import (
    examples,
    is_quiet,
    naming,
    print_json,
    print_left_out,
    progress,
)
from vqcodec.cli.options import (
    device_option,
    force_option,
    json_option,
    model_option,
    piece_options,
    verbosity_options,
)
from vqcodec.files import (
    check_different,
    check_writable,
    is_standard_stream,
    read_bytes,
    write_atomically,
)

if TYPE_CHECKING:
    from vqcodec.piece import Region


@click.command(
    epilog=examples(
        "decompress photo.vqz photo.png",
        "decompress photo.vqz photo.png --synthesis natural   # with textures",
        "decompress photo.vqz small.png --max-side 256",
        "decompress photo.vqz piece.png --region 800,600,512,512",
        "decompress cut.vqz rescued.png --partial             # what is whole of it",
    )
)
@click.argument("source", metavar="IN", type=click.Path())
@click.argument("target", metavar="OUT", type=click.Path())
@click.option(
    "--levels",
    type=click.IntRange(min=1),
    metavar="N",
    help="Decode only the N coarsest levels.",
)
@piece_options
@click.option("--partial", is_flag=True, help="Accept a file cut short; decode what is whole.")
@click.option(
    "--synthesis",
    metavar="NAME|FILE",
    help="faithful: nearest to the original; natural: most like a photograph; or weights that "
    "`export --synthesis` wrote. What the file was made for, if not given.",
)
@model_option
@device_option
@force_option
@click.option(
    "--format",
    "image_format",
    metavar="NAME",
    help="Image format, such as PNG or BMP; by OUT's ending if not given, PNG on standard output.",
)
@click.option(
    "--background",
    metavar="COLOUR",
    help="Put a transparent image on a colour, such as white or #ff8000; needed for JPEG.",
)
@json_option
@verbosity_options
def command(
    source: str,
    target: str,
    levels: int | None,
    region: Region | None,
    max_side: int | None,
    partial: bool,
    synthesis: str | None,
    model: str | None,
    device: str,
    force: bool,
    image_format: str | None,
    background: str | None,
    as_json: bool,
) -> None:
    """Restore an image from a .vqz file."""
    check_different(source, target)
    check_writable(target, force=force)
    content = read_bytes(source)

    from vqcodec.image import check_format, dump, flattened, format_for, losses

    name = format_for(target) if image_format is None else check_format(image_format)

    from vqcodec.codec import decompress

    start = time.perf_counter()
    with naming(source), progress("decompress") as advance:
        image = decompress(
            content,
            model=model,
            synthesis=synthesis,
            device=device,
            levels=levels,
            partial=partial,
            region=region,
            max_side=max_side,
            progress=advance,
        )
    seconds = time.perf_counter() - start
    if background is not None:
        image = flattened(image, background)
    written = "standard output" if is_standard_stream(target) else target
    with naming(written):
        encoded = dump(image, name)
    write_atomically(target, encoded, force=force)
    left_out: tuple[str, ...] = ()
    if as_json or not is_quiet():  # to know it costs another decoding
        left_out = losses(image, encoded)
        print_left_out(written, left_out)
    if as_json:
        height, width = image.pixels.shape[:2]
        found = {
            "file": target,
            "format": name,
            "bytes": len(encoded),
            "width": width,
            "height": height,
            "decompress_seconds": seconds,
            "left_out": left_out,
        }
        print_json(found, err=is_standard_stream(target))
