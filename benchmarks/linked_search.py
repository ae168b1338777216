"""What a search for the nearest code vector costs: linked codebooks, one flat one, several.

Latents and code vectors are random: the cost does not depend on what they hold.

Source: Adiban et al. 2022, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import click
import torch
from torch import Tensor
from torch.nn import functional as F

from vqcodec.bench.command import Command, print_made, print_table
from vqcodec.bench.cost import timed
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


POSITIONS, DIM, RUNS = 64 * 32 * 32, 64, 5


@torch.inference_mode()
def measure(positions: int, dim: int, runs: int) -> list[float]:
    """Median seconds of every search over the same random latents."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(positions, dim, generator=generator)
    return [
        timed(partial(search, latents, search.codebooks(dim, generator)), runs)
        for search in SEARCHES
    ]


@click.command(cls=Command)
def main() -> None:
    """Distances and seconds of searches in linked, flat and independent codebooks."""
    print_table(
        f"{POSITIONS} latents, D = {DIM}",
        ("search", "distances", "seconds"),
        [
            (search.name, search.distances, f"{seconds:.4f}")
            for search, seconds in zip(SEARCHES, measure(POSITIONS, DIM, RUNS), strict=True)
        ],
    )
    print_made(None)


if __name__ == "__main__":
    main()
