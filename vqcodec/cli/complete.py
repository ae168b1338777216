"""`vqcodec complete`: a .vqz file, and what it lacks from the priors, to an image file."""

from __future__ import annotations

import click

from vqcodec.cli.console import examples, naming, print_json, progress
from vqcodec.cli.options import (
    device_option,
    drawing_options,
    force_option,
    json_option,
    max_pixels_option,
    model_option,
    verbosity_options,
)
from vqcodec.files import (
    STANDARD_STREAM,
    check_different,
    check_writable,
    read_bytes,
    write_atomically,
)


@click.command(
    epilog=examples(
        "complete cut.vqz whole.png --mask invented.png",
        "complete photo.vqz varied.png --levels 2 --seed 7    # the finest level drawn anew",
    )
)
@click.argument("source", metavar="IN", type=click.Path())
@click.argument("target", metavar="OUT", type=click.Path())
@click.option(
    "--levels",
    type=click.IntRange(min=0),
    metavar="N",
    help="Use only the N coarsest levels of IN, and draw the others though they are there.",
)
@click.option(
    "--mask",
    metavar="FILE",
    help="Also write a grey image, white where indices of any level are invented.",
)
@drawing_options
@model_option
@device_option
@force_option
@json_option
@max_pixels_option
@verbosity_options
def command(
    source: str,
    target: str,
    levels: int | None,
    mask: str | None,
    seed: int,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    model: str | None,
    device: str,
    force: bool,
    as_json: bool,
) -> None:
    """Restore an image from a .vqz file, also a cut one, and invent what is missing.

    Whole tiles of IN are used; what else is missing of a level is drawn from the priors. What was
    invented is told on standard error and, in PNG files, in the text chunk vqcodec:invented; files
    of other formats are not marked.
    """
    if target == mask == STANDARD_STREAM:
        raise click.UsageError("Standard output takes one image: give --mask a file name.")
    check_different(source, target)
    check_writable(target, force=force)
    if mask is not None:
        check_writable(mask, force=force)
    content = read_bytes(source)

    from vqcodec.image import dump, format_for

    image_format = format_for(target)
    mask_format = None if mask is None else format_for(mask)

    from vqcodec.drawing.completion import complete, marked
    from vqcodec.drawing.sampling import Place
    from vqcodec.drawing.shaping import Shaping

    with naming(source), progress("complete") as advance:
        completion = complete(
            content,
            Shaping(1.0 if temperature is None else temperature, top_k, top_p),
            Place(model, device),
            levels=levels,
            seed=seed,
            progress=advance,
        )
    encoded = dump(completion.image, image_format)
    if image_format == "PNG" and completion.invented != "nothing":
        encoded = marked(encoded, completion.invented)
    write_atomically(target, encoded, force=force)
    if mask is not None and mask_format is not None:
        write_atomically(mask, dump(completion.mask, mask_format), force=force)
    if as_json:
        found = {"file": target, "mask": mask, "invented": completion.invented}
        print_json(found, err=STANDARD_STREAM in (target, mask))
    else:
        click.echo(f"invented: {completion.invented}", err=True)
