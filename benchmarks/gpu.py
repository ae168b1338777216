"""Everything that runs on a GPU, checked against the CPU in minutes; prints a report to be pasted.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu      # a dry run, with less of everything

Every check has a row; one that fails does not stop the others.
"""

from __future__ import annotations

import csv
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import exactness
import numpy as np
import same_files
import same_samples
import torch
from safetensors.numpy import load_file

from vqcodec import decompress, verify
from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.images import fill, picture
from vqcodec.codec import compress
from vqcodec.entropy import gemm
from vqcodec.image import Image, load
from vqcodec.registry import DEFAULT_MODEL, default_generator
from vqcodec.training import autoencoder, indices, prior
from vqcodec.training.export import export
from vqcodec.training.presets import PRESETS
from vqcodec.training.settings import AutoencoderTraining, Extraction, PriorTraining, resolve
from vqcodec.weights_file import load as load_model

EFFORTS = (1, 5)


class Sizes(NamedTuple):
    """How much is checked.

    Attributes:
        steps: Of a training.
        preset: What is trained.
        batch: Crops a step.
        golden: Golden files whose names contain this.
        height: Of the photograph.
        width: Of the photograph.
        tiles: Sides of tiles whose frequencies are compared.
        qualities: Of files that one device makes and the other reads.
        samples: Of a class.
        runs: Of which the median is told.
    """

    steps: int = 30
    preset: str = "wide"
    batch: int = 8
    golden: str = ""
    height: int = exactness.KODAK_SIZE[0]
    width: int = exactness.KODAK_SIZE[1]
    tiles: tuple[int, ...] = exactness.TILES
    qualities: tuple[int, ...] = same_files.QUALITIES
    samples: int = same_samples.COUNT
    runs: int = 5

    def photograph(self) -> Image:
        """What is coded."""
        return Image(fill(picture(exactness.PHOTOGRAPH), self.height, self.width), grey=False)


DRY = Sizes(12, "tiny", 2, "33x31", 64, 96, (32, 64), (43,), 1, 1)


class Result(NamedTuple):
    """What a check found.

    Attributes:
        fine: Whether it is as it must be.
        found: In words.
    """

    fine: bool
    found: str


Check = Callable[[], Result]


def products(device: str) -> Result:
    """Which exact int8 products there are, and which of them is taken."""
    place = torch.device(device)
    exact = [name for name, each in gemm.PRODUCTS.items() if gemm.passes_self_test(each, place)]
    chosen = gemm.matrix_product(place).__name__.strip("_")
    seconds = 1e6 * gemm.seconds(gemm.PRODUCTS[chosen], place)
    return Result(bool(exact), f"{', '.join(exact)} exact; {chosen} taken, {seconds:.0f} us")


def golden(device: str, only: str) -> Result:
    """All golden files: the indices that are stored beside them, or those that the CPU finds."""
    found, count = [], 0
    for path in same_files.golden_files():
        if only not in path.name:
            continue
        own = same_files.read(path.read_bytes(), device)
        stored = path.with_suffix(".safetensors")
        if stored.exists():
            first = {name: each.astype(np.int64) for name, each in load_file(stored).items()}
            first[same_files.PIXELS] = load(path.with_suffix(".png")).pixels.astype(np.int64)
        else:
            first = same_files.read(path.read_bytes())
        found.append(same_files.differences(first, own))
        count += sum(each.size for name, each in first.items() if name != same_files.PIXELS)
    return summary(found, count)


def summary(found: list[same_files.Differences], count: int) -> Result:
    differ, pixels = sum(each.indices for each in found), max(each.pixels for each in found)
    words = f"{len(found)} files, {count} indices: {differ} differ; pixels by {pixels} at most"
    return Result(all(each.fine for each in found), words)


