"""What an integer prior computes, compiled: integers only, and no Python between.

Rows are positions of maps in coding order: step by step, in a step map by map, of a map in raster
order. `compute` takes rows through the phases of a plan: the rows of one step while decoding, or
all rows, a phase after the other, when the indices are known. Activations are kept as bytes 128
above their values, which is what `tile` takes; streams, sums and logits are int32, as `program`
makes sure that they fit.

The reference is `vqcodec.entropy.layers`. Compiling takes a time that grows with what is compiled:
there is one function with products, and what it calls takes arrays and no tuples of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from vqcodec.kernels.store import compiled
from vqcodec.kernels.tile import FILTERS, QUAD, best_way, processor, tile
from vqcodec.spec.prior import (
    BITS_OF_LOGIT,
    EXPONENTIAL_BITS,
    RECIPROCAL_BITS,
    REQUANTIZE_BITS,
    TOTAL,
    TOTAL_BITS,
)

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

ROWS = 48  # at a time, so that their inputs stay in the processor's cache
ZERO = 128  # the byte of a feature that is 0

# Phases, in the first column of a plan; the others are `Plan`.
ENTER, WRITE, BLOCK, ASK, ATTEND, FINISH, OPEN, HEAD, UPSAMPLE = range(9)

WAY = best_way(processor()[1])
_FULL = WAY.rows
_full = tile(WAY, _FULL)
_pair = tile(WAY, 2)
_single = tile(WAY, 1)
_BLOCK_BYTES = FILTERS * QUAD


class Plan(NamedTuple):
    """A row of a plan, int64 [n, 5]."""

    phase: int
    number: int = 0  # of the block, the layer of attention, or the codebook in its group
    activation: int = 0
    product: int = 0  # the first of the phase's
    column: int = 0  # of `hidden` where a head's inputs start; of OPEN, how many are wanted


class Layers(NamedTuple):
    """Weights of a prior, or of one coarser level's part of its context.

    Attributes:
        filters: Of all products, in blocks as `tile` takes them: [bytes].
        products: Of each product where its filters start, quads of a filter, blocks of filters, and
            where its multipliers start: int64 [L, 4].
        multipliers: int32 [all filters].
        offsets: With what the 128 of the inputs add taken off: int64 [all filters].
        activations: Tables of bytes, [A, 256].
        shifts: int64 [A].
        gates: `Tables.gate` as bytes, [65536].
        exponential: `Tables.exponential`, int32 [256].
        scales: Of each layer of attention, int64 [layers].
        head_channels: Inputs of a head.
        inputs: As many bytes as the longest filter takes.
        sums: As many as the product with most filters has, OPEN left out.
    """

    filters: Bytes
    products: Longs
    multipliers: Words
    offsets: Longs
    activations: Bytes
    shifts: Longs
    gates: Bytes
    exponential: Words
    scales: Longs
    head_channels: int
    inputs: int
    sums: int


class Maps(NamedTuple):
    """Everything known about a batch of maps.

    Attributes:
        stream: int32 [rows, C]; at first the context.
        places: Cell of each row in the caches: int64 [rows].
        embedded: Embeddings of known indices, bytes [cells, C].
        caches: Inputs of the blocks, bytes [blocks, cells, C].
        enter_taps: Distance of each tap's cell from a row's, int64 [T].
        block_taps: The same for the blocks.
        features: What the heads get, bytes [rows, 4 * quads].
        map_of: Map of each row, int64 [rows].
        rank: Place of each row in the coding order of its map, int64 [rows].
        seen: How many positions of its map attention sees from a row, the first of that order:
            int64 [rows].
        queries: int8 [rows, C].
        keys: int8 [layers, N, C, positions in coding order].
        values: The same.
        heads: Of attention.
        width: Columns of a map, for UPSAMPLE.
        factor: How many positions of the next finer level lie side by side in one of these.
    """

    stream: Words
    places: Longs
    embedded: Bytes
    caches: Bytes
    enter_taps: Longs
    block_taps: Longs
    features: Bytes
    map_of: Longs
    rank: Longs
    seen: Longs
    queries: npt.NDArray[np.int8]
    keys: npt.NDArray[np.int8]
    values: npt.NDArray[np.int8]
    heads: int
    width: int
    factor: int


part: Any = njit(nogil=True, error_model="numpy")  # a function that compiled functions call


@part
def product(  # type: ignore[no-untyped-def]
    filters, shape, blocks, multipliers, offsets, inputs, at, rows, sums, to
):
    """Requantized sums of a product's first blocks: of inputs[at:][:rows] to sums[to:][:rows]."""
    start, quads, _, multiplier = shape
    next_sums, next_inputs = 4 * sums.shape[1], inputs.shape[1]
    first_sums = sums.ctypes.data + to * next_sums
    first_inputs = inputs.ctypes.data + at * next_inputs
    for block in range(blocks):
        block_of = filters.ctypes.data + start + block * quads * _BLOCK_BYTES
        here = first_sums + 4 * FILTERS * block
        row = 0
        while row + _FULL <= rows:
            sum_at, input_at = here + row * next_sums, first_inputs + row * next_inputs
            _full(sum_at, next_sums, input_at, next_inputs, block_of, quads)
            row += _FULL
        while row + 2 <= rows:
            sum_at, input_at = here + row * next_sums, first_inputs + row * next_inputs
            _pair(sum_at, next_sums, input_at, next_inputs, block_of, quads)
            row += 2
        if row < rows:
            sum_at, input_at = here + row * next_sums, first_inputs + row * next_inputs
            _single(sum_at, next_sums, input_at, next_inputs, block_of, quads)
    for row in range(to, to + rows):
        for n in range(blocks * FILTERS):
            scaled = np.int64(sums[row, n]) * np.int64(multipliers[multiplier + n])
            sums[row, n] = (scaled + offsets[multiplier + n]) >> REQUANTIZE_BITS


