"""Likelihood, against the corridor that writes files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_autoencoder, tiny_priors

from vqcodec.container import Header
from vqcodec.errors import CodecError
from vqcodec.metrics.likelihood import labels_of, likelihood, measure
from vqcodec.metrics.photo_sets import Crops, Source
from vqcodec.photos import Photo
from vqcodec.registry import ClassName
from vqcodec.tiles import Tiles
from vqcodec.training.export import write_weights
from vqcodec.weights_file import Model, load

SIDE = 64
KEYS = ("cat", "dog")


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load(tiny_model)


@pytest.fixture(scope="module")
def photos(coffee: Path) -> list[Photo]:
    """Two crops; the middles of the larger one's sides are what counts."""
    from vqcodec.image import load as load_image

    pixels = load_image(coffee).pixels
    return [Photo(pixels[:64, :70], "cat"), Photo(pixels[100:164, 100:164], "mouse")]


def test_bits_are_those_that_files_take(model: Model, photos: list[Photo]) -> None:
    found = likelihood(model, photos, side=SIDE)
    bits, errors, symbols = [0.0] * 3, [0.0] * 3, [0] * 3
    for photo in photos:
        left = (photo.pixels.shape[1] - SIDE) // 2
        pixels = photo.pixels[:, left : left + SIDE]
        header = Header(SIDE, SIDE, False, model.model_id, bytes(8), tile=64, quality=2, levels=3)
        stages = Tiles(model, header, 1, None)
        indices = stages.analyze(pixels)
        for level in range(3):
            bits[level] += stages.encode(indices[: level + 1])[1]
            symbols[level] += indices[level].numel()
            restored = stages.synthesize(indices[: level + 1])
            errors[level] += float(np.square(restored.astype(float) - pixels).mean())
    for level, each in enumerate(found.levels):
        assert each.bpp == pytest.approx(bits[level] / (2 * SIDE**2))
        assert each.nll == pytest.approx(bits[level] * math.log(2) / symbols[level])
        assert each.mse == pytest.approx(errors[level] / 2, rel=1e-3)
    assert found.bpp == pytest.approx(sum(bits) / (2 * SIDE**2))
    assert (found.images, found.labelled) == (2, 0)


def test_classes_reach_the_priors(tmp_path: Path, photos: list[Photo]) -> None:
    autoencoder = tiny_autoencoder()
    priors = tiny_priors(autoencoder, classes=2)
    for prior in priors:
        torch.nn.init.normal_(prior.context.classes, std=5.0)
    names = tuple(ClassName(key, key, 1) for key in KEYS)
    path = tmp_path / "classes.safetensors"
    write_weights(path, "tiny-classes", autoencoder, priors, classes=names, side=SIDE)
    model = load(path)
    assert labels_of(model, photos).tolist() == [1, 0]
    told = likelihood(model, photos, side=SIDE)
    assert told.labelled == 1
    stranger = [Photo(photo.pixels, "mouse") for photo in photos]
    untold = likelihood(model, stranger, side=SIDE)
    assert untold.labelled == 0
    assert told.bpp != untold.bpp


def test_no_images(model: Model) -> None:
    with pytest.raises(CodecError, match="no images"):
        likelihood(model, [], side=SIDE)


def test_splits_are_measured_one_by_one(coffee: Path, tiny_model: Path) -> None:
    crops = Crops(Source(coffee.parent, limit=2), SIDE)
    found = measure(crops, ["all", "train"], tiny_model, quality=1)
    assert (found.side, found.quality) == (SIDE, 1)
    assert list(found.splits) == ["all", "train"]
    photos, _ = crops.read(found.model)
    assert found.splits["all"] == likelihood(found.model, photos, side=SIDE, quality=1)
