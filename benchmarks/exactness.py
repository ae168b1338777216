"""Whether frequencies and indices are the same integers whatever computes them.

One process compresses; its files, and the frequencies of their indices, are the reference. Every
other row is a process of its own with another setting: it computes all frequencies of those indices
in one pass, then decodes the files by wavefront, and counts what differs.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec import container
from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.images import fill, found_images, picture
from vqcodec.bench.processes import fresh
from vqcodec.bench.profile import indices_of, opened
from vqcodec.cli.options import model_option, quality_option
from vqcodec.codec import DEFAULT_BATCH, compress
from vqcodec.container import Container, Header
from vqcodec.entropy.coder import Decoder
from vqcodec.entropy.gemm import matrix_product
from vqcodec.entropy.prior import Prior, State
from vqcodec.entropy.wavefront import steps
from vqcodec.image import Image
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.tiling import Window, batches, padded, split
from vqcodec.weights_file import Model, load

PHOTOGRAPH = Path(__file__).parents[1] / "tests" / "fixtures" / "coffee.png"
KODAK_SIZE = (512, 768)
ATEN, ONEDNN, GEMM = "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "VQCODEC_GEMM"
UNSET: dict[str, str | None] = {ATEN: None, ONEDNN: None, GEMM: None}

Array = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Setting:
    """What one process of the matrix runs with."""

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    batch: int = DEFAULT_BATCH
    device: str = "cpu"


SETTINGS = (
    Setting("as it comes"),
    *(Setting(f"{ATEN}={value}", {ATEN: value}) for value in ("default", "avx2", "avx512")),
    *(Setting(f"{ONEDNN}={value}", {ONEDNN: value}) for value in ("SSE41", "AVX2", "AVX512_CORE")),
    Setting(f"{ATEN}=default {ONEDNN}=SSE41", {ATEN: "default", ONEDNN: "SSE41"}),
    *(Setting(f"{GEMM}={value}", {GEMM: value}) for value in ("int8", "float32", "float64")),
    *(Setting(f"tiles batched by {count}", batch=count) for count in (1, 16)),
)
GPU = Setting("GPU", device="cuda")


@dataclass(frozen=True)
class Differences:
    """What one process found.

    Attributes:
        parallel: Frequencies of the one pass that differ from the reference's.
        wavefront: Frequencies of the wavefront that differ from the reference's one pass.
        indices: Decoded indices that differ from those that were coded.
        frequencies_compared: Of each of the two.
        indices_compared: How many.
        capability: PyTorch's, as it took the setting.
        product: The integer matrix product in use.
        seconds: Of everything but loading.
    """

    parallel: int
    wavefront: int
    indices: int
    frequencies_compared: int
    indices_compared: int
    capability: str
    product: str
    seconds: float

    @property
    def none(self) -> bool:
        """Whether all is the same."""
        return self.parallel == self.wavefront == self.indices == 0


# The passes over one level of a file


def tiles_of(model: Model, header: Header) -> list[Window]:
    """The tiles of a file, in the order of its payloads."""
    sides = (padded(side, model.strides[0]) for side in (header.height, header.width))
    return split(*sides, header.tile)


def batched(
    model: Model, header: Header, indices: Sequence[Tensor], batch: int
) -> Iterator[tuple[list[Window], State, Tensor]]:
    """The last of some levels, some tiles at a time.

    Args:
        model: Of the file.
        header: Of the file.
        indices: Of the levels, int64 [G, H/s, W/s] each.
        batch: Tiles at a time.

    Yields:
        The tiles, the state of their prior, and their indices, int64 [N, G, h, w].
    """
    level = len(indices) - 1
    for tiles in batches(tiles_of(model, header), batch):
        maps = [
            torch.stack([whole[place(tile, stride)] for tile in tiles])
            for whole, stride in zip(indices, model.strides, strict=False)
        ]
        quality = torch.full((len(tiles),), header.quality - 1, device=model.device)
        shape, label = maps[-1].shape[2:], torch.zeros_like(quality)
        yield tiles, model.priors[level].start(maps[:-1], quality, label, *shape), maps[-1]


def place(tile: Window, stride: int) -> tuple[slice, ...]:
    """Where a tile is in a map [G, H/s, W/s]."""
    return (slice(None), *(tile // stride).slices)


def one_pass(model: Model, header: Header, indices: Sequence[Tensor], batch: int) -> Array:
    """Frequencies of the last level in one pass: int32 [G, H/s, W/s, K]."""
    prior, stride = model.priors[len(indices) - 1], model.strides[len(indices) - 1]
    whole = np.zeros((*indices[-1].shape, max(prior.sizes)), "i4")
    for tiles, state, own in batched(model, header, indices, batch):
        found = prior.parallel(state, own).cpu().numpy()
        for tile, part in zip(tiles, found, strict=True):
            where = whole[place(tile, stride)]
            where[:] = part.reshape(where.shape)
    return whole


def wavefront(
    model: Model, contents: Container, indices: Sequence[Tensor], batch: int
) -> tuple[Array, Array]:
    """Frequencies as above, and indices int32 [G, H/s, W/s], found by decoding the file."""
    level = len(indices) - 1
    prior, stride = model.priors[level], model.strides[level]
    tiles = tiles_of(model, contents.header)
    payloads = dict(zip(tiles, contents.sections[level], strict=True))
    whole = np.zeros((*indices[-1].shape, max(prior.sizes)), "i4")
    decoded = np.zeros(indices[-1].shape, "i4")
    for some, state, own in batched(model, contents.header, indices, batch):
        reader = Reader([payloads[tile] for tile in some], own, prior, state)
        found = prior.wavefront(state, reader).cpu().numpy()
        for tile, frequencies, part in zip(some, reader.frequencies, found, strict=True):
            where = whole[place(tile, stride)]
            where[:] = frequencies.reshape(where.shape)
            decoded[place(tile, stride)] = part
    return whole, decoded


class Reader:
    """Reads symbols for `Prior.wavefront`, and keeps their frequencies."""

    def __init__(self, payloads: Sequence[bytes], own: Tensor, prior: Prior, state: State) -> None:
        self.prior = prior
        self.decoders = [Decoder(payload) for payload in payloads]
        self.order = ((group, s) for s in steps(*own.shape[2:]) for group in state.groups)
        self.frequencies = np.zeros((*own.flatten(2).shape, max(prior.sizes)), "i4")

    def __call__(self, codebook: int, logits: Tensor) -> Tensor:
        """Logits [N, n * p, K] of n codebooks and one step to symbols int64 [N, n * p]."""
        frequencies = self.prior.frequencies(logits)
        group, positions = next(self.order)
        assert group.codebooks.start == codebook
        own = self.frequencies[:, codebook : group.codebooks.stop, :, : logits.shape[2]]
        own[:, :, positions.numpy()] = frequencies.unflatten(1, (-1, len(positions))).cpu().numpy()
        rows = [
            decoder.decode(each) for decoder, each in zip(self.decoders, frequencies, strict=True)
        ]
        return torch.from_numpy(np.stack(rows)).long()


# In processes of their own


def make_reference(
    model: str, source: Path | None, tile: int, quality: int | None, stem: Path
) -> None:
    """Writes the file of an image, or of a photograph of Kodak's size, and what it holds."""
    torch.set_num_threads(1)
    pixels = fill(picture(PHOTOGRAPH), *KODAK_SIZE) if source is None else picture(source)
    image = Image(pixels, grey=False)
    data = compress(image, quality=quality, model=model, tile=tile).data
    stem.with_suffix(".vqz").write_bytes(data)
    stages, contents = opened(data, model)
    indices = indices_of(stages, contents)
    for level, maps in enumerate(indices):
        frequencies = one_pass(load(model), contents.header, indices[: level + 1], DEFAULT_BATCH)
        np.save(file_of(stem, "indices", level), maps.numpy())
        np.save(file_of(stem, "frequencies", level), frequencies)