@part
def activate(table, shift, values, row, column, to, at, channels):  # type: ignore[no-untyped-def]
    """A part of one row of a stream through an activation: to[at]."""
    half = np.int32(1 << (shift - 1))
    for c in range(channels):
        place = ((values[row, column + c] + half) >> shift) + 128
        to[at, c] = table[min(max(place, 0), 255)]


@part
def gather(cache, places, first, rows, taps, inputs):  # type: ignore[no-untyped-def]
    """Features under the taps of some rows, tap after tap."""
    channels = cache.shape[1]
    for row in range(rows):
        place = places[first + row]
        for t in range(len(taps)):
            cell = place + taps[t]
            for c in range(channels):
                inputs[row, t * channels + c] = cache[cell, c]


@part
def gate(gates, sums, rows, channels, inputs):  # type: ignore[no-untyped-def]
    """The two halves of sums through the gates."""
    for row in range(rows):
        for c in range(channels):
            tanh = min(max(sums[row, c], -128), 127)
            sigmoid = min(max(sums[row, channels + c], -128), 127)
            inputs[row, c] = gates[256 * tanh + sigmoid + 128 * 256 + 128]


@part
def keep(sums, rows, channels, first, map_of, rank, queries, keys, values):  # type: ignore[no-untyped-def]
    """Sums to queries, and to keys and values that later positions see."""
    for row in range(rows):
        at = first + row
        of, own = map_of[at], rank[at]
        for c in range(channels):
            queries[at, c] = min(max(sums[row, c], -127), 127)
            keys[of, c, own] = min(max(sums[row, channels + c], -127), 127)
            values[of, c, own] = min(max(sums[row, 2 * channels + c], -127), 127)


@part
def attend(  # type: ignore[no-untyped-def]
    queries, keys, values, map_of, seen, heads, scale, exponential, first, rows, inputs
):
    """Means of the values that some rows see, weighted by their queries and keys.

    Innermost is what is long, the positions: that is what the compiler makes vectors of.
    """
    size = queries.shape[1] // heads
    dots = np.empty(keys.shape[2], np.int32)
    logits = np.empty(keys.shape[2], np.int64)
    weights = np.empty(keys.shape[2], np.int32)
    last = len(exponential) - 1
    half = 1 << (REQUANTIZE_BITS - 1)
    for row in range(rows):
        at = first + row
        of, count = map_of[at], seen[at]
        for column in range(0, heads * size, size):
            dots[:count] = 0
            for c in range(column, column + size):
                query = np.int32(queries[at, c])
                for other in range(count):
                    dots[other] += query * np.int32(keys[of, c, other])
            largest = np.int64(-(2**62))
            for other in range(count):
                logits[other] = (np.int64(dots[other]) * scale + half) >> REQUANTIZE_BITS
                largest = max(largest, logits[other])
            total = np.int64(0)
            for other in range(count):
                weights[other] = exponential[min(largest - logits[other], last)]
                total += np.int64(weights[other])
            total = max(total, np.int64(1))
            for c in range(column, column + size):
                mean = np.int64(0)
                for other in range(count):
                    mean += np.int64(weights[other]) * np.int64(values[of, c, other])
                inputs[row, c] = (2 * mean + total) // (2 * total) + ZERO