def crossed(maker: str, reader: str, effort: int, model: str, sizes: Sizes) -> Result:
    """Files made on one device, verified and read on the other."""
    found, count, qualities = [], 0, load_model(model).qualities
    for quality in (min(each, qualities) for each in sizes.qualities):
        options: dict[str, Any] = {"model": model, "effort": effort, "lossless": "never"}
        data = compress(sizes.photograph(), quality=quality, device=maker, **options).data
        verify(data, model=model, device=reader)
        where = None if model == DEFAULT_MODEL else Path(model)
        own, other = (same_files.read(data, each, model=where) for each in (maker, reader))
        found.append(same_files.differences(own, other))
        count += sum(each.size for name, each in own.items() if name != same_files.PIXELS)
    return summary(found, count)


def frequencies(device: str, model: str, sizes: Sizes) -> Result:
    """Frequencies of one pass and of the wavefront, as `exactness.py` compares them."""
    made = partial(compress, sizes.photograph(), lossless="never", model=model)
    files = [made(tile=tile).data for tile in sizes.tiles]
    here, there = (
        exactness.find(model, files, exactness.Setting(each, device=each), 1)
        for each in ("cpu", device)
    )
    differ = there.differences(here)
    count = sum(part.frequencies for part in here.parts.values())
    words = f"{len(here.parts)} tiles, {count} frequencies: tiles that differ {differ}"
    return Result(not any(differ), f"{words}; {there.product} against {here.product}")


def samples(device: str, guidance: float, model: str, count: int) -> Result:
    """The same seed drawn on both."""
    (own, pixels), (other, others) = (
        same_samples.draw(model, 12, guidance, each, count) for each in ("cpu", device)
    )
    differ, far = int((own != other).sum()), int(np.abs(pixels - others).max())
    words = f"{len(own)} samples, {own.size} indices: {differ} differ; pixels by {far} at most"
    return Result(differ == 0 and far <= 1, words)


def training(device: str, folder: Path, sizes: Sizes, *, bfloat16: bool, compiled: bool) -> Result:
    """Some steps of an autoencoder's training."""
    output = folder / f"autoencoder-{bfloat16}-{compiled}"
    settings = resolve(
        AutoencoderTraining,
        output=output,
        sources=[(same_files.PHOTOGRAPH.parent, 1.0)],
        workers=0,
        preset=sizes.preset,
        steps=sizes.steps,
        batch=sizes.batch,
        crop=64,
        start_crops=32,
        log_every=1,
        bfloat16=bfloat16,
        compile=compiled,
        device=device,
    )
    autoencoder.train(settings)
    return of_log(output, sizes)


