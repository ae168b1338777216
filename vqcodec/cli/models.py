"""`vqcodec models`: the registered models."""

from __future__ import annotations

import json

import click

from vqcodec.registry import DEFAULT_MODEL, MODELS, Model, weights_directory


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def command(as_json: bool) -> None:
    """List the registered models."""
    models = [_describe(model) for model in MODELS.values()]
    if as_json:
        click.echo(json.dumps(models, indent=2))
        return
    rows = [("MODEL", "BYTES", "SHA-256", "WEIGHTS", "SUMMARY")]
    rows += [
        (
            f"{model['model_id']}{' (default)' if model['default'] else ''}",
            "-" if model["bytes"] is None else str(model["bytes"]),
            str(model["sha256"])[:16],
            "present" if model["present"] else "missing",
            str(model["summary"]),
        )
        for model in models
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _describe(model: Model) -> dict[str, object]:
    path = weights_directory() / model.filename
    present = path.is_file()
    return {
        "model_id": model.model_id,
        "default": model.model_id == DEFAULT_MODEL,
        "filename": model.filename,
        "bytes": path.stat().st_size if present else None,
        "sha256": model.sha256,
        "present": present,
        "summary": model.summary,
    }
