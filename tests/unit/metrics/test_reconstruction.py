"""What autoencoders restore, and the files it is written to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vqcodec.errors import OutputError
from vqcodec.image import load as load_image
from vqcodec.metrics.likelihood import likelihood
from vqcodec.metrics.photo_sets import Crops, Source, centre
from vqcodec.metrics.reconstruction import reconstruct, write_reconstructions
from vqcodec.weights_file import load

SIDE = 64


def test_they_are_those_of_all_levels(coffee: Path, tiny_model: Path) -> None:
    model = load(tiny_model)
    photos, _ = Crops(Source(coffee.parent, limit=2), SIDE).read(model)
    restored = list(reconstruct(model, photos, side=SIDE))
    originals = [centre(photo, SIDE) for photo in photos]
    errors = [
        float((after.double() - before).square().mean())
        for before, after in zip(originals, restored, strict=True)
    ]
    found = likelihood(model, photos, side=SIDE)
    assert found.levels[-1].mse == pytest.approx(sum(errors) / 2)


def test_they_are_written_by_class(coffee: Path, tiny_model: Path, tmp_path: Path) -> None:
    crops = Crops(Source(coffee.parent), SIDE)
    target = tmp_path / "restored"
    assert write_reconstructions(crops, target, model=tiny_model) == 3
    model = load(tiny_model)
    photos, _ = crops.read(model)
    for n, restored in enumerate(reconstruct(model, photos, side=SIDE)):
        name = Path(coffee.parent.name, f"{n:06d}.png")
        assert np.array_equal(load_image(target / name).pixels, restored)
    with pytest.raises(OutputError, match="exists already"):
        write_reconstructions(crops, target, model=tiny_model)
