"""Whether frequencies and indices are the same integers whatever computes them.

One process compresses; every row is a process of its own with another setting, which decodes. All
have to find what the first row's one pass found, in every tile of every level. What they restore
from it may differ by 1 in a sample, since syntheses compute in floats.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec import container, kernels, registry, syntheses
from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.bench.images import fill, found_images, picture
from vqcodec.bench.processes import fresh
from vqcodec.cli.options import model_option
from vqcodec.codec import DEFAULT_BATCH, compress
from vqcodec.entropy import payload
from vqcodec.entropy.coder import CHOICE as CODER
from vqcodec.entropy.coder import Decoder
from vqcodec.entropy.gemm import matrix_product
from vqcodec.entropy.state import State
from vqcodec.image import Image
from vqcodec.kernels import CHOICE
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.tiles import Tiles
from vqcodec.tiling import Window
from vqcodec.weights_file import load

PHOTOGRAPH = Path(__file__).parents[1] / "tests" / "fixtures" / "coffee.png"
KODAK_SIZE = (512, 768)
ATEN, ONEDNN, GEMM = "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "VQCODEC_GEMM"
NUMBA_NAME, NUMBA_FEATURES = "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"
UNSET: dict[str, str | None] = dict.fromkeys(
    (ATEN, ONEDNN, GEMM, CODER, NUMBA_NAME, NUMBA_FEATURES)
)
PYTORCH, COMPILED = {CHOICE: "torch"}, {CHOICE: "numba"}


@dataclass(frozen=True)
class Setting:
    """What one process of the matrix runs with."""

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    batch: int = DEFAULT_BATCH
    device: str = "cpu"


CAPABILITIES = ("default", "avx2", "avx512")
# PyTorch crashes where it is asked for what the processor lacks; oneDNN ignores it.
HERE = CAPABILITIES.index(torch.backends.cpu.get_cpu_capability().lower()) + 1
SETTINGS = (
    Setting("PyTorch", PYTORCH),
    *(Setting(f"{ATEN}={value}", PYTORCH | {ATEN: value}) for value in CAPABILITIES[:HERE]),
    *(
        Setting(f"{ONEDNN}={value}", PYTORCH | {ONEDNN: value})
        for value in ("SSE41", "AVX2", "AVX512_CORE")
    ),
    Setting(f"{ATEN}=default {ONEDNN}=SSE41", PYTORCH | {ATEN: "default", ONEDNN: "SSE41"}),
    *(
        Setting(f"{GEMM}={value}", PYTORCH | {GEMM: value})
        for value in ("int8", "float32", "float64")
    ),
    *(Setting(f"tiles batched by {count}", PYTORCH, count) for count in (1, 16)),
    Setting("compiled", COMPILED),
    *(
        Setting(f"compiled {name}", COMPILED | {NUMBA_NAME: "generic", NUMBA_FEATURES: features})
        for name, features in (
            ("for AVX2", "+ssse3,+sse4.1,+avx,+avx2"),
            ("for SSSE3", "+ssse3"),
            ("for no vectors", ""),
        )
        if HERE > 1 or "avx2" not in features
    ),
    Setting(f"compiled, {ATEN}=default", COMPILED | {ATEN: "default"}),
    Setting(f"{CODER}=own", PYTORCH | {CODER: "own"}),
    Setting(f"compiled, {CODER}=own", COMPILED | {CODER: "own"}),
)
GPU = Setting("GPU", device="cuda")
THREADS = (1, 2)
TILES = (128, 1024)  # sides: several small ones fill batches, a large one fills threads


class Part(NamedTuple):
    """What one process found in a tile of a level.

    Attributes:
        frequencies: How many, found twice.
        indices: How many.
        one_pass: Hash of the frequencies, found in one pass.
        wavefront: The same, found by decoding.
        decoded: Hash of the indices.
    """

    frequencies: int
    indices: int
    one_pass: str
    wavefront: str
    decoded: str


@dataclass
class Found:
    """What one process found.

    Attributes:
        capability: PyTorch's, as it took the setting.
        product: What multiplied.
        seconds: Of everything but loading and restoring.
        parts: By file, level and tile.
        pixels: By file and name of the synthesis, uint8 [H, W, 3].
    """

    capability: str
    product: str
    seconds: float = 0.0
    parts: dict[tuple[int, int, Window], Part] = field(default_factory=dict)
    pixels: dict[tuple[int, str], npt.NDArray[np.uint8]] = field(default_factory=dict)

    def look(
        self,
        file: int,
        tiles: Tiles,
        coarser: Sequence[Tensor],
        payloads: Sequence[bytes],
        state: State,
        some: Sequence[Window],
        progress: payload.StepsDone,
    ) -> Tensor:
        """Decodes some tiles of a level for `Tiles.find`, and adds what there is in them."""
        of = dict(zip(tiles.windows, payloads, strict=True))
        indices, by_step = decoded(state, [of[window] for window in some], progress)
        one_pass = tiles.start(coarser, some).parallel(indices).cpu()
        for window, own, first, second in zip(some, indices, one_pass, by_step, strict=True):
            self.parts[file, len(coarser), window] = Part(
                first.numel(), own.numel(), hashed(first), hashed(second), hashed(own)
            )
        return indices

    def differences(self, first: Found) -> tuple[int, int, int]:
        """In how many tiles one pass, wavefront and indices are not what another one pass says."""
        pairs = [(self.parts[key], part) for key, part in first.parts.items()]
        one_pass = sum(own.one_pass != part.one_pass for own, part in pairs)
        wavefront = sum(own.wavefront != part.one_pass for own, part in pairs)
        indices = sum(own.decoded != part.decoded for own, part in pairs)
        return one_pass, wavefront, indices

    def farthest(self, first: Found, synthesis: str) -> int | None:
        """By how much a sample differs at most; None without such a synthesis."""
        pairs = [
            (self.pixels[key], pixels)
            for key, pixels in first.pixels.items()
            if key[1] == synthesis
        ]
        return max((_farthest(own, other) for own, other in pairs), default=None)


def _farthest(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(np.int16) - other).max())


def decoded(
    state: State, payloads: Sequence[bytes], progress: payload.StepsDone
) -> tuple[Tensor, Tensor]:
    """Indices as of `payload.decode`, and their frequencies as of `State.parallel`."""
    decoders = [Decoder(each) for each in payloads]
    count, height, width = state.shape
    size = max(group.size for group in state.groups)
    frequencies = torch.zeros(count, state.maps.shape[1], height * width, size, dtype=torch.int32)
    for step, group in payload.order(state, progress):
        rows, of, positions = state.read(step, group), state.groups[group], state.steps[step]
        own = [decoder.decode(each) for decoder, each in zip(decoders, rows, strict=True)]
        state.know(step, group, np.stack(own))
        asked = torch.from_numpy(rows).int().unflatten(1, (-1, len(positions))) + 1
        frequencies[:, of.books, positions, : of.size] = asked
    return state.maps, frequencies


def compressed(model: str, source: Path | None, tile: int, quality: int | None) -> bytes:
    """The file of an image, or of a photograph of Kodak's size."""
    torch.set_num_threads(1)
    pixels = fill(picture(PHOTOGRAPH), *KODAK_SIZE) if source is None else picture(source)
    image = Image(pixels, grey=False)
    return compress(image, quality=quality, lossless="never", model=model, tile=tile).data


