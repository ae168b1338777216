"""Residual blocks, compiled: blocks of 4x4 results of a 3x3 convolution, which see 6x6 inputs.

Blocks are numbered along the rows of an image, image after image. `BLOCKS` of them at a time go
through everything, so that what lies between stays in the processor's cache.

Source: the transforms are those of Lavin and Gray 2016, F(4x4, 3x3), section 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vqcodec.kernels.float_tile import best_way, tile
from vqcodec.kernels.store import compiled_floats
from vqcodec.kernels.tile import processor

SIDE = 4
REACH = 6
PLACES = SIDE * SIDE
TWO, FOUR, FIVE, EIGHT = (np.float32(n) for n in (2, 4, 5, 8))

WAY = best_way(processor()[1])
ROWS, FILTERS = WAY.rows, WAY.filters
BLOCKS = 48  # at a time; rows of products may be a multiple of `ROWS` without a remainder
FEW = 6  # whose places are, as well
_rows_by_filters = tile(WAY, ROWS)

part: Any = njit(nogil=True, error_model="numpy", fastmath=True)  # what compiled functions call


@compiled_floats
def forward(x, filters, first_bias, scale, linear, bias, first, end, positive, found):  # type: ignore[no-untyped-def]
    """Residual blocks: x + (ReLU(convolution of x) * scale) @ linear + bias.

    Args:
        x: float32 [B, H, W, C].
        filters: Transformed and packed, float32 [36, C / FILTERS, C, FILTERS].
        first_bias: Of the convolution, float32 [C].
        scale: float32 [B, C].
        linear: Packed, float32 [C / FILTERS, C, FILTERS].
        bias: float32 [C].
        first: The first block.
        end: The one after the last.
        positive: Where to say what ReLU let through: bool [blocks, 16, C].
        found: Where to write the sums, float32 [B, H, W, C].
    """
    channels, wide = x.shape[3], filters.shape[1] * FILTERS
    seen = np.zeros((REACH * REACH, BLOCKS, channels), np.float32)
    products = np.empty((REACH * REACH, BLOCKS, wide), np.float32)
    hidden = np.zeros((FEW * PLACES, channels), np.float32)
    sums = np.empty((FEW * PLACES, wide), np.float32)
    for start in range(first, end, BLOCKS):
        blocks = min(BLOCKS, end - start)
        filtered(x, start, blocks, filters, seen, products)
        for few in range(0, blocks, FEW):
            number = min(FEW, blocks - few)
            results(products, few, number, hidden)
            for block in range(number):
                image, _, _ = corner(x, start + few + block)
                for place in range(PLACES):
                    row = block * PLACES + place
                    for c in range(channels):
                        value = hidden[row, c] + first_bias[c]
                        let = value > 0
                        positive[start + few + block, place, c] = let
                        hidden[row, c] = value * scale[image, c] if let else np.float32(0)
            multiply(hidden, number * PLACES, linear, sums)
            put(sums, start + few, number, x, bias, found)


@compiled_floats
def backward_linear(after, linear, scale, positive, first, end, inner):  # type: ignore[no-untyped-def]
    """Gradients of what the convolution gave, for some blocks.

    Args:
        after: Gradients of what `forward` gave, float32 [B, H, W, C].
        linear: Transposed and packed, float32 [C / FILTERS, C, FILTERS].
        scale: float32 [B, C].
        positive: What `forward` said, bool [blocks, 16, C].
        first: The first block.
        end: The one after the last.
        inner: Where to write, float32 [B, H, W, C].
    """
    channels = after.shape[3]
    inputs = np.zeros((FEW * PLACES, channels), np.float32)
    sums = np.empty((FEW * PLACES, linear.shape[0] * FILTERS), np.float32)
    _, height, width, _ = after.shape
    for start in range(first, end, FEW):
        number = min(FEW, end - start)
        for block in range(number):
            image, top, left = corner(after, start + block)
            for i in range(min(SIDE, height - top)):
                for j in range(min(SIDE, width - left)):
                    row = block * PLACES + SIDE * i + j
                    for c in range(channels):
                        inputs[row, c] = after[image, top + i, left + j, c]
        multiply(inputs, number * PLACES, linear, sums)
        for block in range(number):
            image, top, left = corner(after, start + block)
            for i in range(min(SIDE, height - top)):
                for j in range(min(SIDE, width - left)):
                    place = SIDE * i + j
                    for c in range(channels):
                        let = positive[start + block, place, c]
                        value = sums[block * PLACES + place, c] * scale[image, c]
                        inner[image, top + i, left + j, c] = value if let else np.float32(0)


@compiled_floats
def backward_filters(inner, after, filters, first, end, found):  # type: ignore[no-untyped-def]
    """Gradients of what `forward` got, for some blocks.

    Args:
        inner: What `backward_linear` gave, float32 [B, H, W, C].
        after: Gradients of what `forward` gave, float32 [B, H, W, C].
        filters: Turned, transformed and packed, float32 [36, C / FILTERS, C, FILTERS].
        first: The first block.
        end: The one after the last.
        found: Where to write, float32 [B, H, W, C].
    """
    channels, wide = inner.shape[3], filters.shape[1] * FILTERS
    seen = np.zeros((REACH * REACH, BLOCKS, channels), np.float32)
    products = np.empty((REACH * REACH, BLOCKS, wide), np.float32)
    sums = np.empty((FEW * PLACES, channels), np.float32)
    none = np.zeros(channels, np.float32)
    for start in range(first, end, BLOCKS):
        blocks = min(BLOCKS, end - start)
        filtered(inner, start, blocks, filters, seen, products)
        for few in range(0, blocks, FEW):
            number = min(FEW, blocks - few)
            results(products, few, number, sums)
            put(sums, start + few, number, after, none, found)


@part
def corner(x, block):  # type: ignore[no-untyped-def]
    """Image, row and column where a block begins."""
    _, height, width, _ = x.shape
    high, wide = -(-height // SIDE), -(-width // SIDE)
    return block // (high * wide), block // wide % high * SIDE, block % wide * SIDE


@part
def multiply(inputs, rows, packed, sums):  # type: ignore[no-untyped-def]
    """Rows of inputs [rows, C] by packed filters, rounded up to a multiple of ROWS."""
    count = inputs.shape[1]
    next_inputs, next_sums = 4 * count, 4 * sums.shape[1]
    for n in range(packed.shape[0]):
        block = packed.ctypes.data + 4 * n * count * FILTERS
        for row in range(0, rows, ROWS):
            _rows_by_filters(
                sums.ctypes.data + row * next_sums + 4 * n * FILTERS,
                next_sums,
                inputs.ctypes.data + row * next_inputs,
                next_inputs,
                block,
                count,
            )


@part
def filtered(x, first, blocks, filters, seen, products):  # type: ignore[no-untyped-def]
    """What some blocks see, transformed, and its products."""
    _, height, width, channels = x.shape
    column = np.empty((REACH, channels), np.float32)
    half = np.empty((REACH, REACH, channels), np.float32)
    for block in range(blocks):
        image, top, left = corner(x, first + block)
        for j in range(REACH):
            for i in range(REACH):
                y, at = top - 1 + i, left - 1 + j
                if 0 <= y < height and 0 <= at < width:
                    for c in range(channels):
                        column[i, c] = x[image, y, at, c]
                else:
                    for c in range(channels):
                        column[i, c] = 0
            for c in range(channels):
                a, b, d = column[1, c], column[2, c], column[3, c]
                e, f, g = column[4, c], column[0, c], column[5, c]
                half[0, j, c] = FOUR * f - FIVE * b + e
                half[1, j, c] = e + d - FOUR * (a + b)
                half[2, j, c] = e - d + FOUR * (a - b)
                half[3, j, c] = e - b + TWO * (d - a)
                half[4, j, c] = e - b - TWO * (d - a)
                half[5, j, c] = FOUR * a - FIVE * d + g
        for i in range(REACH):
            for c in range(channels):
                a, b, d = half[i, 1, c], half[i, 2, c], half[i, 3, c]
                e, f, g = half[i, 4, c], half[i, 0, c], half[i, 5, c]
                seen[REACH * i, block, c] = FOUR * f - FIVE * b + e
                seen[REACH * i + 1, block, c] = e + d - FOUR * (a + b)
                seen[REACH * i + 2, block, c] = e - d + FOUR * (a - b)
                seen[REACH * i + 3, block, c] = e - b + TWO * (d - a)
                seen[REACH * i + 4, block, c] = e - b - TWO * (d - a)
                seen[REACH * i + 5, block, c] = FOUR * a - FIVE * d + g
    for n in range(REACH * REACH):
        multiply(seen[n], blocks, filters[n], products[n])


@part
def results(products, first, blocks, to):  # type: ignore[no-untyped-def]
    """Products of some blocks transformed back: to [blocks * 16, C]."""
    channels = to.shape[1]
    half = np.empty((SIDE, REACH, channels), np.float32)
    for block in range(blocks):
        at = first + block
        for j in range(REACH):
            for c in range(channels):
                a, b = products[REACH + j, at, c], products[2 * REACH + j, at, c]
                d, e = products[3 * REACH + j, at, c], products[4 * REACH + j, at, c]
                half[0, j, c] = products[j, at, c] + (a + b) + (d + e)
                half[1, j, c] = (a - b) + TWO * (d - e)
                half[2, j, c] = (a + b) + FOUR * (d + e)
                half[3, j, c] = (a - b) + EIGHT * (d - e) + products[5 * REACH + j, at, c]
        for i in range(SIDE):
            row = block * PLACES + SIDE * i
            for c in range(channels):
                a, b, d, e = half[i, 1, c], half[i, 2, c], half[i, 3, c], half[i, 4, c]
                to[row, c] = half[i, 0, c] + (a + b) + (d + e)
                to[row + 1, c] = (a - b) + TWO * (d - e)
                to[row + 2, c] = (a + b) + FOUR * (d + e)
                to[row + 3, c] = (a - b) + EIGHT * (d - e) + half[i, 5, c]


@part
def put(sums, first, blocks, before, bias, to):  # type: ignore[no-untyped-def]
    """Adds sums of some blocks and a bias to what was before: to [B, H, W, C]."""
    _, height, width, channels = to.shape
    for block in range(blocks):
        image, top, left = corner(to, first + block)
        for i in range(min(SIDE, height - top)):
            for j in range(min(SIDE, width - left)):
                row, y, x = block * PLACES + SIDE * i + j, top + i, left + j
                for c in range(channels):
                    to[image, y, x, c] = before[image, y, x, c] + bias[c] + sums[row, c]
