"""How the library tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
