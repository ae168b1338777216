"""Whether frequencies and indices are the same integers whatever computes them.

One process compresses; its indices, frequencies and files are the reference. Every other row is a
process of its own with another setting: it computes all frequencies of those indices in one pass,
then decodes the files by wavefront, and counts what differs.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch
from common import (
    KODAK_SIZE,
    Benchmark,
    console,
    find_images,
    in_fresh_process,
    json_option,
    kodak_sized,
    model_option,
    print_table,
    quality_option,
    recorded,
    store,
    yes,
)
from rich.progress import track
from torch import Tensor

from vqcodec import container
from vqcodec.codec import DEFAULT_BATCH, compress
from vqcodec.container import Container
from vqcodec.entropy import payload
from vqcodec.entropy.coder import Decoder
from vqcodec.entropy.gemm import matrix_product
from vqcodec.entropy.prior import Prior, State
from vqcodec.entropy.wavefront import steps
from vqcodec.tiling import Window, batches, padded, split
from vqcodec.weights_file import Model, load

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


def make_reference(
    model: str, picture: Path | None, tile: int, quality: int | None, stem: Path
) -> None:
    """Writes the file, the indices and the frequencies; runs in a process of its own."""
    torch.set_num_threads(1)
    _, original = kodak_sized(picture)
    with recorded("encode") as found:
        compressed = compress(original, quality=quality, model=model, tile=tile)
    stem.with_suffix(".vqz").write_bytes(compressed.data)
    contents = container.unpack(compressed.data)
    loaded = load(model)
    for level, maps in enumerate(found[-1]):
        np.save(_indices_file(stem, level), maps)
    indices = _load_indices(stem, loaded)
    for level in range(contents.header.levels):
        passes = Passes(loaded, contents, indices, level, DEFAULT_BATCH)
        np.save(_frequencies_file(stem, level), passes.parallel())


class Passes:
    """The passes over one level of a file.

    Args:
        model: The model of the file.
        contents: The file.
        indices: What it was made of, int64 [G, H/s, W/s] a level.
        level: Which level.
        batch: Tiles at a time.
    """

    def __init__(
        self,
        model: Model,
        contents: Container,
        indices: Sequence[Tensor],
        level: int,
        batch: int,
    ) -> None:
        self.model, self.indices, self.level, self.batch = model, indices, level, batch
        self.header = contents.header
        self.prior = model.priors[level]
        height, width = (
            padded(size, model.strides[0]) for size in (self.header.height, self.header.width)
        )
        self.windows = split(height, width, self.header.tile)
        self.payloads = dict(zip(self.windows, contents.sections[level], strict=True))

    def parallel(self) -> Array:
        """Frequencies of all indices in one pass: int32 [G, H/s, W/s, K]."""
        whole = self._empty_frequencies()
        for group, state, own in self._groups():
            found = self.prior.parallel(state, own).cpu().numpy()
            for window, part in zip(group, found, strict=True):
                place = self._place(window)
                whole[place] = part.reshape(whole[place].shape)
        return whole

    def wavefront(self) -> tuple[Array, Array]:
        """Frequencies as above, and indices int32 [G, H/s, W/s], found by decoding the file."""
        whole, decoded = self._empty_frequencies(), np.zeros(self.indices[self.level].shape, "i4")
        for group, state, own in self._groups():
            payloads = [self.payloads[window] for window in group]
            reader = Reader(payloads, own, self.prior, state)
            found = payload.find(self.prior, state, reader).cpu().numpy()
            for n, window in enumerate(group):
                place = self._place(window)
                whole[place] = reader.frequencies[n].reshape(whole[place].shape)
                decoded[place] = found[n]
        return whole, decoded

    def _empty_frequencies(self) -> Array:
        return np.zeros((*self.indices[self.level].shape, max(self.prior.sizes)), "i4")

    def _place(self, window: Window) -> tuple[slice, ...]:
        return (slice(None), *(window // self.model.strides[self.level]).slices)

    def _groups(self) -> Iterator[tuple[list[Window], State, Tensor]]:
        for group in batches(self.windows, self.batch):
            maps = [
                torch.stack([whole[(slice(None), *(window // stride).slices)] for window in group])
                for whole, stride in zip(self.indices, self.model.strides, strict=True)
            ][: self.level + 1]
            quality = torch.full((len(group),), self.header.quality - 1, device=self.model.device)
            shape = maps[-1].shape[2:]
            yield (
                group,
                self.prior.start(maps[:-1], quality, torch.zeros_like(quality), *shape),
                maps[-1],
            )


class Reader:
    """Reads symbols for `Prior.wavefront`, and keeps their frequencies."""

    def __init__(self, payloads: Sequence[bytes], own: Tensor, prior: Prior, state: State) -> None:
        self.prior = prior
        self.decoders = [Decoder(payload) for payload in payloads]
        self.order = [(group, s) for s in steps(*own.shape[2:]) for group in state.groups]
        self.done = 0
        self.frequencies = np.zeros((*own.flatten(2).shape, max(prior.sizes)), "i4")

    def __call__(self, codebook: int, logits: Tensor) -> Tensor:
        """Logits [N, n * p, K] of n codebooks and one step to symbols int64 [N, n * p]."""
        frequencies = self.prior.frequencies(logits)
        group, positions = self.order[self.done]
        assert group.codebooks.start == codebook
        self.done += 1
        own = self.frequencies[:, codebook : group.codebooks.stop, :, : logits.shape[2]]
        own[:, :, positions.numpy()] = frequencies.unflatten(1, (-1, len(positions))).cpu().numpy()
        rows = [
            decoder.decode(each) for decoder, each in zip(self.decoders, frequencies, strict=True)
        ]
        return torch.from_numpy(np.stack(rows)).long()


@torch.inference_mode()
def compare(model: str, stems: Sequence[Path], setting: Setting, threads: int) -> Differences:
    """Counts what differs from the references; runs in a process of its own."""
    torch.set_num_threads(threads)
    loaded = load(model, setting.device)
    start = time.perf_counter()
    parallel = wavefront = wrong = frequencies_compared = indices_compared = 0
    for stem in stems:
        contents = container.unpack(stem.with_suffix(".vqz").read_bytes())
        indices = _load_indices(stem, loaded)
        for level, coded in enumerate(indices):
            expected = np.load(_frequencies_file(stem, level))
            passes = Passes(loaded, contents, indices, level, setting.batch)
            parallel += int((passes.parallel() != expected).sum())
            found, decoded = passes.wavefront()
            wavefront += int((found != expected).sum())
            wrong += int((decoded != coded.cpu().numpy()).sum())
            frequencies_compared += expected.size
            indices_compared += decoded.size
    return Differences(
        parallel,
        wavefront,
        wrong,
        frequencies_compared,
        indices_compared,
        torch.cuda.get_device_name() if loaded.device.type == "cuda" else _capability(),
        matrix_product(loaded.device).__name__.strip("_"),
        time.perf_counter() - start,
    )


def _capability() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _indices_file(stem: Path, level: int) -> Path:
    return stem.with_name(f"{stem.name}-indices-{level}.npy")


def _frequencies_file(stem: Path, level: int) -> Path:
    return stem.with_name(f"{stem.name}-frequencies-{level}.npy")


def _load_indices(stem: Path, model: Model) -> list[Tensor]:
    return [
        torch.from_numpy(np.load(_indices_file(stem, level)).astype(np.int64)).to(model.device)
        for level in range(len(model.strides))
    ]


@click.command(cls=Benchmark)
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
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
@json_option
def main(
    folder: Path | None,
    threads: tuple[int, ...],
    tiles: tuple[int, ...],
    only: str,
    quality: int | None,
    model: str,
    json_file: Path | None,
) -> None:
    """The matrix over the images in FOLDER, or over photographs of the tests at 768x512.

    Exit code 1 if anything differs.
    """
    pictures: list[Path | None] = [*find_images(folder)] if folder else [None]
    rows = [
        (setting, count)
        for setting, count in itertools.product(SETTINGS, threads)
        if only in setting.name
    ]
    if torch.cuda.is_available() and only in GPU.name:
        rows.append((GPU, threads[0]))
    if not rows:
        raise click.UsageError(f"no setting contains {only!r}")
    results: list[tuple[Setting, int, Differences]] = []
    with tempfile.TemporaryDirectory() as temporary:
        stems: list[Path] = []
        for picture, tile in itertools.product(pictures, tiles):
            stem = Path(temporary) / f"{len(stems)}"
            in_fresh_process(
                make_reference, model, picture, tile, quality, stem, variables=_variables({}, 1)
            )
            stems.append(stem)
        for setting, count in track(rows, "settings", console=console):
            variables = _variables(setting.variables, count)
            found = in_fresh_process(compare, model, stems, setting, count, variables=variables)
            counts = f"{found.parallel} {found.wavefront} {found.indices}"
            console.print(f"{setting.name}, {count} threads: {counts} ({found.seconds:.1f} s)")
            results.append((setting, count, found))
    report(results, pictures, tiles)
    exact = all(found.none for _, _, found in results)
    store(
        json_file,
        "exactness",
        model,
        {
            "images": [str(picture.name) if picture else None for picture in pictures],
            "tiles": tiles,
            "gpu": torch.cuda.is_available(),
            "exact": exact,
            "rows": [
                {**asdict(setting), "threads": count, **asdict(found)}
                for setting, count, found in results
            ],
        },
    )
    if not exact:
        raise SystemExit(1)


def _variables(settings: dict[str, str], threads: int) -> dict[str, str | None]:
    return {**UNSET, **settings, "OMP_NUM_THREADS": str(threads)}


def report(
    results: Sequence[tuple[Setting, int, Differences]],
    pictures: Sequence[Path | None],
    tiles: Sequence[int],
) -> None:
    first = results[0][2]
    what = f"{len(pictures)} images" if pictures[0] else f"{KODAK_SIZE[1]}x{KODAK_SIZE[0]}"
    print_table(
        f"{what}, tiles of {', '.join(map(str, tiles))}: of {first.frequencies_compared} "
        f"frequencies and {first.indices_compared} indices, how many differ",
        [
            "setting",
            "threads",
            "batch",
            "runs as",
            "product",
            "one pass",
            "wavefront",
            "indices",
            "exact",
            "seconds",
        ],
        [
            [
                setting.name,
                count,
                setting.batch,
                found.capability,
                found.product,
                found.parallel,
                found.wavefront,
                found.indices,
                yes(found.none),
                f"{found.seconds:.1f}",
            ]
            for setting, count, found in results
        ],
    )
    if not torch.cuda.is_available():
        console.print("no GPU here: the GPU's row is left out")


if __name__ == "__main__":
    main()
