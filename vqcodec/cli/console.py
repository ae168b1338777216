"""What the commands print: values on standard output, errors and progress on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from vqcodec.errors import CodecError, one_line
from vqcodec.files import STANDARD_STREAM
from vqcodec.progress import bar as progress

__all__ = ["fail", "naming", "print_error", "print_left_out", "print_values", "progress"]


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


def print_left_out(name: str, left_out: Iterable[str], *, quiet: bool) -> None:
    """Print one line on standard error of what an output has not of its input, if anything.

    Args:
        name: Of the file it is about.
        left_out: What it is, in a few words each.
        quiet: Whether to print nothing.
    """
    words = ", ".join(left_out)
    if words and not quiet:
        click.echo(f"vqcodec: {one_line(name)}: left out: {one_line(words)}", err=True)


def print_values(values: dict[str, object], *, err: bool = False) -> None:
    """Print names and values, one pair a line, in two columns."""
    width = max(map(len, values))
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {value}", err=err)
