"""`vqcodec gallery`: a page of pictures beside what .vqz files restore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqcodec.ambient import ordinary_state
from vqcodec.cli.console import (
    examples,
    extra_for,
    print_json,
    print_values,
    progress,
    rate_text,
    size_text,
)
from vqcodec.cli.options import (
    device_option,
    effort_option,
    force_option,
    json_option,
    max_pixels_option,
    model_option,
    verbosity_options,
)
from vqcodec.files import check_writable, is_standard_stream, write_atomically

if TYPE_CHECKING:
    from vqcodec.bench.gallery import Picture, Version

_SYNTHESES: dict[str | None, tuple[str, ...]] = {
    None: (),
    "faithful": ("faithful",),
    "natural": ("natural",),
    "both": ("faithful", "natural"),
}


@click.command(
    epilog=examples(
        "gallery photo.jpg --out page.html",
        "gallery photos/ --out page.html --quality 10 --quality 40 --synthesis both",
        "gallery *.vqz --out page.html --synthesis both",
    )
)
@click.argument(
    "files", metavar="FILES...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--out", "target", metavar="PAGE", required=True, type=click.Path(), help="The page to write."
)
@click.option(
    "--quality",
    "qualities",
    type=click.IntRange(1, 255),
    multiple=True,
    metavar="N",
    help="Compress pictures at this one of the model's qualities; repeatable. Three if not given.",
)
@click.option(
    "--synthesis",
    type=click.Choice([name for name in _SYNTHESES if name]),
    help="What restores: nearest to the original, most like a photograph, or both side by side. "
    "What a .vqz file was made for, or faithful, if not given.",
)
@effort_option
@click.option(
    "--max-side",
    type=click.IntRange(min=1),
    default=1600,
    show_default=True,
    metavar="N",
    help="Show nothing larger: pictures are made smaller before they are compressed, what .vqz "
    "files restore after it.",
)
@model_option
@device_option
@force_option
@json_option
@max_pixels_option
@verbosity_options
@ordinary_state()
def command(
    files: tuple[Path, ...],
    target: str,
    qualities: tuple[int, ...],
    synthesis: str | None,
    effort: int,
    max_side: int,
    model: str | None,
    device: str,
    force: bool,
    as_json: bool,
) -> None:
    """Write a page that shows pictures beside what is restored of them.

    FILES are pictures, which are compressed for it, .vqz files, which are restored, and folders of
    both. The page needs nothing beside it, has all numbers, and a divider to compare by.
    """
    check_writable(target, force=force)
    with extra_for("gallery"):
        from vqcodec.bench import gallery

    settings = gallery.Settings(
        files=files,
        qualities=qualities,
        syntheses=_SYNTHESES[synthesis],
        effort=effort,
        model=model,
        device=device,
        max_side=max_side,
    )
    with progress("gallery") as advance:
        pictures = gallery.pictures(settings, advance)
    encoded = gallery.page(pictures, settings).encode()
    write_atomically(target, encoded, force=force)
    err = is_standard_stream(target)
    if as_json:
        found = {"page": target, "bytes": len(encoded), "pictures": [*map(_described, pictures)]}
        print_json(found, err=err)
        return
    values: dict[str, object] = {
        f"{picture.name}, {version.label}": _readable(version)
        for picture in pictures
        for version in picture.versions
        if version.bytes is not None
    }
    print_values({**values, "page": f"{target}, {size_text(len(encoded))}"}, err=err)


def _described(picture: Picture) -> dict[str, Any]:
    versions = [
        {"label": each.label, "bytes": each.bytes, "bpp": each.bpp, "psnr": each.psnr}
        for each in picture.versions
    ]
    return {
        "name": picture.name,
        "width": picture.width,
        "height": picture.height,
        "versions": versions,
    }


def _readable(version: Version) -> str:
    assert version.bytes is not None
    assert version.bpp is not None
    rate = rate_text(version.bytes, version.bpp)
    return rate if version.psnr is None else f"{rate}, {version.psnr:.2f} dB"
