"""What damaged files do: an error of the codec or the right image, quickly and in little memory.

Damaged files go one by one to a decoder process that has 1 GB above what it holds after a good
decode. One that does not answer in time is killed and counted.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import click
import numpy as np
from common import (
    FIXTURES,
    Benchmark,
    Pixels,
    console,
    json_option,
    load_picture,
    memory,
    model_option,
    print_table,
    quality_option,
    store,
    yes,
)
from rich.progress import track

from vqcodec import container, registry
from vqcodec.codec import compress, decompress
from vqcodec.errors import CodecError, FormatError

SECONDS_LIMIT = 5.0
MEMORY_LIMIT = 1 << 30
STARTING_SECONDS = 300.0

RIGHT, REFUSED, OTHER = "right image", "CodecError", "anything else"


@dataclass(frozen=True)
class Answer:
    """What the decoder made of one file."""

    outcome: str
    detail: str
    seconds: float
    peak: int  # bytes above the baseline, of all files so far


@dataclass
class Tally:
    """Of one kind of damage."""

    files: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak: int = 0

    def add(self, label: str, answer: Answer) -> None:
        """Counts an answer."""
        self.files += 1
        self.outcomes[answer.outcome] += 1
        self.seconds = max(self.seconds, answer.seconds)
        self.peak = max(self.peak, answer.peak)
        if answer.outcome == REFUSED:
            self.errors[answer.detail] += 1
        if answer.outcome == OTHER:
            self.failures.append(f"{label}: {answer.detail}")


# Damage


def truncations(content: bytes) -> Iterator[tuple[str, bytes]]:
    for length in range(len(content)):
        yield f"first {length} bytes", content[:length]


def header_length(content: bytes) -> int:
    """Bytes up to the end of the header's checksum."""
    for length in range(len(content) + 1):
        with contextlib.suppress(FormatError):
            container.peek(content[:length])
            return length
    raise AssertionError("the file has no header")


def header_changes(content: bytes) -> Iterator[tuple[str, bytes]]:
    """All 255 other values of every byte of the header."""
    for place in range(header_length(content)):
        for value in range(256):
            if value != content[place]:
                changed = bytearray(content)
                changed[place] = value
                yield f"byte {place} = {value}", bytes(changed)


