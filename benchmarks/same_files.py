"""Whether files are made and read alike by two machines, builds or devices.

    python benchmarks/same_files.py record here
    python benchmarks/same_files.py record there --files here      # on the other machine
    python benchmarks/same_files.py compare here there

A record holds the indices and pixels of every golden file and of files made anew. No index of a
file may differ; pixels are restored in float and may by 1. Whether compressing gives the same bytes
is said, too: which indices are chosen rests on floats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from vqcodec import container
from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.codec import DEFAULT_BATCH, compress
from vqcodec.container import WEIGHTS_HASH_LENGTH
from vqcodec.drawing.sampling import sample
from vqcodec.errors import CodecError
from vqcodec.image import Image, image_of, load
from vqcodec.registry import default_generator
from vqcodec.tiles import Tiles

TESTS = Path(__file__).parents[1] / "tests"
GOLDEN = TESTS / "golden"
PHOTOGRAPH = TESTS / "fixtures" / "astronaut-crop.png"
SIDE = 64
QUALITIES = (10, 43, 73)  # in whose groups there are more and more codebooks
CLASS = 97
PIXELS = "pixels"

Arrays = dict[str, npt.NDArray[np.int64]]


class Differences(NamedTuple):
    """How two readings of the same thing differ.

    Attributes:
        indices: In how many.
        pixels: By how much, at most.
    """

    indices: int
    pixels: int

    @property
    def fine(self) -> bool:
        """Whether it is no more than two machines may differ by."""
        return not self.indices and self.pixels <= 1


@cache
def golden_models() -> dict[bytes, Path]:
    """The golden files' own models, by the hash that a file names."""
    names = json.loads((GOLDEN / "manifest.json").read_text())["model"]
    return {bytes.fromhex(names[name])[:WEIGHTS_HASH_LENGTH]: GOLDEN / name for name in names}


def golden_files() -> list[Path]:
    """Those that are coded with loss: of the tests' models, then of the packaged ones."""
    paths = [*sorted(GOLDEN.glob("*.vqz")), *sorted((GOLDEN / "packaged").glob("*.vqz"))]
    return [path for path in paths if not container.peek(path.read_bytes()).lossless]


def read(data: bytes, device: str = "cpu", model: Path | None = None) -> Arrays:
    """All indices of a file by level, and its pixels, as the model's own synthesis restores them.

    A model is to be given if it is neither a packaged one nor one of the golden files.
    """
    contents = container.unpack(data)
    weights = model or golden_models().get(contents.header.weights_hash)
    tiles = Tiles.of_file(contents.header, weights, device, DEFAULT_BATCH)
    indices = []
    for payloads in contents.sections:
        indices.append(tiles.decode(payloads, indices))
    arrays = {f"level.{n}": each.cpu().numpy() for n, each in enumerate(indices)}
    restored = image_of(contents, tiles.synthesize(indices))
    return arrays | {PIXELS: restored.pixels.astype(np.int64)}


def made(effort: int, device: str = "cpu") -> Iterator[tuple[str, bytes]]:
    """Names and contents of small files of the packaged model."""
    picture = load(PHOTOGRAPH)
    crop = Image(np.ascontiguousarray(picture.pixels[:SIDE, -SIDE:]), grey=False)
    for quality in QUALITIES:
        whole = compress(crop, quality=quality, effort=effort, lossless="never", device=device)
        yield f"effort{effort}-q{quality}.vqz", whole.data


def differences(first: Arrays, second: Arrays) -> Differences:
    """Of what two machines read."""
    if first.keys() != second.keys() or any(first[k].shape != second[k].shape for k in first):
        raise CodecError("records of different things cannot be compared; record them anew")
    indices = sum(int((first[key] != second[key]).sum()) for key in first if key != PIXELS)
    return Differences(indices, int(np.abs(first[PIXELS] - second[PIXELS]).max()))


@click.group()
def main() -> None:
    """Records what this machine makes and reads, and compares such records."""


@main.command(cls=Command)
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--device", default="cpu", help="Where to run the networks.")
@click.option("--effort", "efforts", type=int, multiple=True, default=(1, 5), show_default=True)
@click.option(
    *("--files", "others"),
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A record of another machine, whose files are read as well.",
)
@click.option("--only", metavar="TEXT", default="", help="Golden files whose names contain this.")
@click.option("--no-sample", is_flag=True, help="Draw nothing.")
def record(
    out: Path,
    device: str,
    efforts: tuple[int, ...],
    others: Path | None,
    only: str,
    no_sample: bool,
) -> None:
    """Writes into the folder OUT what is made and read here."""
    (out / "made").mkdir(parents=True, exist_ok=True)
    (out / "read").mkdir(exist_ok=True)
    for effort in tracked(efforts, "compressed"):
        for name, data in made(effort, device):
            (out / "made" / name).write_bytes(data)
    files = [path for path in golden_files() if only in path.name]
    for folder in (out, others):
        files += [] if folder is None else sorted((folder / "made").glob("*.vqz"))
    for data in tracked({path.read_bytes(): None for path in files}, "read"):
        name = hashlib.sha256(data).hexdigest()[:16]
        save_file(read(data, device), out / "read" / f"{name}.safetensors")
    if not no_sample:
        drawn = sample(classes=[CLASS], seed=5, model=default_generator(), device=device)
        save_file({PIXELS: drawn[0].pixels.astype(np.int64)}, out / "read" / "sample.safetensors")


@main.command(cls=Command)
@click.argument("first", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("second", type=click.Path(path_type=Path, exists=True, file_okay=False))
def compare(first: Path, second: Path) -> None:
    """Compares two records; exit code 1 if an index differs, or a pixel by more than 1.

    Files that only one of them has read are left out, and counted.
    """
    known = {path.name for path in (first / "read").iterdir()}
    common = sorted(known & {path.name for path in (second / "read").iterdir()})
    if not common:
        raise CodecError(f"{first} and {second} have read nothing in common; see --files")
    found, indices = {}, 0
    for name in common:
        one, other = (load_file(folder / "read" / name) for folder in (first, second))
        found[name] = differences(one, other)
        indices += sum(one[key].size for key in one if key != PIXELS)
    files = [name for name in common if not name.startswith("sample")]
    drawn = [name for name in common if name.startswith("sample")]
    rows: list[list[object]] = [
        [
            what,
            len(of),
            sum(found[name].indices for name in of),
            max(found[name].pixels for name in of),
        ]
        for what, of in (("files read", files), ("samples drawn", drawn))
        if of
    ]
    print_table(
        f"{first} and {second}: {indices} indices",
        ["what", "of them", "indices that differ", "pixels, at most"],
        rows,
    )
    pairs = [
        (path.read_bytes(), (second / "made" / path.name).read_bytes())
        for path in sorted((first / "made").iterdir())
        if (second / "made" / path.name).exists()
    ]
    same = sum(one == other for one, other in pairs)
    click.echo(f"of {len(pairs)} files made by both {same} have the same bytes")
    print_made(None)
    if not all(each.fine for each in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