def file_of(stem: Path, what: str, level: int) -> Path:
    return stem.with_name(f"{stem.name}-{what}-{level}.npy")


@torch.inference_mode()
def compare(model: str, stems: Sequence[Path], setting: Setting, threads: int) -> Differences:
    """Counts what differs from the references."""
    torch.set_num_threads(threads)
    loaded = load(model, setting.device)
    start = time.perf_counter()
    counts = np.zeros(5, int)
    for stem in stems:
        contents = container.unpack(stem.with_suffix(".vqz").read_bytes())
        indices: list[Tensor] = []
        for level in range(contents.header.levels):
            coded = np.load(file_of(stem, "indices", level))
            indices.append(torch.from_numpy(coded).to(loaded.device))
            expected = np.load(file_of(stem, "frequencies", level))
            parallel = one_pass(loaded, contents.header, indices, setting.batch)
            found, decoded = wavefront(loaded, contents, indices, setting.batch)
            counts += [
                (parallel != expected).sum(),
                (found != expected).sum(),
                (decoded != coded).sum(),
                expected.size,
                coded.size,
            ]
    gpu = loaded.device.type == "cuda"
    return Differences(
        *counts.tolist(),
        torch.cuda.get_device_name() if gpu else torch.backends.cpu.get_cpu_capability(),
        matrix_product(loaded.device).__name__.strip("_"),
        time.perf_counter() - start,
    )