def of_log(output: Path, sizes: Sizes) -> Result:
    """Whether a training's losses are numbers and its weights move; milliseconds of a step."""
    with (output / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    losses = [float(row["loss"]) for row in rows]
    at = [float(row["seconds"]) for row in rows]
    step = statistics.median(np.diff(at)) if len(at) > 1 else at[0]
    moved = all(float(row["gradient"]) > 0 for row in rows)
    fine = len(rows) == sizes.steps and moved and all(map(math.isfinite, losses))
    return Result(fine, f"loss {losses[0]:.4g} to {losses[-1]:.4g}; {1e3 * step:.0f} ms a step")


def system(device: str, folder: Path, sizes: Sizes) -> Result:
    """Priors for what was trained, the weights file, and a file coded with it, read on both."""
    trained = folder / "autoencoder-False-False" / "checkpoint.safetensors"
    images: dict[str, Any] = {"sources": [(same_files.PHOTOGRAPH.parent, 1.0)], "workers": 0}
    images["crop"] = 64
    extracted = folder / "indices.safetensors"
    indices.extract(
        resolve(Extraction, autoencoder=trained, output=extracted, count=8, device=device, **images)
    )
    priors = [
        prior.train(
            resolve(
                PriorTraining,
                autoencoder=trained,
                indices=[extracted],
                output=folder / f"prior-{level}",
                level=level,
                steps=sizes.steps,
                batch=4,
                channels=16,
                blocks=2,
                log_every=1,
                device=device,
            )
        )
        for level in range(len(PRESETS[sizes.preset].config.levels))
    ]
    found = [of_log(path.parent, sizes) for path in priors]
    weights = folder / "gpu-check.safetensors"
    export(trained, priors, weights, "gpu-check")
    read = crossed(device, "cpu", 1, str(weights), sizes)
    words = "; ".join(f"level {n}: {each.found}" for n, each in enumerate(found))
    return Result(all(each.fine for each in (*found, read)), f"{words}; then {read.found}")


def speed(device: str, model: str, effort: int, sizes: Sizes) -> Result:
    """Seconds on the device and on the CPU, warm; memory of the device at most."""
    image, words = sizes.photograph(), []
    for each in dict.fromkeys((device, "cpu")):
        if each != "cpu":
            torch.cuda.reset_peak_memory_stats()
        data = compress(image, effort=effort, model=model, device=each).data
        made = median(partial(compress, image, effort=effort, model=model, device=each), sizes.runs)
        read = median(partial(decompress, data, model=model, device=each), sizes.runs)
        memory = f", {torch.cuda.max_memory_allocated() >> 20} MiB" if each != "cpu" else ""
        words.append(f"{each}: compress {made:.2f} s, decompress {read:.2f} s{memory}")
    return Result(True, "; ".join(words))


def median(action: Callable[[], object], runs: int) -> float:
    """Seconds of a call that gives what is on the CPU, so that nothing is left to wait for."""
    action()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def checks(
    device: str, folder: Path, sizes: Sizes, model: str, generator: str
) -> Iterator[tuple[str, Check]]:
    """All checks with their names, in the order in which they build on each other."""
    yield "int8 products", partial(products, device)
    yield "golden files", partial(golden, device, sizes.golden)
    yield "frequencies", partial(frequencies, device, model, sizes)
    for effort in EFFORTS:
        for pair in dict.fromkeys([(device, "cpu"), ("cpu", device)]):
            name = f"effort {effort}, made on {pair[0]}, read on {pair[1]}"
            yield name, partial(crossed, *pair, effort, model, sizes)
    for guidance in (1.0, 1.5):
        yield (
            f"samples, guidance {guidance}",
            partial(samples, device, guidance, generator, sizes.samples),
        )
    for bfloat16, compiled in ((False, False), (True, False), (True, True)):
        how = f"{'bfloat16' if bfloat16 else 'float32'}{', compiled' if compiled else ''}"
        run = partial(training, device, folder, sizes, bfloat16=bfloat16, compiled=compiled)
        yield f"training, {how}", run
    yield "priors, export, files", partial(system, device, folder, sizes)
    for effort in EFFORTS:
        yield f"seconds, effort {effort}", partial(speed, device, model, effort, sizes)


@click.command(cls=Command)
@click.option("--device", default="cuda", show_default=True, help="What to compare with the CPU.")
@click.option("--only", metavar="TEXT", default="", help="Checks whose names contain this.")
def main(device: str, only: str) -> None:
    """Checks all that runs on a device; exit code 1 if anything is not as on the CPU."""
    if device != "cpu" and not torch.cuda.is_available():
        raise click.ClickException(
            f"there is no device {device!r} here; --device cpu runs all the same on the CPU"
        )
    sizes = DRY if device == "cpu" else Sizes()
    rows = report(device, sizes, DEFAULT_MODEL, default_generator(), only)
    name = torch.cuda.get_device_name() if device != "cpu" else "the CPU, so nothing of a GPU"
    print_table(
        f"{name}; torch {torch.__version__}, CUDA {torch.version.cuda}",
        ["check", "fine", "found", "seconds"],
        rows,
    )
    print_made(DEFAULT_MODEL)
    if any(row[1] == "NO" for row in rows):
        raise SystemExit(1)


def report(
    device: str, sizes: Sizes, model: str, generator: str, only: str = ""
) -> list[list[str]]:
    """A row for each check: its name, yes or NO, what was found, seconds."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        wanted = [
            each
            for each in checks(device, Path(folder), sizes, model, generator)
            if only in each[0]
        ]
        for name, check in tracked(wanted, "checks"):
            start = time.perf_counter()
            try:
                result = check()
            except Exception as error:  # whatever a device may do: the others are still told
                result = Result(False, f"{type(error).__name__}: {error}".splitlines()[0])
            seconds = f"{time.perf_counter() - start:.1f}"
            rows.append([name, "yes" if result.fine else "NO", result.found, seconds])
    return rows


if __name__ == "__main__":
    main()
