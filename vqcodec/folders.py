"""Many files: which there are, and what is to be written of each, known before the work begins.

    found = find(["photos", "scans/*.tif"], endings, recursive=True)
    plan = check(place(found, "out", ".vqz", endings))

`vqcodec.batch` does what is planned.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vqcodec.errors import CodecError, OutputError
from vqcodec.files import STANDARD_STREAM, check_different, check_writable, input_name

FRAME_DIGITS = 3  # at least, in the name of a frame's file


class Found(NamedTuple):
    """A file that was found.

    Attributes:
        path: Its name.
        place: The same from the folder on in which it was looked for; its mere name if it was
            named itself.
    """

    path: Path
    place: Path


class Task(NamedTuple):
    """A file to be made of another.

    Attributes:
        source: Its name, or `-`.
        target: Its name, or `-`.
        frame: Of the source, from 0; None if it was not asked for.
    """

    source: str
    target: str
    frame: int | None = None


class Plan(NamedTuple):
    """What is to be done.

    Attributes:
        tasks: What is left to do.
        finished: Those whose target is there already.
        refusals: Why not to begin at all.
    """

    tasks: tuple[Task, ...]
    finished: tuple[Task, ...]
    refusals: tuple[CodecError, ...]


def find(names: Iterable[str], endings: Collection[str], *, recursive: bool = False) -> list[Found]:
    """Finds the files that names mean, each once, in the order of the names.

    A name is that of a file, whatever its ending; of a folder, for the files in it with one of the
    endings; or a pattern such as `*.png` or `**/*.png`, for what matches. What begins with a dot
    is left alone in folders, and links to folders are not followed there.

    Args:
        names: What to look for.
        endings: Such as ".png", in lower case; files have them in any case.
        recursive: Whether to look into the folders of folders.

    Raises:
        CodecError: A name means nothing, a folder cannot be read, or nothing is found at all.
    """
    found: dict[tuple[str, Path], Found] = {}
    names = list(names)
    for name in names:
        for path in _matches(name):
            inside = path.is_dir()
            for each in within(path, endings, recursive=recursive) if inside else [path]:
                place = each.relative_to(path) if inside else Path(each.name)
                found.setdefault((os.path.abspath(each), place), Found(each, place))
    if not found:
        reason = "holds no file with an ending that is looked for"
        advice = "name files" if recursive else "--recursive looks into its folders"
        raise CodecError(f"{reason}; {advice}").in_file(names[0])
    return list(found.values())


def place(
    found: Iterable[Found], folder: str | Path, ending: str, endings: Collection[str]
) -> list[Task]:
    """Gives every file that was found a place in a folder, mirroring where it was found.

    Args:
        found: Of `find`.
        folder: Of the outputs.
        ending: Of the outputs.
        endings: Those that it takes the place of; it follows any other.
    """
    return [
        Task(str(path), str(Path(folder) / renamed(place, ending, endings)))
        for path, place in found
    ]


def renamed(path: Path, ending: str, endings: Collection[str]) -> Path:
    """A name with another ending, instead of one of those given or behind any other."""
    stem = path.stem if path.suffix.lower() in endings else path.name
    return path.with_name(stem + ending)


def frames(task: Task, count: Callable[[str], int]) -> list[Task]:
    """The frames of a source, a target `name-000.vqz` each; of a single one the task itself.

    Args:
        task: For all of the source.
        count: How many a file has. What it raises is left to the work on the task itself.
    """
    try:
        number = count(task.source)
    except CodecError:
        return [task]
    if number == 1:
        return [task]
    target = Path(task.target)
    digits = max(FRAME_DIGITS, len(str(number - 1)))
    return [
        Task(
            task.source,
            str(target.with_name(f"{target.stem}-{frame:0{digits}}{target.suffix}")),
            frame,
        )
        for frame in range(number)
    ]


def check(
    tasks: Sequence[Task],
    *,
    force: bool = False,
    skip_existing: bool = False,
    make_folders: bool = True,
) -> Plan:
    """Looks what of the tasks is there already, and what speaks against them.

    Args:
        tasks: What is wanted.
        force: Whether existing files may be replaced.
        skip_existing: Whether existing files are left as they are, and not made again.
        make_folders: Whether folders of targets that are missing will be made.
    """
    refusals: list[CodecError] = []
    inputs = {os.path.realpath(task.source) for task in tasks}
    by_target: dict[str, list[Task]] = {}
    for task in tasks:
        by_target.setdefault(os.path.realpath(task.target), []).append(task)
    for target, (first, *rest) in by_target.items():
        if rest:
            every = " and of ".join(each.source for each in (first, *rest))
            reason = f"would be written of {every}; rename one, or write them to different folders"
            refusals.append(OutputError(reason).in_file(first.target))
        elif target in inputs and target != os.path.realpath(first.source):
            reason = "is itself one of the inputs; write to another folder"
            refusals.append(OutputError(reason).in_file(first.target))
    left, finished, existing = [], [], []
    for task in tasks:
        there = os.path.isfile(task.target)
        try:
            check_different(task.source, task.target)
            if there and skip_existing:
                finished.append(task)
                continue
            if there and not force:
                existing.append(task)
            elif not make_folders or Path(task.target).parent.is_dir():
                check_writable(task.target, force=force)
        except OutputError as error:
            refusals.append(error)
        left.append(task)
    if existing:
        others = len(existing) - 1
        also = f", as {'do' if others > 1 else 'does'} {others} more" if others else ""
        them = "them" if others else "it"
        reason = f"exists already{also}; use --force to replace {them}, --skip-existing to leave"
        refusals.append(OutputError(f"{reason} {them}").in_file(existing[0].target))
    return Plan(tuple(left), tuple(finished), tuple(refusals))


def means_one_file(name: str) -> bool:
    """Whether a name is neither a folder's nor a pattern."""
    return not os.path.isdir(name) and (os.path.lexists(name) or not glob.has_magic(name))


def within(path: Path, endings: Collection[str], *, recursive: bool = False) -> Iterator[Path]:
    """The files of a folder with one of the endings, folder by folder, in order.

    As of `find`, but one after the other, however many there are.

    Raises:
        CodecError: A folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        reason = f"cannot be read ({error.strerror or error}); check its permissions"
        raise CodecError(reason).in_file(error.filename) from error

    for folder, folders, names in os.walk(path, onerror=refuse):
        folders[:] = sorted(each for each in folders if recursive and not each.startswith("."))
        for name in sorted(names):
            each = Path(folder, name)
            wanted = not name.startswith(".") and each.suffix.lower() in endings
            if wanted and each.is_file():
                yield each


def _matches(name: str) -> list[Path]:
    if name == STANDARD_STREAM:
        raise CodecError("is one input; give OUT, not --out").in_file(input_name(name))
    if os.path.lexists(name):
        return [Path(name)]
    if not glob.has_magic(name):
        raise CodecError("no such file; check the name").in_file(name)
    found = sorted(glob.glob(name, recursive=True))
    if not found:
        raise CodecError("matches no file; check it").in_file(name)
    return [Path(each) for each in found]
