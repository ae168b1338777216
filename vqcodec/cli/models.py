"""`vqcodec models`: the registered models."""

from __future__ import annotations

import click

from vqcodec.cli.console import examples, print_json, size_text
from vqcodec.cli.options import json_option, model_option
from vqcodec.registry import (
    DEFAULT_MODEL,
    MODELS,
    Entry,
    default_generator,
    locate,
    no_classes,
    read_classes,
    weights_directory,
)


@click.command(
    epilog=examples(
        "models",
        "models --classes                 # what sample --class takes",
        "models --json",
    )
)
@json_option
@click.option(
    "--classes", is_flag=True, help="List the classes whose images a model draws, instead."
)
@model_option
def command(as_json: bool, classes: bool, model: str | None) -> None:
    """List the registered models.

    With --classes, list the classes of a model: index, key, training images, name.
    """
    if model is not None and not classes:
        raise click.UsageError("--model is for --classes.")
    rows = _classes(model) if classes else [_describe(each) for each in MODELS.values()]
    if as_json:
        print_json(rows)
    elif classes:
        _print_table(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows])
    else:
        _print_models(rows)


def _print_models(models: list[dict[str, object]]) -> None:
    rows = [
        [
            f"{model['model_id']}{' (default)' if model['default'] else ''}",
            "-" if model["bytes"] is None else size_text(int(str(model["bytes"]))),
            str(model["sha256"])[:16],
            "present" if model["present"] else "missing",
            str(model["summary"]),
        ]
        for model in models
    ]
    _print_table(["model", "size", "sha-256", "weights", "summary"], rows)


def _print_table(titles: list[str], rows: list[list[str]]) -> None:
    table = [[title.upper() for title in titles], *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _classes(model: str | None) -> list[dict[str, object]]:
    weights = locate(model or default_generator())
    found = read_classes(weights.path)
    if not found:
        raise no_classes(weights.model_id)
    return [
        {"index": n, "key": each.key, "images": each.images, "name": each.name}
        for n, each in enumerate(found)
    ]


def _describe(model: Entry) -> dict[str, object]:
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
