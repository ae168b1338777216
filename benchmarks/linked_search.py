"""What a search for the nearest code vector costs: linked codebooks, one flat one, several.

HR-VQVAE's linked levels {8, 64, 512} hold 512 code vectors in the finest one and compare a latent
with 8 of them a level. A flat codebook of 512 compares it with all, and three residual levels of
512 that are not linked with 3 x 512. Latents and code vectors are random: the cost does not depend
on what they hold.

Source: Adiban et al. 2022, section 3.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import common
import torch
from torch import Tensor
from torch.nn import functional as F

from vqcodec.models.vqvae import nearest


@dataclass(frozen=True)
class Search:
    """One way to search.

    Attributes:
        name: What it is called in the table.
        levels: Levels, each quantizing what the ones before left.
        num_embeddings: Code vectors that a latent is compared with, at each.
        linked: The path through the levels before selects the codebook.
    """

    name: str
    levels: int
    num_embeddings: int
    linked: bool = False

    @property
    def distances(self) -> int:
        """Distances computed for a position."""
        return self.levels * self.num_embeddings

    @property
    def stored(self) -> int:
        """Code vectors of all codebooks."""
        if not self.linked:
            return self.distances
        return sum(self.num_embeddings ** (n + 1) for n in range(self.levels))

    @property
    def reachable(self) -> int:
        """Vectors that a position can be quantized to."""
        return self.num_embeddings**self.levels

    def codebooks(self, dim: int, generator: torch.Generator) -> list[Tensor]:
        """Random ones, of falling size: per level float32 [paths, K, D]."""
        paths = [self.num_embeddings**n if self.linked else 1 for n in range(self.levels)]
        shapes = [(count, self.num_embeddings, dim) for count in paths]
        return [torch.randn(shape, generator=generator) * 0.5**n for n, shape in enumerate(shapes)]

    def __call__(self, latents: Tensor, codebooks: list[Tensor]) -> Tensor:
        """float32 [P, D] to the rows of each level's code vectors, int64 [levels, P]."""
        found: list[Tensor] = []
        for n, books in enumerate(codebooks):
            if n:
                latents = latents - F.embedding(found[-1], codebooks[n - 1].flatten(0, 1))
            found.append(nearest(latents, books, found[-1] if self.linked and n else None))
        return torch.stack(found)


SEARCHES = (
    Search("linked {8, 64, 512}", 3, 8, linked=True),
    Search("one codebook of 512", 1, 512),
    Search("3 x 512, not linked", 3, 512),
)


@dataclass(frozen=True)
class Result:
    """What a search took.

    Attributes:
        search: Its name.
        distances: Distances computed for a position.
        stored: Code vectors of all codebooks.
        reachable: Vectors that a position can be quantized to.
        seconds: Median of the runs, for all positions.
    """

    search: str
    distances: int
    stored: int
    reachable: int
    seconds: float


@torch.inference_mode()
def measure(positions: int, dim: int, runs: int) -> list[Result]:
    """Every search over the same random latents."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(positions, dim, generator=generator)
    results = []
    for search in SEARCHES:
        common.console.print(search.name)
        books = search.codebooks(dim, generator)
        taken = common.timed(partial(search, latents, books), runs)
        numbers = (search.distances, search.stored, search.reachable)
        results.append(Result(search.name, *numbers, taken))
    return results


@click.command(cls=common.Benchmark)
@click.option("--images", default=64, show_default=True, help="Images at a time.")
@click.option("--side", default=32, show_default=True, help="Positions a side of an image.")
@click.option("--dim", default=64, show_default=True, help="Dimension of the latents.")
@click.option("--runs", default=5, show_default=True, help="The median counts.")
@click.option("--threads", type=click.IntRange(min=1), help="PyTorch's own number if not given.")
@common.json_option
def main(
    images: int, side: int, dim: int, runs: int, threads: int | None, json_file: Path | None
) -> None:
    """Distances and seconds of searches in linked, flat and independent codebooks."""
    if threads is not None:
        torch.set_num_threads(threads)
    results = measure(images * side**2, dim, runs)
    linked = results[0]
    rows = [
        (
            result.search,
            result.distances,
            result.stored,
            f"{result.reachable:,}",
            f"{result.seconds:.4f}",
            f"{result.distances / linked.distances:.1f}",
            f"{result.seconds / linked.seconds:.1f}",
        )
        for result in results
    ]
    common.print_table(
        f"{images} images of {side} x {side} latents, D = {dim}, {torch.get_num_threads()} threads",
        ("search", "distances", "stored", "reachable", "seconds", "distances x", "seconds x"),
        rows,
    )
    about = {"images": images, "side": side, "dim": dim}
    found = [asdict(result) for result in results]
    common.store(json_file, "linked_search", None, {**about, "results": found})


if __name__ == "__main__":
    main()
