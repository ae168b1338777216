"""Seconds of compression and decompression, by stage, and of decoding the usual way.

The usual way is one full pass of a level's prior for every position that is decoded. That takes
hours, so some passes over the whole maps are timed and multiplied by their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import click
import torch
from common import (
    Benchmark,
    Maps,
    console,
    json_option,
    kodak_sized,
    machine,
    model_option,
    print_table,
    quality_option,
    recorded,
    store,
    yes,
)
from rich.progress import track
from torch import Tensor

from vqcodec.codec import compress, decompress
from vqcodec.cone import step_of
from vqcodec.model import Model, load

COMPRESS_LIMIT, DECOMPRESS_LIMIT = 1.5, 2.0  # seconds, 768x512 on 2 cores
RATIO_LIMIT = 100.0

Result = TypeVar("Result")


class StageClock:
    """A progress callback that adds up the seconds until each report under its stage.

    The work before the first report of a run goes to the first stage.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Called by the codec with (stage, done, total)."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def timed(run: Callable[[StageClock], Result]) -> tuple[Result, dict[str, float]]:
    """Result of a run, and its seconds by stage with "all" and the "rest" after the last stage."""
    start = time.perf_counter()
    clock = StageClock()
    result = run(clock)
    total = time.perf_counter() - start
    rest = total - sum(clock.seconds.values())
    return result, {**clock.seconds, "rest": rest, "all": total}


