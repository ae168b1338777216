"""What the commands print: results on standard output, errors and progress on standard error."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import click

from vqcodec.errors import CodecError, one_line
from vqcodec.files import STANDARD_STREAM
from vqcodec.progress import Progress, bar
from vqcodec.watch import ALL, REST, Clock, watching

QUIET, VERBOSE = "vqcodec.quiet", "vqcodec.verbose"  # in a click context's `meta`


def is_quiet() -> bool:
    """Whether `--quiet` was given: nothing but results and errors is to be printed."""
    return _given(QUIET)


def _given(name: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(name))


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


@contextmanager
def progress(description: str, *, shown: bool = True) -> Iterator[Progress]:
    """Show a bar while the block runs, unless `--quiet`; then, if `--verbose`, stages and seconds.

    Args:
        description: What is going on.
        shown: False to show nothing.

    Yields:
        As `vqcodec.progress.bar`.
    """
    with bar(description, shown=shown and not is_quiet()) as advance:
        if not (shown and _given(VERBOSE)):
            yield advance
            return
        clock = Clock()
        with watching(clock.stage):
            yield advance
    seconds = {name: taken / 1000 for name, taken in clock.milliseconds().items()}
    click.echo(f"vqcodec: {description}: {seconds_text(seconds.pop(ALL))}", err=True)
    rest = seconds.pop(REST)
    stages = {**seconds, "other": rest} if seconds else {}
    width = max(map(len, stages), default=0)
    for name, taken in stages.items():
        click.echo(f"  {name:<{width}}  {seconds_text(taken)}", err=True)


@contextmanager
def extra_for(command: str) -> Iterator[None]:
    """Name what is not installed of the extra `bench`, which a command needs, where it is imported.

    Raises:
        CodecError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("vqcodec"):
            raise
        remedy = "pip install 'vqcodec[bench]'"
        raise CodecError(
            f"{command} needs {error.name}, which is not installed; {remedy}"
        ) from error


def note_line(message: object) -> str:
    """The line of a note."""
    return f"vqcodec: {message}"


def print_note(message: object) -> None:
    """Print one line on standard error, unless `--quiet`."""
    if not is_quiet():
        click.echo(note_line(message), err=True)


def left_out_line(name: str, left_out: Iterable[str]) -> str | None:
    """The line of what an output has not of its input; None if it has everything."""
    words = ", ".join(left_out)
    return note_line(f"{one_line(name)}: left out: {one_line(words)}") if words else None


def print_values(values: Mapping[str, object], *, err: bool = False) -> None:
    """Print names and values, one pair a line, in two columns."""
    width = max(map(len, values))
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {value}", err=err)


def print_json(found: object, *, err: bool = False) -> None:
    """Print one JSON value; infinite numbers, which JSON has not, are null."""
    click.echo(json.dumps(_finite(found), indent=2), err=err)


def _finite(found: object) -> object:
    if isinstance(found, dict):
        return {name: _finite(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_finite(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found


def size_text(size: int) -> str:
    """A number of bytes as people write it: 812 B, 38.4 kB, 1.25 MB."""
    for unit, factor in (("MB", 10**6), ("kB", 10**3)):
        if size >= 0.9995 * factor:
            return f"{_figures(size / factor)} {unit}"
    return f"{size} B"


def rate_text(size: int, bpp: float) -> str:
    """Bytes and bits per pixel as people write them: 38.4 kB (0.125 bpp)."""
    rate = f"{bpp:.0f}" if bpp >= 100 else f"{bpp:.3g}"
    return f"{size_text(size)} ({rate} bpp)"


def seconds_text(seconds: float) -> str:
    """Seconds as people write them: 0.004 s, 0.35 s, 1.2 s, 74 s, 2 min 5 s."""
    if seconds < 99.5:
        decimals = 3 if seconds < 0.0995 else 2 if seconds < 0.995 else 1 if seconds < 9.95 else 0
        return f"{seconds:.{decimals}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _figures(value: float) -> str:
    """Three figures, and all of those before the point."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def examples(*lines: str) -> str:
    """The end of a help page: command lines, each without its `vqcodec`.

    A line that begins with a space goes on with the one before.
    """
    shown = [f"    {line}" if line.startswith(" ") else f"  vqcodec {line}" for line in lines]
    return "\n".join(["\b", "Examples:", *shown])