@part
def add(sums, rows, channels, stream, first):  # type: ignore[no-untyped-def]
    """Adds sums to the stream."""
    for row in range(rows):
        for c in range(channels):
            stream[first + row, c] += sums[row, c]


@part
def upsample(sums, rows, channels, first, width, factor, finer):  # type: ignore[no-untyped-def]
    """Sums of rows in raster order to the stream of the next finer level."""
    for row in range(rows):
        line, x = divmod(first + row, width)
        for dy in range(factor):
            for dx in range(factor):
                at = ((line * factor + dy) * width + x) * factor + dx
                for c in range(channels):
                    finer[at, c] = sums[row, (dy * factor + dx) * channels + c]


@compiled
def compute(layers, maps, plan, first, end, hidden, found):  # type: ignore[no-untyped-def]
    """Takes rows from `first` to `end` through the phases of a plan.

    Through all phases at once only where they don't see each other.

    Args:
        layers: Weights.
        maps: What is known.
        plan: int64 [n, 5], see `Plan`.
        first: Row.
        end: The row after the last one.
        hidden: What the heads start from, int32 [end - first or more, columns].
        found: Of HEAD logits, int32 [codebooks, end - first, K]; of UPSAMPLE the finer level's
            stream, int32 [1, all rows, C].
    """
    channels = maps.stream.shape[1]
    inputs = np.zeros((ROWS, layers.inputs), np.uint8)
    sums = np.empty((ROWS, layers.sums), np.int32)
    for n in range(len(plan)):
        phase, number, activation, at, column = plan[n]
        for start in range(first, end, ROWS):
            rows = min(ROWS, end - start)
            if phase in (WRITE, FINISH):
                table, shift = layers.activations[activation], layers.shifts[activation]
                for r in range(start, start + rows):
                    if phase == WRITE:
                        cache = maps.caches[number]
                        activate(table, shift, maps.stream, r, 0, cache, maps.places[r], channels)
                    else:
                        activate(table, shift, maps.stream, r, 0, maps.features, r, channels)
                continue
            source, row, target, to = inputs, 0, sums, 0
            blocks = layers.products[at, 2]
            if phase == ENTER:
                gather(maps.embedded, maps.places, start, rows, maps.enter_taps, inputs)
            elif phase == BLOCK:
                gather(maps.caches[number], maps.places, start, rows, maps.block_taps, inputs)
            elif phase == ATTEND:
                keys, values, scale = maps.keys[number], maps.values[number], layers.scales[number]
                attend(
                    maps.queries, keys, values, maps.map_of, maps.seen, maps.heads, scale,
                    layers.exponential, start, rows, inputs,
                )  # fmt: skip
            elif phase == OPEN:
                source, row, target, to = maps.features, start, hidden, start - first
                blocks = column
            else:
                stream, width, before = maps.stream, channels, 0
                if phase == HEAD:
                    stream, width, before = hidden, layers.head_channels, first
                table, shift = layers.activations[activation], layers.shifts[activation]
                for r in range(rows):
                    activate(table, shift, stream, start + r - before, column, inputs, r, width)
            for turn in range(2 if phase == BLOCK else 1):
                if turn:
                    gate(layers.gates, sums, rows, channels, inputs)
                    blocks = layers.products[at + 1, 2]
                product(
                    layers.filters, layers.products[at + turn], blocks, layers.multipliers,
                    layers.offsets, source, row, rows, target, to,
                )  # fmt: skip
            if phase in (ENTER, BLOCK, ATTEND):
                add(sums, rows, channels, maps.stream, start)
            elif phase == ASK:
                keep(
                    sums, rows, channels, start, maps.map_of, maps.rank, maps.queries,
                    maps.keys[number], maps.values[number],
                )  # fmt: skip
            elif phase == HEAD:
                for r in range(rows):
                    for k in range(found.shape[2]):
                        found[number, start - first + r, k] = sums[r, k]
            elif phase == UPSAMPLE:
                upsample(sums, rows, channels, start, maps.width, maps.factor, found[0])


