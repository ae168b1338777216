"""Transforms of `vqcodec.models.winograd`, compiled: blocks of 4x4 results, which see 6x6 inputs.

Source: Lavin and Gray 2016, F(4x4, 3x3), section 4.
"""

from __future__ import annotations

import numpy as np

from vqcodec.kernels.store import compiled_floats

SIDE = 4
REACH = 6
TWO, FOUR, FIVE, EIGHT = (np.float32(n) for n in (2, 4, 5, 8))


@compiled_floats
def inputs(x, first, high, to):  # type: ignore[no-untyped-def]
    """Transforms what some rows of blocks see.

    Args:
        x: float32 [H, W, C]; around it there is zero.
        first: The first row of blocks.
        high: How many.
        to: float32 [36, high * blocks of a row, C].
    """
    height, width, channels = x.shape
    wide = to.shape[1] // high
    seen = np.zeros((REACH, channels), np.float32)
    half = np.empty((REACH, REACH, channels), np.float32)
    for block in range(high * wide):
        top = SIDE * (first + block // wide) - 1
        left = SIDE * (block % wide) - 1
        for j in range(REACH):
            for i in range(REACH):
                inside = 0 <= top + i < height and 0 <= left + j < width
                for c in range(channels):
                    seen[i, c] = x[top + i, left + j, c] if inside else np.float32(0)
            for c in range(channels):
                a, b, d = seen[1, c], seen[2, c], seen[3, c]
                e, f, g = seen[4, c], seen[0, c], seen[5, c]
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
                to[REACH * i, block, c] = FOUR * f - FIVE * b + e
                to[REACH * i + 1, block, c] = e + d - FOUR * (a + b)
                to[REACH * i + 2, block, c] = e - d + FOUR * (a - b)
                to[REACH * i + 3, block, c] = e - b + TWO * (d - a)
                to[REACH * i + 4, block, c] = e - b - TWO * (d - a)
                to[REACH * i + 5, block, c] = FOUR * a - FIVE * d + g


@compiled_floats
def results(products, bias, first, high, to):  # type: ignore[no-untyped-def]
    """Transforms products of some rows of blocks back.

    Args:
        products: float32 [36, high * blocks of a row, C].
        bias: Added to all, float32 [C].
        first: The first row of blocks.
        high: How many.
        to: float32 [H, W, C].
    """
    height, width, channels = to.shape
    wide = products.shape[1] // high
    half = np.empty((SIDE, REACH, channels), np.float32)
    row = np.empty((SIDE, channels), np.float32)
    for block in range(high * wide):
        top = SIDE * (first + block // wide)
        left = SIDE * (block % wide)
        for j in range(REACH):
            for c in range(channels):
                a, b = products[REACH + j, block, c], products[2 * REACH + j, block, c]
                d, e = products[3 * REACH + j, block, c], products[4 * REACH + j, block, c]
                half[0, j, c] = products[j, block, c] + (a + b) + (d + e)
                half[1, j, c] = (a - b) + TWO * (d - e)
                half[2, j, c] = (a + b) + FOUR * (d + e)
                half[3, j, c] = (a - b) + EIGHT * (d - e) + products[5 * REACH + j, block, c]
        for i in range(min(SIDE, height - top)):
            for c in range(channels):
                a, b, d, e = half[i, 1, c], half[i, 2, c], half[i, 3, c], half[i, 4, c]
                row[0, c] = bias[c] + half[i, 0, c] + (a + b) + (d + e)
                row[1, c] = bias[c] + (a - b) + TWO * (d - e)
                row[2, c] = bias[c] + (a + b) + FOUR * (d + e)
                row[3, c] = bias[c] + (a - b) + EIGHT * (d - e) + half[i, 5, c]
            for j in range(min(SIDE, width - left)):
                for c in range(channels):
                    to[top + i, left + j, c] = row[j, c]
