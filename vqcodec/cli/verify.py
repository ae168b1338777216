"""`vqcodec verify`: whether .vqz files are whole and undamaged."""

from __future__ import annotations

import click

from vqcodec.cli.console import examples, print_json, progress
from vqcodec.cli.options import (
    device_option,
    json_option,
    max_pixels_option,
    model_option,
    verbosity_options,
)
from vqcodec.container import unpack
from vqcodec.errors import CodecError, ModelError
from vqcodec.files import read_bytes
from vqcodec.registry import locate


@click.command(
    epilog=examples(
        "verify photo.vqz",
        "verify --quick *.vqz             # checksums alone, in a moment",
        "verify --json *.vqz",
    )
)
@click.argument("sources", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option("--quick", is_flag=True, help="Compare checksums only; decode nothing.")
@model_option
@device_option
@json_option
@max_pixels_option
@verbosity_options
@click.pass_context
def command(
    ctx: click.Context,
    sources: tuple[str, ...],
    quick: bool,
    model: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Check .vqz files for damage.

    Compares every checksum and, where the weights are present, decodes every index, or the pixels
    of lossless files.
    """
    found = []
    for source in sources:
        name = click.format_filename(source)
        try:
            found.append(
                {"file": name, "ok": True, "checked": _verify(source, quick, model, device)}
            )
        except CodecError as error:
            reason = str(error).removeprefix(f"{name}: ")
            found.append({"file": name, "ok": False, "error": reason})
        if not as_json:
            last = found[-1]
            words = f"ok, {last['checked']}" if last["ok"] else f"BAD, {last['error']}"
            click.echo(f"{name}: {words}")
    if as_json:
        print_json(found)
    if not all(each["ok"] for each in found):
        ctx.exit(1)


def _verify(source: str, quick: bool, model: str | None, device: str) -> str:
    """Check one file and return what was checked."""
    data = read_bytes(source)
    header = unpack(data).header
    if quick:
        return "checksums"
    try:
        if not header.lossless:
            locate(model or header.model_id)
    except ModelError as error:
        if model is not None:
            raise
        return f"checksums; indices not decoded: {error}"

    from vqcodec.codec import verify

    with progress("verify") as advance:
        verify(data, model=model, device=device, progress=advance)
    return f"checksums and {'pixels' if header.lossless else 'indices'}"
