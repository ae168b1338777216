"""Images to judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from vqcodec.errors import CodecError
from vqcodec.metrics.pictures import Labelled, check_apart, read, spread, square
from vqcodec.photos import Photo


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


def test_labels_become_numbers() -> None:
    photos = [photo(4, 4, label) for label in ("b", "a", "b", "c")]
    every = Labelled.of(photos, 4)
    assert (every.labels, every.classes.tolist()) == (("a", "b", "c"), [1, 0, 1, 2])
    some = Labelled.of(photos, 4, ("b", "c"))
    assert (some.classes.tolist(), some.left_out) == ([0, 0, 1], 1)
    assert some.images.shape == (3, 4, 4, 3)


def test_small_arrays_are_extended_and_small_pictures_are_kept(tmp_path: Path) -> None:
    images, labels = np.zeros((2, 5, 5), np.uint8), np.arange(2)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "a.npz", **arrays)
    assert read(tmp_path / "a.npz", side=8)[0].pixels.shape == (8, 8, 3)
    (tmp_path / "b").mkdir()
    PillowImage.fromarray(images[0]).save(tmp_path / "b" / "0.png")
    assert read(tmp_path / "b", side=8)[0].pixels.shape == (5, 5, 3)


def test_training_and_test_images_are_kept_apart(tmp_path: Path) -> None:
    check_apart(tmp_path, "train", tmp_path, "validation")
    check_apart(tmp_path, "all", tmp_path / "other", "all")
    for split in ("all", "validation"):
        with pytest.raises(CodecError, match="is trained on and tested on"):
            check_apart(tmp_path, split, tmp_path, "validation")
