"""Broken files that take new paths through the code, found by atheris: the corpus of `tests/fuzz`.

    pip install atheris
    python benchmarks/fuzz_guided.py reader --minutes 5 --corpus new
    python benchmarks/fuzz_guided.py reader --corpus new \
        --least tests/fuzz/corpus/reader

Targets, mutations and checks are those of `fuzz.py`, in this process. What takes a new path through
vqcodec is kept in `--corpus`; the first fault ends it. With `--least` nothing is mutated: those
files of the corpus are copied that run as many lines as all of them do, small ones first.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType
from typing import Any

import click

MOST_BYTES = 1 << 13  # of a file that is kept
MUTATED_BY_US = 0.8
Line = tuple[str, int]


@click.command()
@click.argument("name", metavar="TARGET", type=click.Choice(["reader", "images"]))
@click.option("--minutes", default=5.0, show_default=True, help="How long.")
@click.option("--corpus", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--only", multiple=True, help="Begin with files of such names, as lossless*.")
@click.option("--least", "out", type=click.Path(path_type=Path), help="Folder for the fewest.")
def main(name: str, minutes: float, corpus: Path, only: tuple[str, ...], out: Path | None) -> None:
    """Look for files that take new paths through TARGET."""
    if out is not None:
        import fuzz

        copy_fewest(fuzz.TARGETS[name], corpus, out)
        return
    import atheris

    with atheris.instrument_imports(include=["vqcodec"], exclude=["vqcodec.kernels"]):
        import fuzz

    target = fuzz.TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        wanted = not only or any(fnmatch(seed.name, each) for each in only)
        if wanted and len(seed.data) <= MOST_BYTES:
            (corpus / hashlib.sha256(seed.data).hexdigest()[:16]).write_bytes(seed.data)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < MUTATED_BY_US:
            with contextlib.suppress(ValueError, KeyError, AttributeError):
                return target.mutate(data, rng)[:most]
        return bytes(atheris.Mutate(data, most))

    options = [f"-max_total_time={int(60 * minutes)}", f"-max_len={MOST_BYTES}", "-timeout=120"]
    atheris.Setup(
        [sys.argv[0], str(corpus), "-rss_limit_mb=2048", f"-artifact_prefix={corpus}-", *options],
        lambda data: target.once(data) and None,
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def copy_fewest(target: Any, folder: Path, out: Path) -> None:
    """Copies the files that run as many lines of vqcodec as all do, small ones first."""
    out.mkdir(parents=True, exist_ok=True)
    seen: set[Line] = set()
    for path in sorted(folder.iterdir(), key=lambda each: (each.stat().st_size, each.name)):
        data = path.read_bytes()
        found = lines_of(target, data)
        if found - seen:
            seen |= found
            (out / f"{hashlib.sha256(data).hexdigest()[:16]}.bin").write_bytes(data)
    print(f"{len(seen)} lines")


def lines_of(target: Any, data: bytes) -> set[Line]:
    """The lines of vqcodec that a file runs."""
    found: set[Line] = set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        name = frame.f_code.co_filename
        if "/vqcodec/" not in name:
            return None
        if event == "line":
            found.add((name, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        target.once(data)
    finally:
        sys.settrace(None)
    return found


if __name__ == "__main__":
    main()