@torch.no_grad()
def find(model: str, files: Sequence[bytes], setting: Setting, threads: int) -> Found:
    """Decodes files and hashes what it finds on the way."""
    torch.set_num_threads(threads)
    loaded = load(model, setting.device)
    gpu = loaded.device.type == "cuda"
    found = Found(
        torch.cuda.get_device_name() if gpu else torch.backends.cpu.get_cpu_capability(),
        product_of(loaded.device),
    )
    names = syntheses.NAMES if loaded.model_id in registry.SYNTHESES else (syntheses.FAITHFUL,)
    for file, data in enumerate(files):
        start = time.perf_counter()
        contents = container.unpack(data)
        tiles = Tiles(loaded, contents.header, setting.batch)
        indices: list[Tensor] = []
        for level, payloads in enumerate(contents.sections):
            look = partial(found.look, file, tiles, indices, payloads)
            indices.append(tiles.find(tiles.windows, indices, look, f"level {level}"))
        found.seconds += time.perf_counter() - start
        for name in names:
            restored = tiles.synthesize(indices, syntheses.synthesis_of(loaded, name))
            found.pixels[file, name] = restored
    return found


def product_of(device: torch.device) -> str:
    """What multiplies: a kind of PyTorch's, or the compiled way."""
    if not kernels.usable(device):
        return matrix_product(device).__name__.strip("_")
    from vqcodec.kernels.steps import WAY

    return WAY.name


def hashed(integers: Tensor) -> str:
    return hashlib.sha256(integers.int().cpu().numpy().tobytes()).hexdigest()


@click.command(cls=Command)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--only", metavar="TEXT", default="", help="Rows whose setting contains this.")
@model_option
def main(folder: Path | None, only: str, model: str | None) -> None:
    """The matrix over the images in FOLDER, or over a photograph of the tests at 768x512.

    Exit code 1 if anything differs, or a sample by more than 1.
    """
    model = model or DEFAULT_MODEL
    sources: list[Path | None] = [*found_images([folder])] if folder else [None]
    rows = [row for row in itertools.product(SETTINGS, THREADS) if only in row[0].name]
    if torch.cuda.is_available() and only in GPU.name:
        rows.append((GPU, THREADS[0]))
    if not rows:
        raise click.UsageError(f"no setting contains {only!r}")
    files = []
    for source, tile in itertools.product(sources, TILES):
        with fresh(variables=UNSET | {"OMP_NUM_THREADS": "1"}) as process:
            files.append(process.submit(compressed, model, source, tile, None).result())
    results: list[Found] = []
    for setting, count in tracked(rows, "settings"):
        variables = UNSET | setting.variables | {"OMP_NUM_THREADS": str(count)}
        with fresh(variables=variables) as process:
            results.append(process.submit(find, model, files, setting, count).result())
    first = results[0]
    differences = [found.differences(first) for found in results]
    farthest = [[found.farthest(first, name) for name in syntheses.NAMES] for found in results]
    frequencies = sum(part.frequencies for part in first.parts.values())
    indices = sum(part.indices for part in first.parts.values())
    print_table(
        f"{len(sources)} images, tiles of {', '.join(map(str, TILES))}: of {len(first.parts)} "
        f"tiles, with {frequencies} frequencies and {indices} indices, how many differ, and by how "
        f"much a sample is off at most"
        f"{'' if torch.cuda.is_available() else ' (no GPU here, so its row is left out)'}",
        [
            *("setting", "threads", "batch", "runs as", "product"),
            *("one pass", "wavefront", "indices", "exact", "seconds"),
            *(f"off, {name}" for name in syntheses.NAMES),
        ],
        (
            [
                *(setting.name, count, setting.batch, found.capability, found.product),
                *(*differ, "NO" if any(differ) else "yes", f"{found.seconds:.1f}"),
                *("" if each is None else each for each in off),
            ]
            for (setting, count), found, differ, off in zip(
                rows, results, differences, farthest, strict=True
            )
        ),
    )
    print_made(model)
    if any(map(any, differences)) or any((each or 0) > 1 for off in farthest for each in off):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