def mutations(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
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


def forgeries(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Changed payloads under right checksums: only the indices' own checksum can tell."""
    rng = random.Random(seed)
    contents = container.unpack(content)
    while count:
        level = rng.randrange(len(contents.sections))
        tile = rng.randrange(len(contents.sections[level]))
        payload = bytearray(contents.sections[level][tile])
        if not any(map(any, contents.sections)):
            return
        if not payload:
            continue
        if rng.random() < 0.5:
            payload[rng.randrange(len(payload))] ^= rng.randint(1, 255)
        else:
            del payload[4 * rng.randrange(len(payload) // 4) :]
        tiles = list(contents.sections[level])
        tiles[tile] = bytes(payload)
        sections = list(contents.sections)
        sections[level] = tuple(tiles)
        yield f"level {level}", container.pack(replace(contents, sections=tuple(sections)))
        count -= 1


# Decoding


def serve(connection: Connection, model: str | None, content: bytes) -> None:
    """Answers files with what they decode to, until it gets None; a process of its own."""
    expected = decompress(content, model=model).pixels
    baseline_size, baseline = memory("VmSize"), memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (baseline_size + MEMORY_LIMIT, resource.RLIM_INFINITY))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    connection.send("ready")
    while (damaged := connection.recv()) is not None:
        start = time.perf_counter()
        outcome, detail = decode(damaged, model, expected)
        seconds = time.perf_counter() - start
        connection.send(Answer(outcome, detail, seconds, max(0, memory("VmHWM") - baseline)))


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


class DecoderProcess:
    """Starts the decoder, and starts it again when a file has ended it."""

    def __init__(self, model: str | None, content: bytes) -> None:
        self.model, self.content = model, content
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, self.model, self.content), daemon=True
        )
        self.process.start()
        theirs.close()
        if not self.connection.poll(STARTING_SECONDS):
            raise click.ClickException("the decoder process did not start")
        self.connection.recv()

    def ask(self, damaged: bytes) -> Answer:
        """What becomes of one file."""
        self.connection.send(damaged)
        if not self.connection.poll(SECONDS_LIMIT):
            self._stop()
            self._start()
            return Answer(OTHER, f"no answer in {SECONDS_LIMIT:.0f} s", SECONDS_LIMIT, 0)
        try:
            answer: Answer = self.connection.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            self._start()
            return Answer(OTHER, f"the process ended with code {code}", 0.0, 0)
        return answer

    def _stop(self) -> None:
        self.process.kill()
        self.process.join()

    def close(self) -> None:
        """Ends the process."""
        self.connection.send(None)
        self.process.join()


@click.command(cls=Benchmark)
@click.argument(
    "picture",
    default=FIXTURES / "astronaut-crop.png",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--mutations", "mutated", type=int, default=2000, show_default=True)
@click.option("--forgeries", "forged", type=int, default=50, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@quality_option
@model_option
@json_option
def main(
    picture: Path,
    mutated: int,
    forged: int,
    seed: int,
    quality: int | None,
    model: str,
    json_file: Path | None,
) -> None:
    """Damages the file of the image PICTURE in every way. Exit code 1 if anything else happens."""
    content = compress(load_picture(picture), quality=quality, model=model).data
    # An id is left for the file to name, so that changed ids are looked up too.
    weights = model if model.endswith(registry.WEIGHTS_SUFFIX) else None
    kinds = {
        "every truncation": list(truncations(content)),
        "every change of a header byte (255 values each)": list(header_changes(content)),
        f"random mutations, seed {seed}": list(mutations(content, mutated, seed)),
        f"payload changes with checksums made right, seed {seed}": list(
            forgeries(content, forged, seed)
        ),
    }
    decoder = DecoderProcess(weights, content)
    tallies: dict[str, Tally] = {}
    for kind, cases in kinds.items():
        tally = tallies[kind] = Tally()
        for label, damaged in track(cases, kind, console=console):
            tally.add(label, decoder.ask(damaged))
    decoder.close()
    harmless = report(tallies, picture, content)
    store(
        json_file,
        "hostile",
        model,
        {
            "image": picture.name,
            "bytes": len(content),
            "seed": seed,
            "harmless": harmless,
            "kinds": {kind: vars(tally) for kind, tally in tallies.items()},
        },
    )
    if not harmless:
        raise SystemExit(1)


def report(tallies: dict[str, Tally], picture: Path, content: bytes) -> bool:
    print_table(
        f"{picture.name}, {len(content)} bytes, header of {header_length(content)}",
        ["damage", "files", REFUSED, RIGHT, OTHER, "worst s", "peak MB above baseline"],
        [
            [
                kind,
                tally.files,
                *(tally.outcomes[outcome] for outcome in (REFUSED, RIGHT, OTHER)),
                f"{tally.seconds:.3f}",
                f"{tally.peak / 1e6:.1f}",
            ]
            for kind, tally in tallies.items()
        ],
    )
    errors = sum((tally.errors for tally in tallies.values()), Counter[str]())
    print_table("errors", ["error", "files"], errors.most_common())
    failures = [failure for tally in tallies.values() for failure in tally.failures]
    slowest = max(tally.seconds for tally in tallies.values())
    largest = max(tally.peak for tally in tallies.values())
    harmless = not failures and slowest < SECONDS_LIMIT and largest < MEMORY_LIMIT
    print_table(
        "summary",
        ["what", "found", "holds"],
        [
            ["an error of the codec or the right image", f"{len(failures)} others", yes(harmless)],
            *([failure, "", ""] for failure in failures[:20]),
        ],
    )
    return harmless


if __name__ == "__main__":
    main()
