"""A batch of maps while it is coded by the compiled steps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec.entropy.prior import GroupHeads
from vqcodec.entropy.program import ContextProgram, Program
from vqcodec.entropy.wavefront import Grid
from vqcodec.entropy.wavefront import steps as wavefront
from vqcodec.kernels import steps
from vqcodec.kernels.steps import Layers, Longs, Maps, Words
from vqcodec.kernels.tile import QUAD
from vqcodec.spec.cone import CONE3, CONE5, FULL3, step_of
from vqcodec.threads import spread

AHEAD = 768  # rows whose logits are found at a time, if the indices are known

_NO_HIDDEN = np.zeros((0, 0), np.int32)
_NO_LOGITS = np.zeros((0, 0, 0), np.int32)


class CompiledState:
    """A `vqcodec.entropy.state.State` that compiled steps work on.

    Args:
        program: Of the prior.
        groups: That the maps' quality has.
        coarser: As of `context`.
        quality: As of `context`.
        label: As of `context`.
        height: Rows H of the maps.
        width: Columns W.
        order: Raster positions, int64 [p] each, in another order than the wavefront's.
    """

    worth_threads = True  # a step is one call

    def __init__(
        self,
        program: Program,
        groups: Sequence[GroupHeads],
        coarser: Sequence[Tensor],
        quality: Tensor,
        label: Tensor,
        height: int,
        width: int,
        order: Sequence[Tensor] | None = None,
    ) -> None:
        self.groups = groups
        self.books = groups[-1].codebooks.stop
        self.steps = wavefront(height, width) if order is None else order
        self.shape = (len(quality), height, width)
        self._program = program
        self._layers = program.layers
        self._heads = program.heads(len(groups))
        count, area = len(quality), height * width
        sizes = np.array([len(step) for step in self.steps])
        self._ends = [0, *(count * sizes.cumsum()).tolist()]
        # Rows are in coding order: step, map, position.
        positions = torch.cat(list(self.steps)).numpy()
        before = np.repeat(sizes.cumsum() - sizes, sizes)
        number = np.arange(count)[:, None]
        rows = before * count + np.arange(area) - before + number * np.repeat(sizes, sizes)

        def in_rows(values: Longs) -> Longs:
            """Of each row, from [N, area] in coding order of each map."""
            result = np.empty(count * area, np.int64)
            result[rows] = values
            return result

        self._raster = in_rows(positions + number * area)
        # Symbols of a step are in the order map, codebook, position.
        side = np.repeat(sizes, sizes)
        self._in_steps = in_rows(np.broadcast_to(side, rows.shape))
        self._in_step = in_rows(np.broadcast_to(np.arange(area) - before, rows.shape))
        self._step_starts = in_rows(before * count + number * side)
        given = context(program.context, coarser, quality, label, height, width)
        self._context = given.reshape(count * area, -1)[self._raster]
        in_step = np.array(step_of(height, width))
        kept = (program.attentions, count, program.channels, area)
        grid = Grid(count, height, width, CONE5)
        self._maps = _maps(self._context.copy(), grid, program.blocks)._replace(
            places=grid.places(torch.arange(area)).numpy()[self._raster],
            embedded=np.full((grid.cells, program.channels), steps.ZERO, np.uint8),
            block_taps=grid.offsets(CONE3).numpy(),
            features=np.zeros((count * area, QUAD * -(-program.channels // QUAD)), np.uint8),
            map_of=in_rows(number),
            rank=in_rows(np.arange(area)),
            seen=in_rows(np.searchsorted(np.sort(in_step), in_step[positions])),
            queries=np.zeros((count * area, program.channels), np.int8),
            keys=np.zeros(kept, np.int8),
            values=np.zeros(kept, np.int8),
            heads=program.attention_heads,
        )
        self._indices = np.zeros((count * area, len(program.sizes)), np.int32)
        self._hidden = np.empty((count * int(sizes.max()), self._heads.columns), np.int32)
        self._known = False
        self._ahead: list[npt.NDArray[np.float32]] = []  # of each group, what `read` gives
        self._ahead_from = self._ahead_to = 0  # of these rows

    @property
    def maps(self) -> Tensor:
        """As of `State`."""
        count, height, width = self.shape
        found = np.empty(self._indices.shape, np.int64)
        found[self._raster] = self._indices
        maps = torch.from_numpy(found).view(count, height, width, -1).permute(0, 3, 1, 2)
        return maps.contiguous()

    # Step by step

    def read(self, step: int, group: int) -> npt.NDArray[np.float32]:
        """As of `State`."""
        first, end = self._ends[step : step + 2]
        books, size = len(self.groups[group].codebooks), self.groups[group].size
        if not self._known:
            found = np.empty((books * (end - first), size), np.float32)
            self._frequencies(self._ask(step, group), first, end, first, found)
        else:
            if not self._ahead_from <= first < self._ahead_to:
                self._look_ahead(step)
            rows = slice(books * (first - self._ahead_from), books * (end - self._ahead_from))
            found = self._ahead[group][rows]
        return found.reshape(self.shape[0], -1, size)

    def logits(self, step: int, group: int) -> Tensor:
        """As of `State`."""
        found = self._ask(step, group)
        books, _, size = found.shape
        by_map = torch.from_numpy(found).view(books, self.shape[0], -1, size).transpose(0, 1)
        return by_map.reshape(self.shape[0], -1, size).double()

    def know(self, step: int, group: int, symbols: npt.NDArray[np.int32]) -> None:
        """As of `State`."""
        if self._known:
            return
        first, end = self._ends[step : step + 2]
        books, own = self.groups[group].codebooks, self._indices[first:end]
        by_book = symbols.reshape(self.shape[0], len(books), -1).transpose(0, 2, 1)
        own[:, books.start : books.stop] = by_book.reshape(len(own), -1)
        self._see(group, own, self._hidden)
        if group == len(self.groups) - 1:
            self._embed(first, end)

    def _ask(self, step: int, group: int) -> Words:
        """Logits of a group at a step's rows: int32 [n, N * p, K]."""
        first, end = self._ends[step : step + 2]
        plan = self._heads.plans[group]
        if group == 0 and not self._known:
            plan = np.concatenate([self._program.plan, plan])
        return self._logits(plan, group, first, end, self._hidden)

    def _logits(self, plan: Longs, group: int, first: int, end: int, hidden: Words) -> Words:
        of = self.groups[group]
        found = np.empty((len(of.codebooks), end - first, of.size), np.int32)
        steps.compute(self._layers, self._maps, plan, first, end, hidden, found)
        return found

    def _frequencies(
        self, logits: Words, first: int, end: int, origin: int, found: npt.NDArray[np.float32]
    ) -> None:
        """Frequencies less 1 of rows, to their place among symbols of rows from `origin` on."""
        books = len(logits)
        starts = books * (self._step_starts[first:end] - origin) + self._in_step[first:end]
        nexts = self._in_steps[first:end]
        steps.frequencies(logits, self._layers.exponential, starts, nexts, found)

    def _see(self, group: int, indices: Words, hidden: Words) -> None:
        """Adds a group's indices at rows to what the heads after them get."""
        columns, earlier = self._heads.added[group], self._heads.earlier[group]
        if columns[0] < columns[1]:
            of = self.groups[group]
            steps.see(earlier, of.size, columns, indices, of.codebooks.start, hidden)

    def _embed(self, first: int, end: int) -> None:
        """Gives the rows after these something to see."""
        program, maps = self._program, self._maps
        starts = program.starts[: self.books]
        tables = program.embedding, starts, self._indices
        steps.embed(*tables, maps.places, maps.embedded, first, end)

    # All positions at once

    def see(self, indices: Tensor) -> None:
        """As of `State`."""
        rows = len(self._raster)
        symbols = indices[:, : self.books].flatten(2).transpose(1, 2).flatten(0, 1).numpy()
        self._indices[:, : self.books] = symbols[self._raster]
        self._maps.stream[:] = self._context
        self._ahead_to = 0
        spread(self._embed, rows, steps.ROWS)
        for phase in self._program.plan[:, None]:
            _run(self._layers, self._maps, phase, rows, _NO_LOGITS)
        self._known = True

    def _of_known(self, first: int, end: int, take: Callable[[int, Words, int, int], None]) -> None:
        """Gives the logits of known rows group by group, in threads, some rows at a time."""

        def find(a: int, b: int) -> None:
            hidden = np.empty((b - a, self._heads.columns), np.int32)
            own = self._indices[first + a : first + b]
            for number, plan in enumerate(self._heads.plans):
                take(
                    number,
                    self._logits(plan, number, first + a, first + b, hidden),
                    first + a,
                    first + b,
                )
                self._see(number, own, hidden)

        spread(find, end - first, steps.ROWS)

    def _look_ahead(self, step: int) -> None:
        """Finds what `read` gives for a step and some after it."""
        self._ahead_from = first = self._ends[step]
        last = bisect_left(self._ends, first + AHEAD, step + 1, len(self._ends) - 1)
        self._ahead_to = end = self._ends[last]
        self._ahead = [
            np.empty((len(group.codebooks) * (end - first), group.size), np.float32)
            for group in self.groups
        ]

        def take(number: int, logits: Words, a: int, b: int) -> None:
            self._frequencies(logits, a, b, first, self._ahead[number])

        self._of_known(first, end, take)

    def parallel(self, indices: Tensor) -> Tensor:
        """As of `State`."""
        self.see(indices)
        count, height, width = self.shape
        sizes = self._program.sizes
        found = torch.zeros(count, len(sizes), height * width, max(sizes), dtype=torch.int32)
        for step, positions in enumerate(self.steps):
            for number, group in enumerate(self.groups):
                rows = torch.from_numpy(self.read(step, number)).int() + 1
                asked = rows.unflatten(1, (-1, len(positions)))
                found[:, group.books, positions, : group.size] = asked
                symbols = indices.flatten(2)[:, group.books, positions].flatten(1)
                self.know(step, number, symbols.int().numpy())
        return found

    def code_lengths(self, indices: Tensor) -> Tensor:
        """As of `State`."""
        self.see(indices)
        count, height, width = self.shape
        sizes = self._program.sizes
        found = np.zeros((len(sizes), len(self._raster), max(sizes)), np.float32)

        def take(number: int, logits: Words, first: int, end: int) -> None:
            of, places = found[self.groups[number].books], self._raster[first:end]
            steps.lengths(logits, self._layers.exponential, places, of)

        for first in range(0, len(self._raster), AHEAD):
            self._of_known(first, min(first + AHEAD, len(self._raster)), take)
        bits = torch.from_numpy(found).view(len(sizes), count, height * width, -1)
        return bits.transpose(0, 1)


