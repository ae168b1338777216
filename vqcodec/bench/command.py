"""What commands that measure print: tables on standard output, progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from vqcodec.bench.machine import made, sentence
from vqcodec.errors import CodecError

_Item = TypeVar("_Item")

WIDTH_OF_NO_TERMINAL = 160


class Command(click.Command):
    """A command that reports a CodecError as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except CodecError as error:
            raise click.ClickException(str(error)) from error


def tracked(items: Iterable[_Item], what: str, total: int | None = None) -> Iterable[_Item]:
    """The items, with a bar that shows how many of them are done."""
    return track(items, what, total, console=Console(stderr=True))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; nothing for None, floats as they were formatted by the caller."""
    table = Table(title=title, title_justify="left")
    for n, column in enumerate(columns):
        table.add_column(column, justify="left" if n == 0 else "right")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    _output().print(table)


def print_made(model: str | None) -> None:
    """Prints what all that was measured depends on.

    Args:
        model: A model id, or the path of a weights file; None if there is none.

    Raises:
        ModelError: there is no such model.
    """
    _output().print(sentence(made(model)))


def _output() -> Console:
    width = None if sys.stdout.isatty() else WIDTH_OF_NO_TERMINAL
    return Console(width=width, markup=False, highlight=False)
