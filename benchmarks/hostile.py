"""What damaged files do: an error of the codec or the right image, quickly and in little memory.

Damaged files go one by one to a decoder process that has 1 GB above what it holds after a good
decode. One that takes too long ends it, and is counted.
"""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from vqcodec import container
from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.cost import forget_peak, memory
from vqcodec.bench.images import Pixels, picture
from vqcodec.bench.processes import fresh
from vqcodec.cli.options import model_option, quality_option
from vqcodec.codec import compress, decompress
from vqcodec.errors import CodecError, FormatError
from vqcodec.image import Image
from vqcodec.registry import DEFAULT_MODEL, WEIGHTS_SUFFIX

PHOTOGRAPH = Path(__file__).parents[1] / "tests" / "fixtures" / "astronaut-crop.png"
SECONDS_LIMIT = 5.0
MEMORY_LIMIT = 1 << 30

RIGHT, REFUSED, OTHER = "right image", "CodecError", "anything else"

Cases = Iterable[tuple[str, bytes]]
"""What was done to a file, and its bytes since."""


@dataclass(frozen=True)
class Answer:
    """What the decoder made of one file.

    Attributes:
        outcome: `RIGHT`, `REFUSED` or `OTHER`.
        detail: Name of the error, or what else happened.
        seconds: It took.
        peak: Bytes above the good decode, of all files so far.
    """

    outcome: str
    detail: str
    seconds: float = SECONDS_LIMIT
    peak: int = 0


# Damage


def truncations(content: bytes) -> Cases:
    for length in range(len(content)):
        yield f"first {length} bytes", content[:length]


def header_length(content: bytes) -> int:
    """Bytes up to the end of the header's checksum."""
    for length in range(len(content) + 1):
        with contextlib.suppress(FormatError):
            container.peek(content[:length])
            return length
    raise AssertionError("the file has no header")


def header_changes(content: bytes) -> Cases:
    """All 255 other values of every byte of the header."""
    for place in range(header_length(content)):
        for value in range(256):
            if value != content[place]:
                changed = bytearray(content)
                changed[place] = value
                yield f"byte {place} = {value}", bytes(changed)


def mutations(content: bytes, count: int, seed: int) -> Cases:
    """Changed, inserted, removed and repeated bytes at random places."""
    rng = random.Random(seed)
    for n in range(count):
        mutated = bytearray(content)
        while bytes(mutated) == content:
            kind = rng.choice(["change", "flip", "insert", "remove", "repeat"])
            place = rng.randrange(len(content))
            length = rng.randint(1, 16)
            if kind == "change":
                for _ in range(length):
                    mutated[rng.randrange(len(mutated))] = rng.randrange(256)
            elif kind == "flip":
                mutated[place] ^= 1 << rng.randrange(8)
            elif kind == "insert":
                mutated[place:place] = rng.randbytes(length)
            elif kind == "remove":
                del mutated[place : place + length]
            else:
                mutated[place:place] = mutated[place : place + length]
        yield f"mutation {n} ({kind})", bytes(mutated)


def forgeries(content: bytes, count: int, seed: int) -> Cases:
    """Changed payloads under right checksums: only the indices' own checksum can tell."""
    rng = random.Random(seed)
    contents = container.unpack(content)
    places = [
        (level, tile)
        for level, payloads in enumerate(contents.sections)
        for tile, payload in enumerate(payloads)
        if payload
    ]
    for _ in range(count if places else 0):
        level, tile = rng.choice(places)
        payload = bytearray(contents.sections[level][tile])
        if rng.random() < 0.5:
            payload[rng.randrange(len(payload))] ^= rng.randint(1, 255)
        else:
            del payload[4 * rng.randrange(len(payload) // 4) :]
        sections = [list(payloads) for payloads in contents.sections]
        sections[level][tile] = bytes(payload)
        forged = replace(contents, sections=tuple(map(tuple, sections)))
        yield f"level {level}", container.pack(forged)


# Decoding


@lru_cache(maxsize=1)
def start(model: str | None, content: bytes) -> tuple[Pixels, int]:
    """Limits this process's memory; gives the right pixels, and the bytes resident before."""
    expected = decompress(content, model=model).pixels
    size, resident = memory("VmSize"), memory("VmRSS")
    assert size is not None
    assert resident is not None
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_LIMIT, resource.RLIM_INFINITY))
    forget_peak()
    return expected, resident