def medians(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {stage: median(run[stage] for run in runs) for stage in runs[0]}


@dataclass(frozen=True)
class UsualWay:
    """Decoding one level with a full pass for everything that is decoded.

    Attributes:
        level: Which.
        positions: Of the level.
        codebooks: Of a position.
        passes: How many passes were timed.
        seconds: Median of a pass.
        exact: Whether the passes gave the frequencies that the file was coded with.
    """

    level: int
    positions: int
    codebooks: int
    passes: int
    seconds: float
    exact: bool

    @property
    def by_position(self) -> float:
        """Seconds with one pass a position, extrapolated."""
        return self.positions * self.seconds

    @property
    def by_codebook(self) -> float:
        """Seconds with one pass a position and codebook, extrapolated."""
        return self.by_position * self.codebooks


def some_of(count: int, wanted: int) -> list[int]:
    """`wanted` numbers below `count`, evenly spread."""
    return sorted({(2 * n + 1) * count // (2 * wanted) for n in range(wanted)})


@torch.inference_mode()
def usual_way(model: Model, maps: Maps, quality: int, level: int, wanted: int) -> UsualWay:
    """Times full passes that decode a level's indices at a few positions.

    Everything that could be kept between passes is: the conditioning on coarser levels and the
    caches' memory are not counted.
    """
    prior = model.priors[level]
    indices = [torch.from_numpy(each.astype("int64"))[None] for each in maps[: level + 1]]
    own = indices[-1]
    books, height, width = own.shape[1:]
    chosen = torch.tensor([quality - 1])
    state = prior.start(indices[:-1], chosen, torch.zeros_like(chosen), height, width)
    expected = prior.parallel(state, own)
    seconds: list[float] = []
    exact = True
    for position in some_of(height * width, wanted):
        for g in range(books):
            known = _known(own, position, g)
            start = time.perf_counter()
            found = prior.parallel(state, known)
            seconds.append(time.perf_counter() - start)
            exact &= torch.equal(found[:, g, position], expected[:, g, position])
    return UsualWay(level, height * width, books, len(seconds), median(seconds), exact)


def _known(own: Tensor, position: int, codebook: int) -> Tensor:
    """The indices that come before a codebook of a position in coding order, zero from there on."""
    flat = own.flatten(2)
    known = torch.zeros_like(flat)
    step = step_of(*own.shape[2:])
    earlier = step < step[position]
    known[:, :, earlier] = flat[:, :, earlier]
    known[:, :codebook, position] = flat[:, :codebook, position]
    return known.view_as(own)


def report_stages(
    name: str, size: tuple[int, ...], stages: dict[str, dict[str, float]], finding: float
) -> None:
    rows: list[list[object]] = []
    for verb, seconds in stages.items():
        rows += [[verb, stage, f"{value:.3f}"] for stage, value in seconds.items()]
    rows.append(["each", "of it, before the first stage: hash the weights", f"{finding:.3f}"])
    height, width = size[:2]
    threads = torch.get_num_threads()
    print_table(
        f"{name}, {width}x{height}, warm, {threads} threads, {machine()['cpu_capability']}",
        ["run", "stage", "seconds (median)"],
        rows,
    )


def report_usual(ways: Sequence[UsualWay]) -> None:
    print_table(
        "decoding the usual way: passes timed over whole maps, EXTRAPOLATED to all positions",
        [
            "level",
            "positions",
            "codebooks",
            "passes timed",
            "seconds a pass",
            "one pass a position, s",
            "a position and codebook, s",
            "frequencies right",
        ],
        [
            [
                way.level,
                way.positions,
                way.codebooks,
                way.passes,
                f"{way.seconds:.4f}",
                f"{way.by_position:.0f}",
                f"{way.by_codebook:.0f}",
                yes(way.exact),
            ]
            for way in ways
        ],
    )


def measure_finding(model: str, runs: int) -> float:
    """Seconds to find a model that is loaded already."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        load(model)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


@click.command(cls=Benchmark)
@click.argument("picture", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="PyTorch's default if not given.")
@click.option(
    "--positions",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Positions a level that are decoded the usual way.",
)
@quality_option
@model_option
@json_option
def main(
    picture: Path | None,
    runs: int,
    threads: int | None,
    positions: int,
    quality: int | None,
    model: str,
    json_file: Path | None,
) -> None:
    """Seconds for the image PICTURE, or for photographs of the tests at 768x512."""
    if threads is not None:
        torch.set_num_threads(threads)
    name, original = kodak_sized(picture)
    with recorded("encode") as found:
        compressed = compress(original, quality=quality, model=model)  # warms up
    maps = found[-1]
    decompress(compressed.data, model=model)
    compressions, decompressions = [], []
    for _ in track(range(runs), "runs", console=console):
        _, seconds = timed(
            lambda clock: compress(original, quality=quality, model=model, progress=clock)
        )
        compressions.append(seconds)
        _, seconds = timed(lambda clock: decompress(compressed.data, model=model, progress=clock))
        decompressions.append(seconds)
    stages = {"compress": medians(compressions), "decompress": medians(decompressions)}
    finding = measure_finding(model, runs)
    report_stages(name, original.pixels.shape, stages, finding)

    loaded, header = load(model), compressed.header
    ways = [
        usual_way(loaded, maps, header.quality, level, positions)
        for level in track(range(header.levels), "the usual way", console=console)
    ]
    report_usual(ways)
    ours = stages["decompress"]["all"]
    slow, slowest = sum(w.by_position for w in ways), sum(w.by_codebook for w in ways)
    print_table(
        "summary",
        ["what", "seconds", "limit", "holds"],
        [
            _limited("compress", stages["compress"]["all"], COMPRESS_LIMIT),
            _limited("decompress", ours, DECOMPRESS_LIMIT),
            [
                "the usual way, one pass a position (extrapolated)",
                f"{slow:.0f} = {slow / ours:.0f} x decompress",
                f"{RATIO_LIMIT:.0f} x",
                yes(slow >= RATIO_LIMIT * ours),
            ],
            [
                "the usual way, one pass a position and codebook (extrapolated)",
                f"{slowest:.0f} = {slowest / ours:.0f} x decompress",
                "",
                "",
            ],
        ],
    )
    results: dict[str, Any] = {
        "image": name,
        "size": list(original.pixels.shape[:2]),
        "quality": header.quality,
        "runs": runs,
        "seconds": stages,
        "seconds_finding_the_model": finding,
        "usual_way_extrapolated": {
            "levels": [
                {**vars(way), "by_position": way.by_position, "by_codebook": way.by_codebook}
                for way in ways
            ],
            "seconds_by_position": slow,
            "seconds_by_codebook": slowest,
            "times_decompress_by_position": slow / ours,
            "times_decompress_by_codebook": slowest / ours,
        },
    }
    store(json_file, "speed", model, results)


def _limited(what: str, seconds: float, limit: float) -> list[object]:
    return [what, f"{seconds:.3f}", f"{limit:.1f}", yes(seconds <= limit)]


if __name__ == "__main__":
    main()
