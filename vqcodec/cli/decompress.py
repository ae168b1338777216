"""`vqcodec decompress`: a .vqz file to an image file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from vqcodec import container, folders
from vqcodec.cli import many
from vqcodec.cli.console import examples, is_quiet, naming, progress
from vqcodec.cli.options import (
    check_exclusive,
    device_option,
    force_option,
    json_option,
    many_options,
    max_pixels_option,
    model_option,
    piece_options,
    verbosity_options,
)
from vqcodec.container import ENDING
from vqcodec.errors import OutputError
from vqcodec.files import is_standard_stream, read_bytes, write_atomically
from vqcodec.folders import Task

if TYPE_CHECKING:
    from vqcodec.piece import Region


@click.command(
    epilog=examples(
        "decompress photo.vqz photo.png",
        "decompress photo.vqz photo.png --synthesis natural   # with textures",
        "decompress small --out photos --recursive --jobs 2 --format webp",
        "decompress photo.vqz small.png --max-side 256",
        "decompress photo.vqz piece.png --region 800,600,512,512",
        "decompress cut.vqz rescued.png --partial             # what is whole of it",
    )
)
@click.argument("names", metavar="IN... [OUT]", nargs=-1, required=True, type=click.Path())
@many_options
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
    help="Image format, such as PNG or BMP; by OUT's ending if not given, PNG without OUT or on "
    "standard output.",
)
@click.option(
    "--background",
    metavar="COLOUR",
    help="Put a transparent image on a colour, such as white or #ff8000; needed for JPEG.",
)
@json_option
@max_pixels_option
@verbosity_options
def command(
    names: tuple[str, ...],
    out: str | None,
    recursive: bool,
    jobs: int,
    skip_existing: bool,
    dry_run: bool,
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
    """Restore images from .vqz files.

    One file IN to OUT, or beside itself; with --out as many as there are.
    """
    check_exclusive(force=force, skip_existing=skip_existing)
    if image_format is None:
        ending = ".png"
    else:
        from vqcodec.image import check_format, ending_of

        ending = ending_of(image_format)
        image_format = check_format(image_format)
    tasks = many.wanted(names, out, ending, {ENDING}, recursive=recursive)
    if out is None and tasks[0].target.lower().endswith(ENDING):
        reason = "has the ending of a .vqz file, which an image is not"
        raise OutputError(f"{reason}; --out DIR takes several files").in_file(tasks[0].target)
    plan = folders.check(
        tasks, force=force, skip_existing=skip_existing, make_folders=out is not None
    )
    if not many.check(plan, dry_run=dry_run):
        return
    work = Restoration(
        decoding={
            "model": model,
            "synthesis": synthesis,
            "device": device,
            "levels": levels,
            "partial": partial,
            "region": region,
            "max_side": max_side,
        },
        image_format=image_format,
        background=background,
        force=force,
        quiet=is_quiet() and not as_json,
        alone=out is None,
    )
    if out is not None:
        many.do_all(work, plan, jobs=jobs, as_json=as_json)
    elif plan.tasks:
        many.do_one(work, plan.tasks[0], as_json=as_json)


@dataclass(frozen=True)
class Restoration:
    """What is done with a .vqz file.

    Attributes:
        decoding: Arguments of `codec.decompress`.
        image_format: Of the target; None for the one of its ending.
        background: A colour to put the image on, if any.
        force: Whether to replace an existing target.
        quiet: Whether nobody wants to know what is left out.
        alone: Whether to show its progress.
    """

    decoding: dict[str, Any]
    image_format: str | None
    background: str | None
    force: bool
    quiet: bool
    alone: bool

    def __call__(self, task: Task) -> many.Outcome:
        """Decompress the source, and write the target.

        Raises:
            CodecError: One of them cannot be read or written, or the options do not fit.
        """
        content = read_bytes(task.source)

        from vqcodec.image import dump, flattened, format_for, losses

        name = self.image_format or format_for(task.target)

        from vqcodec.codec import decompress

        start = time.perf_counter()
        with naming(task.source), progress("decompress", shown=self.alone) as advance:
            image = decompress(content, **self.decoding, progress=advance)
        seconds = time.perf_counter() - start
        if self.background is not None:
            image = flattened(image, self.background)
        written = "standard output" if is_standard_stream(task.target) else task.target
        with naming(written):
            encoded = dump(image, name)
        write_atomically(task.target, encoded, force=self.force)
        height, width = image.pixels.shape[:2]
        header = container.peek(content)
        return many.Outcome(
            bytes_in=len(content),
            bytes_out=len(encoded),
            bytes_coded=len(content),
            pixels=header.pixels,
            about=written,
            # To know it costs another decoding.
            left_out=() if self.quiet else losses(image, encoded),
            values={
                "file": task.target,
                "format": name,
                "bytes": len(encoded),
                "width": width,
                "height": height,
                "decompress_seconds": seconds,
            },
        )
