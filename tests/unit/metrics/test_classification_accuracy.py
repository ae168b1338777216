"""How accuracy is counted, and on which images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.metrics.classification_accuracy import Accuracy, Labelled, accuracy, check_apart
from vqcodec.metrics.classifier_training import SmallResNet
from vqcodec.metrics.photo_sets import Source
from vqcodec.photos import Photo


class Ranked(SmallResNet):
    """Always ranks the classes 0, 1, 2, ..."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.arange(9.0, 0, -1).expand(len(images), -1)


def test_accuracy_counts_ranks() -> None:
    images = torch.zeros(9, 16, 16, 3, dtype=torch.uint8)
    found = accuracy(Ranked(9, 16, (8,)), images, torch.arange(9))
    assert found == Accuracy(pytest.approx(1 / 9), pytest.approx(5 / 9))
    with pytest.raises(CodecError, match="no images"):
        accuracy(Ranked(9, 16, (8,)), images[:0], torch.arange(0))


def test_labels_become_numbers() -> None:
    photos = [Photo(np.zeros((4, 4, 3), np.uint8), label) for label in ("b", "a", "b", "c")]
    every = Labelled.of(photos, 4)
    assert (every.labels, every.classes.tolist()) == (("a", "b", "c"), [1, 0, 1, 2])
    some = Labelled.of(photos, 4, ("b", "c"))
    assert (some.classes.tolist(), some.left_out) == ([0, 0, 1], 1)
    assert some.images.shape == (3, 4, 4, 3)


def test_small_arrays_are_extended_and_small_pictures_are_scaled(tmp_path: Path) -> None:
    images, labels = np.zeros((2, 5, 5), np.uint8), np.arange(2)
    images[:, 2, 2] = 255
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "a.npz", **arrays)
    extended = Labelled.read(Source(tmp_path / "a.npz", "train"), 16).images
    assert extended.shape == (2, 16, 16, 3)
    assert (extended == 255).sum() == 2 * 3
    (tmp_path / "b").mkdir()
    PillowImage.fromarray(images[0]).save(tmp_path / "b" / "0.png")
    scaled = Labelled.read(Source(tmp_path / "b"), 16).images
    assert (scaled > 100).sum() > 3 * 4


def test_training_and_test_images_are_kept_apart(tmp_path: Path) -> None:
    check_apart(Source(tmp_path, "train"), Source(tmp_path, "validation"))
    check_apart(Source(tmp_path), Source(tmp_path / "other"))
    for split in ("all", "validation"):
        with pytest.raises(CodecError, match="is trained on and tested on"):
            check_apart(Source(tmp_path, split), Source(tmp_path, "validation"))
