"""`vqcodec verify`: whether .vqz files are whole and undamaged."""

from __future__ import annotations

import click

from vqcodec.cli.console import progress
from vqcodec.cli.options import device_option, model_option
from vqcodec.container import unpack
from vqcodec.errors import CodecError, ModelError
from vqcodec.files import read_bytes
from vqcodec.registry import locate


@click.command()
@click.argument("sources", metavar="FILE...", nargs=-1, required=True)
@click.option("--quick", is_flag=True, help="Compare checksums only; decode nothing.")
@model_option
@device_option
@click.pass_context
def command(
    ctx: click.Context, sources: tuple[str, ...], quick: bool, model: str | None, device: str
) -> None:
    """Check .vqz files for damage.

    Compares every checksum and, where the weights are present, decodes every index.
    """
    bad = 0
    for source in sources:
        name = click.format_filename(source)
        try:
            click.echo(f"{name}: ok, {_verify(source, quick, model, device)}")
        except CodecError as error:
            bad += 1
            click.echo(f"{name}: BAD, {str(error).removeprefix(f'{name}: ')}")
    if bad:
        ctx.exit(1)


def _verify(source: str, quick: bool, model: str | None, device: str) -> str:
    """Check one file and return what was checked."""
    data = read_bytes(source)
    header = unpack(data).header
    if quick:
        return "checksums"
    try:
        locate(model or header.model_id)
    except ModelError as error:
        if model is not None:
            raise
        return f"checksums; indices not decoded: {error}"

    from vqcodec.codec import verify

    with progress("verify") as advance:
        verify(data, model=model, device=device, progress=advance)
    return "checksums and indices"
