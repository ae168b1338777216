"""`vqcodec export`: training checkpoints to one weights file."""

from __future__ import annotations

from pathlib import Path

import click

from vqcodec.cli.console import examples
from vqcodec.cli.options import force_option
from vqcodec.files import STANDARD_STREAM, check_writable

_CHECKPOINT = click.Path(path_type=Path)


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> list[float] | None:
    """Numbers with commas between them."""
    if value is None:
        return None
    try:
        return [float(part) for part in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no list of numbers such as 0.9,1,1.") from error


@click.command(
    epilog=examples(
        "export mine.safetensors --model-id mine-1 --autoencoder runs/ae/checkpoint.safetensors \\",
        " --prior runs/prior-0/checkpoint.safetensors",
        "export natural.safetensors --model hvq-photo-2 \\",
        " --synthesis runs/natural/checkpoint.safetensors",
    )
)
@click.argument("target", metavar="OUT")
@click.option(
    "--autoencoder",
    type=_CHECKPOINT,
    metavar="FILE",
    help="Checkpoint of `train autoencoder`, or a weights file.",
)
@click.option(
    "--prior",
    "priors",
    type=_CHECKPOINT,
    metavar="FILE",
    multiple=True,
    help="Checkpoint of `train prior`; one per level, coarse to fine.",
)
@click.option(
    "--model-id",
    metavar="ID",
    help="What files coded with these weights will name: 1 to 32 of a-z, 0-9, '.' and '-'.",
)
@click.option(
    "--temperature",
    callback=_numbers,
    metavar="T,...",
    help="Of the model's samples where nothing else is asked for: a number for each level, coarse "
    "to fine, as are the next two.",
)
@click.option("--top-p", callback=_numbers, metavar="P,...", help="See `vqcodec sample`.")
@click.option("--guidance", callback=_numbers, metavar="W,...", help="See `vqcodec sample`.")
@click.option(
    "--synthesis",
    type=_CHECKPOINT,
    metavar="FILE",
    help="Checkpoint of `train synthesis`, instead of all these.",
)
@click.option("--model", metavar="ID|FILE", help="Whose synthesis that is.")
@force_option
def command(
    target: str,
    autoencoder: Path | None,
    priors: tuple[Path, ...],
    model_id: str | None,
    temperature: list[float] | None,
    top_p: list[float] | None,
    guidance: list[float] | None,
    synthesis: Path | None,
    model: str | None,
    force: bool,
) -> None:
    """Pack checkpoints into a weights file, of a model or of a natural synthesis.

    Prints the SHA-256 of OUT.
    """
    if target == STANDARD_STREAM:
        raise click.UsageError("Weights are written to a file: name one.")
    if synthesis is not None:
        if model is None or autoencoder is not None or priors or model_id is not None:
            raise click.UsageError("--synthesis needs --model, and goes with nothing else.")
        check_writable(target, force=force)

        from vqcodec.training.synthesis import export as export_synthesis

        click.echo(export_synthesis(synthesis, model, Path(target)))
        return
    if autoencoder is None or not priors or model_id is None or model is not None:
        raise click.UsageError("A model needs --autoencoder, --prior and --model-id.")
    check_writable(target, force=force)

    from vqcodec.training.export import export

    given = {"temperature": temperature, "top_p": top_p, "guidance": guidance}
    shapings = {name: values for name, values in given.items() if values is not None}
    click.echo(export(autoencoder, priors, Path(target), model_id, shapings))
