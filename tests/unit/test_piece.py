from __future__ import annotations

from typing import Any

import pytest

from vqcodec.container import Header
from vqcodec.errors import CodecError
from vqcodec.piece import Piece, Region, fitted
from vqcodec.tiling import Window

HEADER = Header(600, 400, False, "tiny", bytes(8), tile=64, quality=1, levels=3)
STRIDES = (32, 16, 8)


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((600, 400), None, (600, 400)),
        ((600, 400), 600, (600, 400)),
        ((600, 400), 1000, (600, 400)),
        ((600, 400), 300, (300, 200)),
        ((400, 600), 100, (67, 100)),
        ((1000, 1), 10, (10, 1)),
    ],
)
def test_fitted(size: tuple[int, int], max_side: int | None, expected: tuple[int, int]) -> None:
    assert fitted(size, max_side) == expected


def test_all_of_an_image_is_a_piece() -> None:
    piece = Piece.of(HEADER)
    assert (piece.window, piece.size) == (Window(0, 0, 400, 600), (600, 400))
    assert (piece.reduction, piece.levels(STRIDES), piece.pixels) == (1, 3, 240_000)


@pytest.mark.parametrize(
    ("max_side", "reduction", "levels"),
    [(600, 1, 3), (301, 1, 3), (300, 2, 3), (150, 4, 3), (75, 8, 2), (38, 16, 1), (1, 512, 1)],
)
def test_a_small_piece_needs_the_coarse_levels_alone(
    max_side: int, reduction: int, levels: int
) -> None:
    piece = Piece.of(HEADER, max_side=max_side)
    assert (piece.reduction, piece.levels(STRIDES)) == (reduction, levels)


def test_box() -> None:
    piece = Piece.of(HEADER, (100, 70, 200, 64), 100)
    assert (piece.window, piece.size) == (Window(70, 100, 64, 200), (100, 32))
    assert piece.box(Window(64, 96, 96, 224), 2) == (2.0, 3.0, 102.0, 35.0)


@pytest.mark.parametrize(
    "region",
    [
        (-1, 0, 5, 5),
        (0, -1, 5, 5),
        (0, 0, 0, 5),
        (0, 0, 5, 0),
        (0, 0, 601, 5),
        (596, 0, 5, 5),
        (0, 396, 5, 5),
        (0, 0, -5, -5),
    ],
)
def test_no_such_region(region: Region) -> None:
    with pytest.raises(CodecError, match=r"there is no region .*; the image is 600 x 400"):
        Piece.of(HEADER, region)


@pytest.mark.parametrize(
    ("region", "max_side"),
    [((0, 0, 1.5, 2), None), ((), None), ((0, 0, 5), None), (None, 2.5), ("wide", None)],
)
def test_what_is_not_of_whole_numbers(region: Any, max_side: Any) -> None:
    with pytest.raises(CodecError, match="is not of whole numbers"):
        Piece.of(HEADER, region, max_side)


def test_no_such_side() -> None:
    with pytest.raises(CodecError, match="sides cannot be 0 pixels"):
        Piece.of(HEADER, max_side=0)
