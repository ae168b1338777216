"""What the benchmarks share: arguments, tables, stored results, fresh processes, looking inside."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from vqcodec import files, image, registry
from vqcodec.errors import CodecError
from vqcodec.image import Image
from vqcodec.metrics.reconstruction import reconstruct
from vqcodec.photos import Photo
from vqcodec.tiles import Tiles
from vqcodec.tiling import crop
from vqcodec.weights_file import Model

Pixels = npt.NDArray[np.uint8]
Maps = list[npt.NDArray[np.uint16]]
Result = TypeVar("Result")

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures"
PHOTOGRAPHS = ("coffee.png", "chelsea.png")
KODAK_SIZE = (512, 768)
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".ppm", ".bmp", ".tif", ".tiff"}
WIDTH_OF_NO_TERMINAL = 160

console = Console(stderr=True)  # progress; results go to standard output

model_option = click.option(
    "--model",
    default=registry.DEFAULT_MODEL,
    show_default=True,
    metavar="ID|FILE",
    help="A model id, or the path of a .safetensors file.",
)
json_option = click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also store the results here.",
)
quality_option = click.option(
    "--quality", type=click.IntRange(1, 255), metavar="N", help="The model's default if not given."
)
folder_argument = click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path)
)


class Benchmark(click.Command):
    """A command that reports a CodecError as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except CodecError as error:
            raise click.ClickException(str(error)) from error


# Images


def find_images(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise click.ClickException(f"{folder}: holds no images")
    return found


def load_picture(path: Path) -> Image:
    """An image without alpha, which is kept as it is and says nothing about a model."""
    return replace(image.load(path), alpha=None)


def tiled_photograph(height: int, width: int) -> Image:
    """The photographs of the tests side by side, repeated to fill any size."""
    parts = [image.load(FIXTURES / name).pixels for name in PHOTOGRAPHS]
    rows = min(len(part) for part in parts)
    pattern = np.concatenate([part[:rows] for part in parts], 1)
    repeats = (-(-height // pattern.shape[0]), -(-width // pattern.shape[1]), 1)
    return Image(np.ascontiguousarray(crop(np.tile(pattern, repeats), height, width)), grey=False)


def kodak_sized(path: Path | None) -> tuple[str, Image]:
    """Name and content of the image at `path`, or of a 768x512 one made of photographs."""
    if path is not None:
        return path.name, load_picture(path)
    return "two photographs side by side", tiled_photograph(*KODAK_SIZE)


def restored(model: Model, photos: Sequence[Photo], side: int) -> Tensor:
    """The middles of photos after a way through the autoencoder, uint8 [N, side, side, 3]."""
    found = reconstruct(model, photos, side=side)
    shown = track(found, "reconstructions", len(photos), console=console)
    return torch.stack([after for _, _, after in shown])


# Time


def timed(action: Callable[[], object], runs: int) -> float:
    """Median seconds, after one run to warm up."""
    action()
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


# Processes


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Sets environment variables, or removes those that are None, for the block."""
    before = {name: os.environ.get(name) for name in variables}

    def apply(values: Mapping[str, str | None]) -> None:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    apply(variables)
    try:
        yield
    finally:
        apply(before)


@contextmanager
def fresh_process(
    variables: Mapping[str, str | None] | None = None,
) -> Iterator[ProcessPoolExecutor]:
    """A new Python process that shares nothing with this one but files and environment."""
    spawn = multiprocessing.get_context("spawn")
    with environment(variables or {}), ProcessPoolExecutor(1, mp_context=spawn) as process:
        yield process


def in_fresh_process(
    function: Callable[..., Result],
    *arguments: Any,
    variables: Mapping[str, str | None] | None = None,
) -> Result:
    """Calls a function of a module in a process of its own and gives its result."""
    with fresh_process(variables) as process:
        return process.submit(function, *arguments).result()


def memory(field: str) -> int:
    """A field of this process's memory in bytes: VmRSS, VmHWM (the peak of VmRSS) or VmSize.

    Unlike `ru_maxrss`, VmHWM does not include the size of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) * 1024


# Inside the corridor


@contextmanager
def recorded(stage: str) -> Iterator[list[Maps]]:
    """Records the indices that a stage of the corridor is called with, level by level.

    `compress` and `decompress` run as they are; this only looks on.

    Args:
        stage: `encode` or `synthesize`: methods of `vqcodec.tiles.Tiles`.
    """
    found: list[Maps] = []
    original = getattr(Tiles, stage)

    def looking_on(self: Tiles, indices: Any) -> Any:
        found.append([maps.cpu().numpy().astype(np.uint16) for maps in indices])
        return original(self, indices)

    setattr(Tiles, stage, looking_on)
    try:
        yield found
    finally:
        setattr(Tiles, stage, original)


# Results


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table on standard output; floats as they were formatted by the caller."""
    table = Table(title=title, title_justify="left")
    for n, column in enumerate(columns):
        table.add_column(column, justify="left" if n == 0 else "right")
    for row in rows:
        table.add_row(*map(str, row))
    output = Console()
    if not output.is_terminal:
        output = Console(width=WIDTH_OF_NO_TERMINAL)
    output.print(table)


def yes(answer: bool) -> str:
    return "yes" if answer else "NO"


def machine() -> dict[str, Any]:
    """What the results depend on."""
    packages = ("torch", "numpy", "pillow", "constriction")
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def without_nan(value: Any) -> Any:
    """The same with null, which JSON has, for every number that is none."""
    if isinstance(value, Mapping):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def store(json_file: Path | None, name: str, model: str | None, results: Mapping[str, Any]) -> None:
    """Writes the results, with the model's hash, if there is one, and the machine, if wanted."""
    if json_file is None:
        return
    content: dict[str, Any] = {"benchmark": name}
    if model is not None:
        weights = registry.locate(model)
        content |= {"model_id": weights.model_id, "weights_sha256": weights.sha256}
    content |= {"machine": machine(), **results}
    encoded = json.dumps(without_nan(content), indent=2, allow_nan=False) + "\n"
    files.write_atomically(json_file, encoded.encode(), force=True)
