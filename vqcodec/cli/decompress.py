"""`vqcodec decompress`: a .vqz file to an image file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vqcodec.cli.console import naming, progress
from vqcodec.cli.options import device_option, force_option, model_option, piece_options
from vqcodec.files import STANDARD_STREAM, check_writable, read_bytes, write_atomically

if TYPE_CHECKING:
    from vqcodec.piece import Region


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
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
) -> None:
    """Restore an image from a .vqz file."""
    check_writable(target, force=force)
    content = read_bytes(source)

    from vqcodec.image import dump, format_for

    if image_format is None:
        image_format = "PNG" if target == STANDARD_STREAM else format_for(target)

    from vqcodec.codec import decompress

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
    write_atomically(target, dump(image, image_format), force=force)
