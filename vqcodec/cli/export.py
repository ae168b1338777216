"""`vqcodec export`: training checkpoints to one weights file."""

from __future__ import annotations

from pathlib import Path

import click

from vqcodec.cli.options import force_option
from vqcodec.files import STANDARD_STREAM, check_writable

_CHECKPOINT = click.Path(path_type=Path)


@click.command()
@click.argument("target", metavar="OUT")
@click.option(
    "--autoencoder",
    type=_CHECKPOINT,
    metavar="FILE",
    required=True,
    help="Checkpoint of `train autoencoder`.",
)
@click.option(
    "--prior",
    "priors",
    type=_CHECKPOINT,
    metavar="FILE",
    multiple=True,
    required=True,
    help="Checkpoint of `train prior`; one per level, coarse to fine.",
)
@click.option(
    "--model-id",
    metavar="ID",
    required=True,
    help="What files coded with these weights will name: 1 to 32 of a-z, 0-9, '.' and '-'.",
)
@force_option
def command(
    target: str, autoencoder: Path, priors: tuple[Path, ...], model_id: str, force: bool
) -> None:
    """Pack checkpoints into a weights file.

    Prints the SHA-256 of OUT.
    """
    if target == STANDARD_STREAM:
        raise click.UsageError("Weights are written to a file: name one.")
    check_writable(target, force=force)

    from vqcodec.training.export import export

    click.echo(export(autoencoder, priors, Path(target), model_id))
