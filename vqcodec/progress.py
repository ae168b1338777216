"""How the library tells how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@contextmanager
def bar(description: str, *, shown: bool = True) -> Iterator[Progress]:
    """Shows a bar on standard error while the block runs, if that is a terminal.

    Args:
        description: What is going on, before the first stage names itself.
        shown: False for no bar in any case.

    Yields:
        A callable `(stage, done, total)`: what is being done and how many steps of how many.
    """
    # rich takes a noticeable part of `info`'s time, and only long commands draw a bar.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal),
    ) as drawn:
        task = drawn.add_task(description, total=None)

        def advance(stage: str, done: int, total: int) -> None:
            drawn.update(task, description=stage, completed=done, total=total)

        yield advance


class FilesBar(NamedTuple):
    """A bar of many files.

    Attributes:
        advance: Called with the bytes and pixels of a file that is done.
        say: Writes a line to standard error, above the bar if there is one.
    """

    advance: Callable[[int, int], None]
    say: Callable[[str], None]


@contextmanager
def files_bar(files: int, size: int) -> Iterator[FilesBar]:
    """Shows a bar of many files on standard error while the block runs, if that is a terminal.

    Args:
        files: How many there are.
        size: Bytes of all of them, by which the time left is reckoned.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    console = Console(stderr=True)
    with Progress(
        BarColumn(),
        TextColumn("{task.fields[files]}/" + str(files) + " files"),
        TextColumn("{task.fields[megapixels]:.1f} megapixels"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not console.is_terminal,
    ) as drawn:
        task = drawn.add_task("", total=max(size, 1), files=0, megapixels=0.0)

        def advance(size: int, pixels: int) -> None:
            fields = drawn.tasks[task].fields
            drawn.update(
                task,
                advance=size,
                files=fields["files"] + 1,
                megapixels=fields["megapixels"] + pixels / 1e6,
            )

        def say(line: str) -> None:
            console.print(Text(line), soft_wrap=True)

        yield FilesBar(advance, say)


class ImagesBar(NamedTuple):
    """A bar of a great many images.

    Attributes:
        begin: Called with the number of images that were done before.
        advance: Called with images that are done and that are not, their pixels, bytes in and out.
        say: Writes a line to standard error, above the bar if there is one.
    """

    begin: Callable[[int], None]
    advance: Callable[[int, int, int, int, int], None]
    say: Callable[[str], None]


@contextmanager
def images_bar(images: int, *, shown: bool = True) -> Iterator[ImagesBar]:
    """Shows a bar of a great many images while the block runs, if standard error is a terminal.

    Args:
        images: How many there are.
        shown: False for no bar in any case.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    console = Console(stderr=True)
    start = time.monotonic()
    total = dict.fromkeys(("images", "failed", "pixels", "bytes_in", "bytes_out"), 0)
    with Progress(
        BarColumn(),
        TextColumn("{task.completed}/{task.total} images"),
        TextColumn("{task.fields[rates]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("left"),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not (shown and console.is_terminal),
        speed_estimate_period=300,
    ) as drawn:
        task = drawn.add_task("", total=images, rates="")

        def advance(images: int, failed: int, pixels: int, bytes_in: int, bytes_out: int) -> None:
            for name, more in zip(
                total, (images, failed, pixels, bytes_in, bytes_out), strict=True
            ):
                total[name] += more
            seconds = max(time.monotonic() - start, 1e-9)
            rates = (
                f"{(total['images'] + total['failed']) / seconds:.1f}/s, "
                f"{total['pixels'] / 1e6 / seconds:.2f} megapixels/s, "
                f"{total['bytes_in'] / 1e6:.1f} MB in, {total['bytes_out'] / 1e6:.1f} MB out, "
                f"{total['failed']} failed"
            )
            drawn.update(task, advance=images + failed, rates=rates)

        def say(line: str) -> None:
            console.print(Text(line), soft_wrap=True)

        def begin(before: int) -> None:
            drawn.update(task, completed=before)

        yield ImagesBar(begin, advance, say)