@click.command(cls=Command)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--threads", type=int, multiple=True, default=(1, 2), show_default=True)
@click.option(
    "--tile",
    "tiles",
    type=int,
    multiple=True,
    default=(128, 1024),
    show_default=True,
    help="Tile sides to code with: several small ones fill batches, a large one fills threads.",
)
@click.option("--only", metavar="TEXT", default="", help="Rows whose setting contains this.")
@quality_option
@model_option
def main(
    folder: Path | None,
    threads: tuple[int, ...],
    tiles: tuple[int, ...],
    only: str,
    quality: int | None,
    model: str | None,
) -> None:
    """The matrix over the images in FOLDER, or over a photograph of the tests at 768x512.

    Exit code 1 if anything differs.
    """
    model = model or DEFAULT_MODEL
    sources: list[Path | None] = [*found_images([folder])] if folder else [None]
    rows = [row for row in itertools.product(SETTINGS, threads) if only in row[0].name]
    if torch.cuda.is_available() and only in GPU.name:
        rows.append((GPU, threads[0]))
    if not rows:
        raise click.UsageError(f"no setting contains {only!r}")
    results: list[Differences] = []
    with tempfile.TemporaryDirectory() as temporary:
        stems: list[Path] = []
        for source, tile in itertools.product(sources, tiles):
            stems.append(Path(temporary) / f"{len(stems)}")
            with fresh(variables=UNSET | {"OMP_NUM_THREADS": "1"}) as process:
                process.submit(make_reference, model, source, tile, quality, stems[-1]).result()
        for setting, count in tracked(rows, "settings"):
            variables = UNSET | setting.variables | {"OMP_NUM_THREADS": str(count)}
            with fresh(variables=variables) as process:
                results.append(process.submit(compare, model, stems, setting, count).result())
    first = results[0]
    print_table(
        f"{len(sources)} images, tiles of {', '.join(map(str, tiles))}: of "
        f"{first.frequencies_compared} frequencies and {first.indices_compared} indices, how many "
        f"differ{'' if torch.cuda.is_available() else ' (no GPU here, so its row is left out)'}",
        [
            *("setting", "threads", "batch", "runs as", "product"),
            *("one pass", "wavefront", "indices", "exact", "seconds"),
        ],
        (
            [
                *(setting.name, count, setting.batch, found.capability, found.product),
                *(found.parallel, found.wavefront, found.indices),
                *("yes" if found.none else "NO", f"{found.seconds:.1f}"),
            ]
            for (setting, count), found in zip(rows, results, strict=True)
        ),
    )
    print_made(model)
    if not all(found.none for found in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
