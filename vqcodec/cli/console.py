"""What the commands print: values on standard output, errors and progress on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from vqcodec.errors import CodecError
from vqcodec.files import STANDARD_STREAM


def print_error(message: object) -> None:
    """Print one line on standard error."""
    click.echo(f"vqcodec: error: {message}", err=True)


def fail(message: object, code: int = 1) -> NoReturn:
    """Print one line on standard error and leave with `code`.

    Raises:
        click.exceptions.Exit: always.
    """
    print_error(message)
    raise click.exceptions.Exit(code)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Add the name of the file that was read to errors of code that saw its bytes only."""
    try:
        yield
    except CodecError as error:
        error.in_file("standard input" if source == STANDARD_STREAM else source)
        raise


def print_values(values: dict[str, object], *, err: bool = False) -> None:
    """Print names and values, one pair a line, in two columns."""
    width = max(map(len, values))
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {value}", err=err)


@contextmanager
def progress(description: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on standard error while the block runs, if that is a terminal.

    Args:
        description: What is going on, before the first stage names itself.

    Yields:
        A callable `(stage, done, total)`: what is being done and how many steps of how many.
    """
    # rich takes a noticeable part of `info`'s time, and only long commands draw a bar.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(description, total=None)

        def advance(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total)

        yield advance