@compiled
def embed(table, starts, indices, places, embedded, first, end):  # type: ignore[no-untyped-def]
    """Gives the rows after these something to see.

    Args:
        table: Embeddings of all codebooks, int32 [codes, C].
        starts: First row of each codebook that is used, int64 [n].
        indices: int32 [rows, G].
        places: As of `Maps`.
        embedded: As of `Maps`.
        first: Row.
        end: The row after the last one.
    """
    channels = embedded.shape[1]
    total = np.empty(channels, np.int32)
    for row in range(first, end):
        total[:] = 0
        for g in range(len(starts)):
            at = starts[g] + indices[row, g]
            for c in range(channels):
                total[c] += table[at, c]
        for c in range(channels):
            embedded[places[row], c] = min(max(total[c], -127), 127) + ZERO


@compiled
def see(earlier, size, columns, indices, book, hidden):  # type: ignore[no-untyped-def]
    """Adds indices of a group to what the heads after them get.

    Args:
        earlier: What they add, int16 [n * K, those columns].
        size: K.
        columns: First of `hidden` that they add to, and the one after the last.
        indices: int32 [rows, G].
        book: The group's first codebook.
        hidden: int32 [rows, columns]; changed in place.
    """
    for row in range(len(indices)):
        for g in range(len(earlier) // size):
            at = g * size + indices[row, book + g]
            for c in range(columns[1] - columns[0]):
                hidden[row, columns[0] + c] += earlier[at, c]


@compiled
def frequencies(logits, exponential, starts, nexts, found):  # type: ignore[no-untyped-def]
    """Frequencies less 1; the reference is `vqcodec.entropy.frequencies`.

    Args:
        logits: int32 [n, rows, K]; changed in place.
        exponential: As of `Layers`.
        starts: Where each row's go in `found`, int64 [rows].
        nexts: How much further its next codebook's do, int64 [rows].
        found: float32 [n * rows or more, K].
    """
    books, rows, size = logits.shape
    last = np.int32(len(exponential) - 1)
    for book in range(books):
        for row in range(rows):
            own, to = logits[book, row], found[starts[row] + book * nexts[row]]
            largest = own[0]
            for k in range(1, size):
                largest = max(largest, own[k])
            total = np.int64(0)
            for k in range(size):
                own[k] = exponential[min(np.int32(largest - own[k]), last)]
                total += own[k]
            reciprocal = (np.int64(TOTAL - size) << RECIPROCAL_BITS) // total
            spent = np.int64(0)
            for k in range(size):
                above = (np.int64(own[k]) * reciprocal) >> RECIPROCAL_BITS
                spent += above
                to[k] = np.float32(above)
            to[0] += np.float32(TOTAL - size - spent)


@compiled
def lengths(logits, exponential, places, found):  # type: ignore[no-untyped-def]
    """Code length of every code, in bits: what `frequencies` say but for rounding.

    Args:
        logits: int32 [n, rows, K].
        exponential: As of `Layers`.
        places: Of each row in `found`, int64 [rows].
        found: float32 [n, all rows, K or more].
    """
    books, rows, size = logits.shape
    last = np.int32(len(exponential) - 1)
    bits = np.float32(BITS_OF_LOGIT)
    for book in range(books):
        for row in range(rows):
            own, to = logits[book, row], found[book, places[row]]
            largest = own[0]
            for k in range(1, size):
                largest = max(largest, own[k])
            total = np.int64(0)
            for k in range(size):
                total += exponential[min(np.int32(largest - own[k]), last)]
            least = np.float32(np.log2(total / 2.0**EXPONENTIAL_BITS))
            for k in range(size):
                to[k] = min(np.float32(largest - own[k]) * bits + least, np.float32(TOTAL_BITS))
