"""A batch of maps while it is coded: what is known, and what is to be expected next.

One module serves both directions. Features live in zero-bordered caches, and `TorchState.advance`
computes them for any set of positions whose causal neighbours are there already: for all positions
at once when the indices are known (compress), or for one step after the other (decompress, sample).
Both are the same integers, because every operation is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vqcodec.entropy.frequencies import expected_code_lengths
from vqcodec.entropy.layers import ROWS_PER_CALL, AttentionCache, Cache
from vqcodec.entropy.wavefront import Grid
from vqcodec.entropy.wavefront import steps as wavefront
from vqcodec.spec.cone import CONE3, CONE5

WORK_WORTH_THREADS = 512 * 128**2  # rows of a step times channels squared

if TYPE_CHECKING:
    from vqcodec.entropy.prior import GroupHeads, Heads, Prior


class State(Protocol):
    """Everything known about a batch of N equal maps while it is coded.

    Attributes:
        books: How many codebooks the maps' quality has.
        shape: N, H, W.
        steps: Raster positions of each step, int64 [p], in the order in which they become known.
        worth_threads: Whether a step has work enough for several threads.
    """

    books: int
    shape: tuple[int, int, int]
    steps: Sequence[Tensor]
    worth_threads: bool

    @property
    def groups(self) -> Sequence[GroupHeads]:
        """The groups of codebooks that the maps' quality has."""

    @property
    def maps(self) -> Tensor:
        """The indices as maps: int64 [N, G, H, W]; 0 for what is not known or left out."""

    def see(self, indices: Tensor) -> None:
        """Takes all indices beforehand, int64 [N, G, H, W]: one pass finds what `read` gives."""

    def read(self, step: int, group: int) -> npt.NDArray[np.float32]:
        """What is to be expected of a group of n codebooks at a step's p positions.

        All earlier steps are known, and so are the earlier groups at this one.

        Returns:
            Frequencies less 1, as `vqcodec.entropy.coder` takes them: float32 [N, n * p, K],
            codebook by codebook.
        """

    def logits(self, step: int, group: int) -> Tensor:
        """The same as logits in 1/16 nat: integers in float64 [N, n * p, K]; not after `see`."""

    def know(self, step: int, group: int, symbols: npt.NDArray[np.int32]) -> None:
        """Makes a group's indices known at a step that was asked about.

        Args:
            step: As of `read`.
            group: As of `read`.
            symbols: int32 [N, n * p], codebook by codebook.
        """

    def parallel(self, indices: Tensor) -> Tensor:
        """Frequencies of all indices in one pass.

        Args:
            indices: int64 [N, G, H, W].

        Returns:
            int32 [N, G, H * W, K]; codebooks smaller than the largest K are padded with zeros, and
            those left out at this quality are zero.
        """

    def code_lengths(self, indices: Tensor) -> Tensor:
        """What every code would cost in place of each index, all others being what they are.

        Args:
            indices: int64 [N, G, H, W].

        Returns:
            Bits, float32 [N, G, H * W, K]; zero where `parallel` has zeros.
        """


