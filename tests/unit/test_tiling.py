from __future__ import annotations

import numpy as np
import pytest

from vqcodec import tiling
from vqcodec.tiling import Window


@pytest.mark.parametrize(
    ("size", "multiple", "expected"), [(1, 32, 32), (32, 32, 32), (33, 32, 64), (7, 1, 7)]
)
def test_padded(size: int, multiple: int, expected: int) -> None:
    assert tiling.padded(size, multiple) == expected


def test_pad_repeats_the_last_row_and_column() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    result = tiling.pad(pixels, 4)
    assert result.dtype == np.uint8
    assert result.shape == (4, 4, 3)
    np.testing.assert_array_equal(tiling.crop(result, 2, 3), pixels)
    np.testing.assert_array_equal(result[3, :3], pixels[1])
    np.testing.assert_array_equal(result[:2, 3], pixels[:, 2])
    np.testing.assert_array_equal(result[3, 3], pixels[1, 2])


def test_pad_leaves_a_multiple_alone() -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    assert tiling.pad(pixels, 4) is pixels


def test_window_in_coarser_units() -> None:
    assert Window(64, 0, 32, 96) // 32 == Window(2, 0, 1, 3)


def test_window_in_coarser_units_must_divide() -> None:
    with pytest.raises(AssertionError, match="not divisible by 32"):
        Window(64, 0, 33, 96) // 32


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Window(0, 0, 9, 9), Window(2, 3, 4, 5)),
        (Window(3, 0, 9, 5), Window(3, 3, 3, 2)),
        (Window(6, 3, 4, 5), None),
        (Window(2, 8, 4, 5), None),
    ],
)
def test_what_lies_in_two_windows(other: Window, expected: Window | None) -> None:
    window = Window(2, 3, 4, 5)
    assert window & other == other & window == expected


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(0, 0, 32, 64), Window(0, 0, 32, 64)),
        (Window(31, 33, 2, 1), Window(0, 32, 64, 32)),
    ],
)
def test_widened(window: Window, expected: Window) -> None:
    assert tiling.widened(window, 32) == expected


def test_slices_cut_the_window_out() -> None:
    plane = np.arange(30).reshape(5, 6)
    np.testing.assert_array_equal(plane[Window(1, 2, 2, 3).slices], [[8, 9, 10], [14, 15, 16]])


def test_split_is_in_raster_order_with_smaller_edges() -> None:
    assert tiling.split(96, 160, 64) == [
        Window(0, 0, 64, 64),
        Window(0, 64, 64, 64),
        Window(0, 128, 64, 32),
        Window(64, 0, 32, 64),
        Window(64, 64, 32, 64),
        Window(64, 128, 32, 32),
    ]


def test_split_of_less_than_a_tile() -> None:
    assert tiling.split(32, 64, 1024) == [Window(0, 0, 32, 64)]


def test_grow_is_clipped_to_the_plane() -> None:
    assert tiling.grow(Window(8, 0, 8, 8), 4, 100, 10) == Window(4, 0, 16, 10)
    assert tiling.grow(Window(8, 8, 8, 8), 4, 100, 100) == Window(4, 4, 16, 16)


def test_batches_hold_one_shape_in_order() -> None:
    first, second, edge, third = (Window(0, 8 * i, 8, 4 if i == 2 else 8) for i in range(4))
    windows = [first, second, edge, third]
    assert list(tiling.batches(windows, 2)) == [[first, second], [third], [edge]]
    assert list(tiling.batches(windows, 16)) == [[first, second, third], [edge]]
    assert list(tiling.batches([], 2)) == []
