from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec import tiling
from vqcodec.tiling import Window

sides = st.integers(1, 70)
strides = st.sampled_from([1, 2, 4, 8])


@settings(deadline=None)
@given(sides, sides, st.integers(1, 33))
def test_crop_undoes_pad(height: int, width: int, multiple: int) -> None:
    pixels = np.arange(height * width * 3).astype(np.uint8).reshape(height, width, 3)
    result = tiling.pad(pixels, multiple)
    assert result.shape == (tiling.padded(height, multiple), tiling.padded(width, multiple), 3)
    assert all(
        0 <= large - small < multiple
        for large, small in zip(result.shape, pixels.shape, strict=True)
    )
    np.testing.assert_array_equal(tiling.crop(result, height, width), pixels)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), strides)
def test_split_covers_every_position_once(
    rows: int, columns: int, tile_columns: int, stride: int
) -> None:
    height, width, tile = rows * stride, columns * stride, tile_columns * stride
    count = np.zeros((height // stride, width // stride), int)
    windows = tiling.split(height, width, tile)
    for window in windows:
        count[(window // stride).slices] += 1
    assert (count == 1).all()
    assert windows == sorted(windows, key=lambda window: (window.top, window.left))
    assert len(windows) == -(-height // tile) * -(-width // tile)


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20), sides)
def test_grow_is_the_reachable_neighbourhood(
    top: int, left: int, height: int, width: int, halo: int
) -> None:
    window = Window(top, left, height, width)
    rows, columns = np.ogrid[:45, :40]
    plane = (
        (rows >= top - halo)
        & (rows < top + height + halo)
        & (columns >= left - halo)
        & (columns < left + width + halo)
    )
    expected = np.zeros_like(plane)
    expected[tiling.grow(window, halo, 45, 40).slices] = True
    np.testing.assert_array_equal(plane, expected)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=30), st.integers(1, 8))
def test_batches_lose_nothing(shapes: list[tuple[int, int]], size: int) -> None:
    windows = [Window(0, left, *shape) for left, shape in enumerate(shapes)]
    result = list(tiling.batches(windows, size))
    assert Counter(window for batch in result for window in batch) == Counter(windows)
    for batch in result:
        assert 1 <= len(batch) <= size
        assert len({(window.height, window.width) for window in batch}) == 1
        assert [window.left for window in batch] == sorted(window.left for window in batch)