class TorchState:
    """A `State` computed by PyTorch: on a GPU, and where nothing is compiled.

    Attributes:
        hidden: What the heads of the step at hand start from.
        found: Indices of the step at hand, int64 [N * p, n] of each group so far.
        seen: What `see` found: as of `parallel`.
    """

    def __init__(
        self,
        prior: Prior,
        heads: Heads,
        context: Tensor,
        count: int,
        height: int,
        width: int,
        steps: Sequence[Tensor] | None = None,
    ) -> None:
        self.prior = prior
        self.groups = heads.groups
        self.books = heads.groups[-1].codebooks.stop
        self.open_heads = heads.open
        self.shape = (count, height, width)
        self.steps = wavefront(height, width) if steps is None else steps
        rows = count * max(map(len, self.steps))
        self.worth_threads = rows * context.shape[-1] ** 2 >= WORK_WORTH_THREADS
        device = context.device
        grid = Grid(count, height, width, CONE5)
        channels = context.shape[-1]
        self.grid = grid
        self.context = context
        self.cone3 = grid.offsets(CONE3).to(device)
        self.cone5 = grid.offsets(CONE5).to(device)
        self.embedded = Cache(grid, channels, device)
        self.blocks = [Cache(grid, channels, device) for _ in prior.blocks]
        self.attentions = {
            place: AttentionCache(grid, channels, attention.heads, device)
            for place, attention in prior.attentions.items()
        }
        shape = (count, height * width, len(prior.sizes))
        self.indices = torch.zeros(shape, dtype=torch.int64, device=device)
        self.hidden = torch.empty(0)
        self.found: list[Tensor] = []
        self.seen: Tensor | None = None

    @property
    def maps(self) -> Tensor:
        """As of `State`."""
        count, height, width = self.shape
        return self.indices.transpose(1, 2).reshape(count, -1, height, width)

    # Step by step

    @torch.inference_mode()
    def read(self, step: int, group: int) -> npt.NDArray[np.float32]:
        """As of `State`."""
        if self.seen is None:
            rows = self.prior.frequencies(self.logits(step, group))
        else:
            of = self.groups[group]
            rows = self.seen[:, of.books, self.steps[step], : of.size].flatten(1, 2)
        return (rows - 1).float().cpu().contiguous().numpy()  # exact: frequencies are at most 2**24

    @torch.inference_mode()
    def logits(self, step: int, group: int) -> Tensor:
        """As of `State`."""
        if group == 0:
            positions = self.steps[step].to(self.context.device)
            self.hidden = self.open_heads(self.advance(positions))
        by_map: Tensor = self.groups[group].logits(self.hidden).unflatten(1, (self.shape[0], -1))
        return by_map.transpose(0, 1).flatten(1, 2)

    @torch.inference_mode()
    def know(self, step: int, group: int, symbols: npt.NDArray[np.int32]) -> None:
        """As of `State`."""
        if self.seen is not None:
            return
        device, positions = self.context.device, self.steps[step]
        by_book = torch.from_numpy(symbols).to(device, torch.int64)
        by_book = by_book.view(len(symbols), -1, len(positions))
        found = by_book.transpose(1, 2).flatten(0, 1)
        self.groups[group].see(self.hidden, found)
        self.found.append(found)
        if group == len(self.groups) - 1:
            known = torch.cat(self.found, 1)
            self.found.clear()
            here = positions.to(device)
            self.write(here, known)
            self.indices[:, here, : self.books] = known.view(len(symbols), len(positions), -1)

    def write(self, positions: Tensor, indices: Tensor) -> None:
        """Gives the features of positions after these something to see.

        Args:
            positions: Raster positions, int64 [p].
            indices: Their indices, of the codebooks that the state has: int64 [N * p, books].
        """
        starts = self.prior.embedding_starts[: self.books]
        total = F.embedding_bag(indices + starts, self.prior.embedding, mode="sum")
        embedded = total.clamp_(-127, 127).to(torch.int8)
        self.embedded.write(self.grid.places(positions), embedded)

    def advance(self, positions: Tensor) -> Tensor:
        """Features of positions whose causal neighbours are known and were advanced before.

        Returns:
            Input of `open_heads`: int8 [N * p, C].
        """
        prior = self.prior
        places = self.grid.places(positions)
        stream = self.context[:, positions].flatten(0, 1)
        for rows, some in zip(
            torch.split(stream, ROWS_PER_CALL), torch.split(places, ROWS_PER_CALL), strict=True
        ):
            rows += prior.enter(self.embedded.features(some[:, None] + self.cone5))
        cells = places[:, None] + self.cone3
        for n, block in enumerate(prior.blocks):
            if n in prior.attentions:
                stream = prior.attentions[n](stream, self.attentions[n], positions)
            stream = block(stream, self.blocks[n], places, cells)
        return prior.activation(stream)

    # All positions at once

    @torch.inference_mode()
    def see(self, indices: Tensor) -> None:
        """As of `State`."""
        self.seen = self.parallel(indices).cpu()
        self.indices.copy_(indices.flatten(2).transpose(1, 2))

    @torch.inference_mode()
    def parallel(self, indices: Tensor) -> Tensor:
        """As of `State`."""
        return self._of_all(indices, self.prior.frequencies, torch.int32)

    @torch.inference_mode()
    def code_lengths(self, indices: Tensor) -> Tensor:
        """As of `State`."""
        return self._of_all(indices, expected_code_lengths, torch.float32)

    def _of_all(
        self, indices: Tensor, read: Callable[[Tensor], Tensor], dtype: torch.dtype
    ) -> Tensor:
        """What is read from the logits [P, K] of all indices: [N, G, H * W, K]."""
        count, books, height, width = indices.shape
        everywhere = torch.arange(height * width, device=indices.device)
        known = indices[:, : self.books].flatten(2).permute(0, 2, 1).flatten(0, 1)
        self.write(everywhere, known)
        features = self.advance(everywhere)
        shape = (books, len(known), max(self.prior.sizes))
        result = torch.zeros(shape, dtype=dtype, device=known.device)
        for start in range(0, len(known), ROWS_PER_CALL):
            rows = slice(start, start + ROWS_PER_CALL)
            hidden = self.open_heads(features[rows])
            for group in self.groups:
                for g, logits in zip(group.codebooks, group.logits(hidden), strict=True):
                    result[g, rows, : logits.shape[1]] = read(logits)
                group.see(hidden, known[rows, group.books])
        return result.view(books, count, height * width, -1).transpose(0, 1)
