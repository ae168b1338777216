"""`vqcodec info`: what a .vqz file says about itself; loads neither torch nor numpy."""

from __future__ import annotations

from typing import Any

import click

from vqcodec.cli.console import (
    examples,
    naming,
    print_error,
    print_json,
    print_values,
    rate_text,
)
from vqcodec.cli.options import json_option
from vqcodec.container import (
    DEFLATED,
    EXTRA_ALPHA,
    EXTRA_EXIF,
    EXTRA_ICC,
    EXTRA_IPTC,
    EXTRA_SYNTHESIS,
    EXTRA_TEXTS,
    EXTRA_XMP,
    Header,
    unpack,
)
from vqcodec.errors import CodecError
from vqcodec.files import read_bytes

_EXTRA_NAMES = {
    EXTRA_ALPHA: "alpha",
    EXTRA_ICC: "icc",
    EXTRA_EXIF: "exif",
    EXTRA_SYNTHESIS: "synthesis",
    EXTRA_XMP: "xmp",
    EXTRA_IPTC: "iptc",
    EXTRA_TEXTS: "texts",
}


@click.command(
    epilog=examples(
        "info photo.vqz",
        "info --json *.vqz",
    )
)
@click.argument("sources", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@json_option
@click.pass_context
def command(ctx: click.Context, sources: tuple[str, ...], as_json: bool) -> None:
    """Show what .vqz files hold.

    Size, model, quality, bytes of every level; also of files cut short.
    """
    descriptions = []
    for source in sources:
        try:
            descriptions.append(_describe(source))
        except CodecError as error:
            print_error(error)
    if as_json:
        print_json(descriptions)
    else:
        for index, description in enumerate(descriptions):
            if index:
                click.echo()
            print_values(_readable(description))
    if len(descriptions) < len(sources):
        ctx.exit(1)


def _describe(source: str) -> dict[str, Any]:
    data = read_bytes(source)
    with naming(source):
        container = unpack(data, partial=True)
    header = container.header
    return {
        "file": click.format_filename(source),
        "bytes": len(data),
        "bpp": 8 * len(data) / header.pixels,
        "width": header.width,
        "height": header.height,
        "grey": header.grey,
        "lossless": header.lossless,
        **_coding(header),
        "levels": header.levels,
        "level_bytes": [sum(map(len, payloads)) for payloads in container.sections],
        "extras": {
            _EXTRA_NAMES.get(kind & ~DEFLATED, f"kind {kind}"): len(content)
            for kind, content in container.extras.items()
        },
        "complete": container.complete,
    }


def _coding(header: Header) -> dict[str, Any]:
    """How indices are coded; a lossless file has none."""
    values = {
        "model": header.model_id,
        "weights_hash": header.weights_hash.hex(),
        "quality": header.quality,
        "tile": header.tile,
        "tiles": header.tiles,
    }
    return dict.fromkeys(values) if header.lossless else values


def _readable(description: dict[str, Any]) -> dict[str, object]:
    """The description as texts, in the order a reader looks for them."""
    colour = "grey" if description["grey"] else "RGB"
    level_bytes = description["level_bytes"]
    extras = (f"{name} {length} bytes" for name, length in description["extras"].items())
    coding = {
        "model": description["model"],
        "weights hash": description["weights_hash"],
        "quality": description["quality"],
        "tiles": f"{description['tiles']} of {description['tile']} pixels a side",
        "levels": description["levels"],
    }
    return {
        "file": description["file"],
        "size": f"{description['width']}x{description['height']} {colour}",
        "file size": rate_text(description["bytes"], description["bpp"]),
        "bytes": description["bytes"],
        "bpp": f"{description['bpp']:.4f}",
        **({"quality": "lossless"} if description["lossless"] else coding),
        "level bytes": " ".join(map(str, level_bytes)),
        "extras": ", ".join(extras) or "none",
        "complete": "yes"
        if description["complete"]
        else f"no, cut short after {len(level_bytes)} of {description['levels']} levels",
    }
