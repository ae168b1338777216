"""`vqcodec view`: a .vqz file in the system's viewer, or in the terminal."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqcodec.cli.console import examples, naming, progress
from vqcodec.cli.options import (
    device_option,
    max_pixels_option,
    model_option,
    piece_options,
    verbosity_options,
)
from vqcodec.errors import CodecError
from vqcodec.files import STANDARD_STREAM, read_bytes, write_atomically

if TYPE_CHECKING:
    import PIL.Image
    from rich.console import Console
    from rich.text import Text

    from vqcodec.piece import Region

_HALF_BLOCK = "\N{UPPER HALF BLOCK}"


@click.command(
    epilog=examples(
        "view photo.vqz",
        "view photo.vqz --terminal        # here, two pixels a character",
    )
)
@click.argument("source", metavar="FILE", type=click.Path())
@click.option("--terminal", is_flag=True, help="Draw it here, two pixels a character.")
@piece_options
@model_option
@device_option
@max_pixels_option
@verbosity_options
def command(
    source: str,
    terminal: bool,
    region: Region | None,
    max_side: int | None,
    model: str | None,
    device: str,
) -> None:
    """Show a .vqz file.

    It is restored to a temporary PNG, which the system's viewer opens; or with --terminal to a
    terminal that knows colours.
    """
    content = read_bytes(source)
    console = _console() if terminal else None
    if console is not None:
        max_side = min(max_side or console.width, max(console.width, 2 * console.height))

    from vqcodec.codec import decompress

    with naming(source), progress("decompress") as advance:
        image = decompress(
            content,
            model=model,
            device=device,
            region=region,
            max_side=max_side,
            partial=True,
            progress=advance,
        )
    if console is not None:
        picture = image.to_pil()
        picture.thumbnail((console.width, 2 * (console.height - 1)))
        console.print(drawn(picture), end="")
        return

    from vqcodec.image import dump

    name = "image" if source == STANDARD_STREAM else Path(source).stem
    # It stays: whoever opens it may do so after this process has ended.
    target = Path(tempfile.mkdtemp(prefix="vqcodec-")) / f"{name}.png"
    write_atomically(target, dump(image), force=False)
    # Only xdg-open returns at once though it is waited for, and then says whether it failed.
    if click.launch(str(target), wait=sys.platform != "darwin") != 0:
        raise CodecError("no viewer could be opened; open this file").in_file(target)


def drawn(picture: PIL.Image.Image) -> Text:
    """A picture as rows of characters whose upper and lower halves are pixels."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    pixels = picture.convert("RGB").load()
    assert pixels is not None
    text = Text(no_wrap=True)
    for y in range(0, picture.height, 2):
        for x in range(picture.width):
            rows = [pixels[x, row] for row in (y, y + 1) if row < picture.height]
            colours = [Color.from_rgb(*rgb) for rgb in rows if isinstance(rgb, tuple)]
            text.append(_HALF_BLOCK, Style(color=colours[0], bgcolor=(*colours, None)[1]))
        text.append("\n")
    return text


def _console() -> Console:
    """Of standard output.

    Raises:
        CodecError: it is no terminal.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        raise CodecError("is no terminal; leave --terminal out").in_file("standard output")
    return console
