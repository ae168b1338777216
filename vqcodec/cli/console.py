"""What the commands print: values on standard output, errors and progress on standard error."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from vqcodec.errors import CodecError, one_line
from vqcodec.files import STANDARD_STREAM
from vqcodec.progress import bar as progress

__all__ = [
    "described",
    "error_line",
    "fail",
    "left_out_line",
    "naming",
    "print_error",
    "print_left_out",
    "print_values",
    "progress",
]


def error_line(message: object) -> str:
    """The line of an error."""
    return f"vqcodec: error: {message}"


def print_error(message: object) -> None:
    """Print one line on standard error."""
    click.echo(error_line(message), err=True)


def described(error: Exception) -> CodecError | None:
    """What input or the machine can cause, in words; None for a fault of our own."""
    if isinstance(error, CodecError):
        return error
    if isinstance(error, OSError):
        reason = CodecError(os.strerror(error.errno) if error.errno else str(error))
        return reason.in_file(error.filename) if error.filename else reason
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        advice = "free some, or use a smaller image or --tile, or --effort 1"
        return CodecError(f"not enough memory; {advice}")
    return None


def _is_torch_out_of_memory(error: Exception) -> bool:
    # torch's CPU allocator has no exception of its own: it raises a RuntimeError.
    text = str(error)
    known = "can't allocate memory" in text or "out of memory" in text
    return known and isinstance(error, RuntimeError)


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


def left_out_line(name: str, left_out: Iterable[str]) -> str | None:
    """The line of what an output has not of its input; None if it has everything."""
    words = ", ".join(left_out)
    return f"vqcodec: {one_line(name)}: left out: {one_line(words)}" if words else None


def print_left_out(name: str, left_out: Iterable[str], *, quiet: bool) -> None:
    """Print one line on standard error of what an output has not of its input, if anything.

    Args:
        name: Of the file it is about.
        left_out: What it is, in a few words each.
        quiet: Whether to print nothing.
    """
    line = left_out_line(name, left_out)
    if line and not quiet:
        click.echo(line, err=True)


def print_values(values: dict[str, object], *, err: bool = False) -> None:
    """Print names and values, one pair a line, in two columns."""
    width = max(map(len, values))
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {value}", err=err)
