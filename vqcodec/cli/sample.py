"""`vqcodec sample`, also `generate`: new images from the priors."""

from __future__ import annotations

import re
from pathlib import Path

import click

from vqcodec.cli.console import progress
from vqcodec.cli.options import device_option, force_option, model_option, quality_option
from vqcodec.files import STANDARD_STREAM, check_writable, write_atomically


def _parse_size(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """`WIDTHxHEIGHT` as (width, height)."""
    match = re.fullmatch(r"([1-9][0-9]*)[xX]([1-9][0-9]*)", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT in pixels, such as 640x480.")
    return int(match[1]), int(match[2])


@click.command()
@click.argument("target", metavar="OUT")
@click.option(
    "--size",
    callback=_parse_size,
    default="256x256",
    show_default=True,
    metavar="WxH",
    help="Width and height in pixels.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many images; more than one are written to OUT-0.png, OUT-1.png, ...",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the random numbers.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0.0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="T",
    help="Below 1 nearer to the likeliest indices, above 1 more varied.",
)
@quality_option
@model_option
@device_option
@force_option
def command(
    target: str,
    size: tuple[int, int],
    count: int,
    seed: int,
    temperature: float,
    quality: int | None,
    model: str | None,
    device: str,
    force: bool,
) -> None:
    """Draw new images from the priors."""
    if target == STANDARD_STREAM and count > 1:
        raise click.UsageError("Standard output takes one image: use --count 1 or a file name.")
    targets = [target] if count == 1 else _numbered(target, count)
    for path in targets:
        check_writable(path, force=force)

    from vqcodec.image import dump, format_for

    image_format = "PNG" if target == STANDARD_STREAM else format_for(target)

    from vqcodec.sampling import sample

    width, height = size
    with progress("sample") as advance:
        images = sample(
            height,
            width,
            model=model,
            quality=quality,
            seed=seed,
            temperature=temperature,
            count=count,
            device=device,
            progress=advance,
        )
    for path, image in zip(targets, images, strict=True):
        write_atomically(path, dump(image, image_format), force=force)


def _numbered(target: str, count: int) -> list[str]:
    path = Path(target)
    return [str(path.with_name(f"{path.stem}-{i}{path.suffix}")) for i in range(count)]
