"""What autoencoders restore, and the files it is written to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vqcodec.errors import OutputError
from vqcodec.image import load as load_image
from vqcodec.metrics.likelihood import likelihood
from vqcodec.metrics.photo_sets import Crops, Source
from vqcodec.metrics.reconstruction import reconstruct, write_reconstructions
from vqcodec.weights_file import load

SIDE = 64


def test_they_are_those_of_all_levels(coffee: Path, tiny_model: Path) -> None:
    model = load(tiny_model)
    photos, _ = Crops(Source(coffee.parent, limit=2), SIDE).read(model)
    restored = list(reconstruct(model, photos, side=SIDE))
    assert [number for number, _, _ in restored] == [0, 1]
    errors = [float((after.double() - before).square().mean()) for _, before, after in restored]
    found = likelihood(model, photos, side=SIDE)
    assert found.levels[-1].mse == pytest.approx(sum(errors) / 2)


def test_they_are_written_by_class(coffee: Path, tiny_model: Path, tmp_path: Path) -> None:
    crops = Crops(Source(coffee.parent), SIDE)
    target, originals = tmp_path / "restored", tmp_path / "originals"
    assert write_reconstructions(crops, target, originals, model=tiny_model) == 3
    model = load(tiny_model)
    photos, _ = crops.read(model)
    for n, before, after in reconstruct(model, photos, side=SIDE):
        name = Path(coffee.parent.name, f"{n:06d}.png")
        assert np.array_equal(load_image(target / name).pixels, after)
        assert np.array_equal(load_image(originals / name).pixels, before)
    with pytest.raises(OutputError, match="exists already"):
        write_reconstructions(crops, target, model=tiny_model)
