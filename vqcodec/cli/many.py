"""What `compress` and `decompress` share: one file or many."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from vqcodec import batch, folders
from vqcodec.cli.console import (
    described,
    error_line,
    is_quiet,
    left_out_line,
    note_line,
    print_error,
    print_json,
    print_values,
)
from vqcodec.errors import CodecError, one_line
from vqcodec.files import STANDARD_STREAM, is_standard_stream, remove_leftovers
from vqcodec.folders import Plan, Task
from vqcodec.progress import files_bar


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        bytes_in: Of the source.
        bytes_out: Of the target.
        bytes_coded: Of the one of them that is the .vqz file.
        pixels: Of the whole image that the .vqz file holds.
        about: The name of the file that what is left out is said of.
        left_out: What the target has not of the source, in a few words each.
        note: What else there is to say on standard error, if anything.
        values: What else was found, JSON-ready.
        texts: What of it is printed otherwise.
    """

    bytes_in: int
    bytes_out: int
    bytes_coded: int
    pixels: int
    about: str
    left_out: Sequence[str] = ()
    note: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, object] = field(default_factory=dict)


Work = Callable[[Task], Outcome]


def wanted(
    names: Sequence[str],
    out: str | None,
    ending: str,
    endings: Collection[str],
    *,
    recursive: bool,
) -> list[Task]:
    """Find the tasks that `IN... [OUT]` and `--out` ask for.

    Args:
        names: IN, or IN and OUT; all of them IN if there is `out`.
        out: The folder of the outputs.
        ending: Of the names of outputs that have no name yet.
        endings: Those of inputs, for folders.
        recursive: Whether to look into the folders of folders.

    Raises:
        click.UsageError: they cannot be meant.
        CodecError: There are no such inputs.
    """
    if out is not None:
        if is_standard_stream(out):
            raise click.UsageError("--out is a folder; name OUT behind IN for standard output.")
        found = folders.find(names, endings, recursive=recursive)
        return folders.place(found, out, ending, endings)
    if recursive:
        raise click.UsageError("--recursive needs --out DIR.")
    if len(names) > 2:
        raise click.UsageError(f"IN and OUT are two names, not {len(names)}; --out DIR takes many.")
    if len(names) == 2:
        return [Task(names[0], names[1])]
    (source,) = names
    if source == STANDARD_STREAM:
        raise click.UsageError("Standard input has no name; give OUT.")
    if not folders.means_one_file(source):
        raise click.UsageError(f"{one_line(source)} may be many files; give --out DIR.")
    return [Task(source, str(folders.renamed(Path(source), ending, endings)))]


def check(plan: Plan, *, dry_run: bool) -> bool:
    """Print what speaks against a plan, a line each; for a dry run print the plan.

    What killed processes left beside finished targets is removed, unless it is a dry run.

    Returns:
        Whether to begin.

    Raises:
        click.exceptions.Exit: Something speaks against it.
    """
    for refusal in plan.refusals:
        print_error(refusal)
    if plan.refusals:
        raise click.exceptions.Exit(1)
    if dry_run:
        for task in plan.finished:
            click.echo(f"{one_line(task.target)} exists")
        for task in plan.tasks:
            frame = "" if task.frame is None else f", frame {task.frame}"
            click.echo(f"{one_line(task.source)}{frame} -> {one_line(task.target)}")
        return False
    for folder in {Path(task.target).parent for task in plan.finished}:
        remove_leftovers(folder)  # where nothing may be written
    return True


def do_one(work: Work, task: Task, *, as_json: bool) -> None:
    """Do the only task, and report of it."""
    outcome = work(task)
    if not is_quiet():
        for line in _lines(outcome):
            click.echo(line, err=True)
    err = is_standard_stream(task.target)
    if as_json:
        print_json(_found(outcome), err=err)
    elif outcome.texts:
        print_values(outcome.texts, err=err)


def _lines(outcome: Outcome) -> list[str]:
    """What is told on standard error."""
    note = outcome.note and note_line(f"{one_line(outcome.about)}: {outcome.note}")
    return [line for line in (left_out_line(outcome.about, outcome.left_out), note) if line]


def _found(outcome: Outcome) -> dict[str, Any]:
    return {**outcome.values, "left_out": outcome.left_out}


def do_all(
    work: Work, plan: Plan, *, jobs: int, report: bool = False, as_json: bool = False
) -> None:
    """Do all tasks: a bar, a line for each that fails, a summary.

    Args:
        work: Does one; can be pickled.
        plan: What to do.
        jobs: How many processes.
        report: Whether to print what there is to report of every file.
        as_json: Whether to print all of it as JSON.

    Raises:
        click.exceptions.Exit: Some have failed.
    """
    start = time.perf_counter()
    outcomes: list[tuple[Task, Outcome]] = []
    failures: list[Exception] = []
    sizes = {task.source: _size(task.source) for task in plan.tasks}
    with files_bar(len(plan.tasks), sum(sizes[task.source] for task in plan.tasks)) as bar:

        def done(task: Task, result: Outcome | Exception) -> None:
            bar.advance(sizes[task.source], result.pixels if isinstance(result, Outcome) else 0)
            if isinstance(result, Outcome):
                outcomes.append((task, result))
                for line in [] if is_quiet() else _lines(result):
                    bar.say(line)
                return
            failures.append(result)
            known = described(result) or CodecError(f"{type(result).__name__}: {result}")
            bar.say(error_line(known.in_file(task.source)))

        batch.run(work, plan.tasks, done, jobs=jobs)
    totals = _totals([outcome for _, outcome in outcomes])
    counts = {"failed": len(failures), "existing": len(plan.finished)}
    seconds = time.perf_counter() - start
    if as_json:
        files = [{"source": task.source, **_found(outcome)} for task, outcome in outcomes]
        print_json({"files": files, **counts, **totals, "seconds": seconds})
    else:
        for task, outcome in outcomes if report else []:
            print_values({"file": one_line(task.source), **outcome.texts})
            click.echo()
        bpp = totals["mean_bpp"]
        print_values(
            {
                "files": len(outcomes),
                **counts,
                "bytes in": totals["bytes_in"],
                "bytes out": totals["bytes_out"],
                "mean bpp": "-" if bpp is None else f"{bpp:.4f}",
                "seconds": f"{seconds:.2f}",
            }
        )
    for failure in failures:
        if described(failure) is None:
            raise failure  # a fault of our own, whose traceback helps
    if failures:
        raise click.exceptions.Exit(1)


def _totals(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    coded = sum(each.bytes_coded for each in outcomes)
    pixels = sum(each.pixels for each in outcomes)
    return {
        "bytes_in": sum(each.bytes_in for each in outcomes),
        "bytes_out": sum(each.bytes_out for each in outcomes),
        "mean_bpp": 8 * coded / pixels if pixels else None,
    }


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