def context(
    program: ContextProgram,
    coarser: Sequence[Tensor],
    quality: Tensor,
    label: Tensor,
    height: int,
    width: int,
) -> Words:
    """What `vqcodec.entropy.prior.Context` gives: int32 [N, height * width, C]."""
    qualities, classes = program.start
    start = qualities[quality.numpy()] + classes[label.numpy()]
    count, channels = start.shape
    if not coarser:
        return np.broadcast_to(start[:, None], (count, height * width, channels))
    stream = start[:, None]
    for m, indices in enumerate(coarser):
        h, w = indices.shape[2:]
        flat = indices.flatten(2).numpy()
        for g, table in enumerate(program.embeddings[m]):
            stream = stream + table[flat[:, g]]
        layers, factor = program.layers[m], program.factors[m]
        rows = count * h * w
        maps = _maps(stream.reshape(rows, channels), Grid(count, h, w, FULL3), program.blocks[m])
        maps = maps._replace(width=w, factor=factor)
        finer = np.empty((1, rows * factor**2, channels), np.int32)
        for phase in program.plans[m][:, None]:
            _run(layers, maps, phase, rows, finer)
        stream = finer.reshape(count, -1, channels)
    return np.ascontiguousarray(stream)


def _run(layers: Layers, maps: Maps, plan: Longs, rows: int, found: Words) -> None:
    """A phase of all rows, in threads."""
    spread(
        lambda a, b: steps.compute(layers, maps, plan, a, b, _NO_HIDDEN, found), rows, steps.ROWS
    )


def _maps(stream: Words, grid: Grid, blocks: int) -> Maps:
    """Maps of a coarser level, in raster order."""
    channels = stream.shape[1]
    none, no_keys = np.zeros(0, np.int64), np.zeros((0, 0, 0, 0), np.int8)
    return Maps(
        stream=np.ascontiguousarray(stream),
        places=grid.places(torch.arange(grid.height * grid.width)).numpy(),
        embedded=np.zeros((0, channels), np.uint8),
        caches=np.full((blocks, grid.cells, channels), steps.ZERO, np.uint8),
        enter_taps=grid.offsets(CONE5).numpy(),
        block_taps=grid.offsets(FULL3).numpy(),
        features=np.zeros((0, channels), np.uint8),
        map_of=none,
        rank=none,
        seen=none,
        queries=np.zeros((0, channels), np.int8),
        keys=no_keys,
        values=no_keys,
        heads=1,
        width=grid.width,
        factor=1,
    )
