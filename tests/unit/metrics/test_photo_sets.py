"""Sets of images to measure on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vqcodec.errors import CodecError
from vqcodec.metrics.photo_sets import Crops, Source, spread, square
from vqcodec.photos import Photo
from vqcodec.weights_file import load


def photo(height: int, width: int, label: str = "a") -> Photo:
    """Red tells the row, green the column."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(height)[:, None]
    pixels[..., 1] = np.arange(width)
    return Photo(pixels, label)


def test_squares_are_the_middle() -> None:
    wide = square(photo(4, 10))
    assert wide.shape == (4, 4, 3)
    assert wide[0, :, 1].tolist() == [3, 4, 5, 6]
    assert square(photo(10, 4))[:, 0, 0].tolist() == [3, 4, 5, 6]


def test_squares_are_scaled() -> None:
    grey = Photo(np.full((6, 8, 3), 77, np.uint8), "a")
    for side in (3, 6, 16):
        assert torch.equal(square(grey, side), torch.full((side, side, 3), 77, dtype=torch.uint8))


def test_a_spread_reaches_every_label() -> None:
    photos = [photo(1, 1, label) for label in "aaabbbccc"]
    assert [each.label for each in spread(photos, 3)] == ["a", "b", "c"]
    assert spread(photos, None) == spread(photos, 20) == photos


def test_crops_fit_the_strides_of_the_model(
    coffee: Path, tiny_model: Path, class_model: Path
) -> None:
    source = Source(coffee.parent)
    assert Crops(source, 96).read(load(tiny_model))[1] == 96
    for side, path in ((40, tiny_model), (None, class_model)):
        with pytest.raises(CodecError, match="multiple of 32 pixels, not 40"):
            Crops(source, side).read(load(path))


def test_crops_are_of_images_that_are_large_enough(coffee: Path, tiny_model: Path) -> None:
    model = load(tiny_model)
    source = Source(coffee.parent)
    photos, side = Crops(source).read(model)
    assert (len(photos), side) == (2, 256)
    photos, side = Crops(source, 64).read(model)
    assert (len(photos), side) == (3, 64)
    (photo,), side = Crops(Source(coffee.parent, limit=1), 64, short_side=70).read(model)
    assert min(photo.pixels.shape[:2]) == 70
