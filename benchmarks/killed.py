"""Many pictures of every kind through `vqcodec compress`, killed again and again and started again.

    python benchmarks/killed.py

All pictures are compressed at once with `--recursive --jobs`, the first of them one by one as well,
in a loop as of a shell. Then all again with `--skip-existing`, killed at random times (SIGKILL). It
fails unless every output is byte for byte that of the undisturbed run, and that of the loop the
same, no finished file is ever written again, and nothing else is left in the folder.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from inputs import WIDTH, pictures

from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.errors import CodecError
from vqcodec.registry import DEFAULT_MODEL

PROGRAM = (sys.executable, "-m", "vqcodec", "compress", "--allow-damaged", "--quiet")
LONGEST_SECONDS = 0.5  # after a file was written
Written = tuple[int, int]  # a file's inode and when it was written


def make(folder: Path, number: int) -> list[Path]:
    """Pictures of all kinds in turn, a folder of a folder for each turn."""
    sources: list[Path] = []
    for turn in count():
        for name, content in pictures(5 * turn % WIDTH).items():
            if len(sources) == number:
                return sources
            ending = name.split(",")[0].lower()
            kind = name.lower().translate(str.maketrans(" ,*", "---"))
            source = folder / f"all/{turn}/{kind}.{ending}"
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_bytes(content)
            sources.append(source)
    raise AssertionError


def one_by_one(sources: list[Path], folder: Path, loop: Path) -> float:
    """Seconds of a process for each."""
    start = time.perf_counter()
    for source in tracked(sources, "one by one"):
        target = (loop / source.relative_to(folder)).with_suffix(".vqz")
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([*PROGRAM, str(source), str(target)], capture_output=True)
    return time.perf_counter() - start


def at_once(folder: Path, out: Path, jobs: int) -> subprocess.Popen[bytes]:
    """A process for all of them."""
    arguments = (str(folder), "--out", str(out), "--recursive", "--skip-existing", "--jobs")
    null = subprocess.DEVNULL
    return subprocess.Popen([*PROGRAM, *arguments, str(jobs)], stdout=null, stderr=null)


def found(folder: Path) -> dict[Path, Written]:
    """The files of a folder that bear their final name."""
    there = {path: path.stat() for path in folder.rglob("*.vqz") if not path.name.startswith(".")}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in there.items()}


def check(folder: Path, out: Path) -> None:
    """Checks that a folder's files are in the other, and the same, and no others in what it has.

    Raises:
        CodecError: they are not.
    """
    for place in [each for each in folder.rglob("*") if each.is_file()]:
        other = out / place.relative_to(folder)
        if not other.exists() or other.read_bytes() != place.read_bytes():
            raise CodecError("is not what it should be").in_file(other)


def killed_runs(
    folder: Path, out: Path, jobs: int, kills: int, total: int, times: random.Random
) -> list[int]:
    """How many files were new at each kill, and after the last one.

    Raises:
        CodecError: a finished file was written again, or a run ended before it was killed.
    """
    known: dict[Path, Written] = {}
    counts: list[int] = []
    for n in tracked(range(kills + 1), "killing"):
        process = at_once(folder, out, jobs)
        if n < kills:
            # All over the run: of the files that are left, each kill that is left has its part.
            part = times.uniform(0, 2) * (total - len(known)) / (kills - n + 1)
            while process.poll() is None and len(found(out)) < len(known) + int(part):
                time.sleep(0.02)
            time.sleep(times.uniform(0, LONGEST_SECONDS))
            if process.poll() is not None:
                raise CodecError("a run ended before it was killed; give fewer --kills")
            process.kill()
        process.wait()
        time.sleep(times.uniform(0, 0.5))  # its processes end with it
        now = found(out)
        if any(now.get(path) != written for path, written in known.items()):
            raise CodecError("a finished file was written again")
        counts.append(len(now) - len(known))
        known = now
    return counts


@click.command(cls=Command)
@click.option("--pictures", "number", default=300, show_default=True, help="How many.")
@click.option("--alone", default=30, show_default=True, help="How many of them in a loop as well.")
@click.option("--kills", default=20, show_default=True, help="How often to kill.")
@click.option("--jobs", default=2, show_default=True, help="Processes at a time.")
@click.option("--seed", default=0, show_default=True, help="Of the times of the kills.")
def main(number: int, alone: int, kills: int, jobs: int, seed: int) -> None:
    """Compress pictures of every kind, and be killed meanwhile."""
    with TemporaryDirectory() as name:
        root = Path(name)
        folder, loop, whole, killed = (root / each for each in ("in", "loop", "whole", "killed"))
        sources = make(folder, number)
        start = time.perf_counter()
        at_once(folder, whole, jobs).wait()
        seconds = time.perf_counter() - start
        loop_seconds = one_by_one(sources[:alone], folder, loop)
        check(loop, whole)
        total = len(found(whole))
        counts = killed_runs(folder, killed, jobs, kills, total, random.Random(seed))
        check(whole, killed)
        check(killed, whole)
    print_table(
        f"{kills} kills, all outputs right, none written twice, {number - total} pictures refused",
        ["how", "pictures", "seconds", "seconds a picture"],
        [
            ["a process each", alone, f"{loop_seconds:.0f}", f"{loop_seconds / alone:.2f}"],
            [f"--jobs {jobs}", number, f"{seconds:.0f}", f"{seconds / number:.2f}"],
        ],
    )
    print(f"new files at each kill, and after the last: {' '.join(map(str, counts))}")
    print_made(DEFAULT_MODEL)


if __name__ == "__main__":
    main()