def answer(model: str | None, content: bytes, damaged: bytes) -> Answer:
    """Decodes a file in the time there is; then the process ends."""
    expected, before = start(model, content)
    began = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, SECONDS_LIMIT)
    outcome, detail = decode(damaged, model, expected)
    signal.setitimer(signal.ITIMER_REAL, 0)
    peak = max(0, (memory("VmHWM") or 0) - before)
    return Answer(outcome, detail, time.perf_counter() - began, peak)


def decode(damaged: bytes, model: str | None, expected: Pixels) -> tuple[str, str]:
    """Outcome, and the name of the error or what else happened."""
    try:
        pixels = decompress(damaged, model=model).pixels
    except CodecError as error:
        lines = str(error).splitlines()
        return (REFUSED, type(error).__name__) if len(lines) == 1 else (OTHER, "not one line")
    except BaseException as error:
        return OTHER, f"{type(error).__name__}: {error}"
    return (RIGHT, "") if np.array_equal(pixels, expected) else (OTHER, "another image")


def answers(
    prepare: Callable[[], object],
    ask: Callable[[bytes], Answer],
    cases: Iterable[tuple[Any, bytes]],
) -> Iterator[tuple[Any, Answer]]:
    """What becomes of every file, in processes that are replaced when a file has ended them.

    Args:
        prepare: For `fresh`.
        ask: What a process does with a file.
        cases: Labels and files.

    Yields:
        The labels and the answers.
    """
    left = iter(cases)
    ended = True
    while ended:
        ended = False
        with fresh(prepare) as process:
            for label, damaged in left:
                try:
                    yield label, process.submit(ask, damaged).result()
                except BrokenProcessPool:
                    yield label, Answer(OTHER, f"ended, or took over {SECONDS_LIMIT:.0f} s")
                    ended = True
                    break


@click.command(cls=Command)
@click.argument("source", metavar="PICTURE", default=PHOTOGRAPH, type=click.Path(path_type=Path))
@click.option("--mutations", "mutated", type=int, default=2000, show_default=True)
@click.option("--forgeries", "forged", type=int, default=50, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@quality_option
@model_option
def main(
    source: Path, mutated: int, forged: int, seed: int, quality: int | None, model: str | None
) -> None:
    """Damages the file of the image PICTURE in every way. Exit code 1 if anything else happens."""
    model = model or DEFAULT_MODEL
    content = compress(Image(picture(source), grey=False), quality=quality, model=model).data
    # An id is left for the file to name, so that changed ids are looked up too.
    weights = model if model.endswith(WEIGHTS_SUFFIX) else None
    kinds = {
        "every truncation": truncations(content),
        "every change of a header byte (255 values each)": header_changes(content),
        f"random mutations, seed {seed}": mutations(content, mutated, seed),
        f"payload changes with checksums made right, seed {seed}": forgeries(content, forged, seed),
    }
    listed = [((kind, what), damaged) for kind, cases in kinds.items() for what, damaged in cases]
    given = weights, content
    asked = answers(partial(start, *given), partial(answer, *given), listed)
    found = list(tracked(asked, "files", len(listed)))
    rows = []
    for kind in kinds:
        own = [each for (of, _), each in found if of == kind]
        outcomes = Counter(each.outcome for each in own)
        rows.append(
            [
                *(kind, len(own)),
                *(outcomes[outcome] for outcome in (REFUSED, RIGHT, OTHER)),
                f"{max((each.seconds for each in own), default=0):.3f}",
                f"{max((each.peak for each in own), default=0) / 1e6:.1f}",
            ]
        )
    print_table(
        f"{source.name}, {len(content)} bytes, header of {header_length(content)}",
        ["damage", "files", REFUSED, RIGHT, OTHER, "worst s", "peak MB above a good decode"],
        rows,
    )
    errors = Counter(each.detail for _, each in found if each.outcome == REFUSED)
    print_table("errors", ["error", "files"], errors.most_common())
    failures = [f"{what}: {each.detail}" for (_, what), each in found if each.outcome == OTHER]
    if failures:
        print_table(f"{OTHER}: {len(failures)}", ["what"], [[each] for each in failures[:20]])
    print_made(model)
    if failures or any(
        each.seconds >= SECONDS_LIMIT or each.peak >= MEMORY_LIMIT for _, each in found
    ):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
