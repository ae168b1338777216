"""The packaged models: whole, small enough, described, and able to read what they once wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vqcodec import codec, registry
from vqcodec.drawing.grid import grid
from vqcodec.drawing.sampling import sample
from vqcodec.image import Image, load
from vqcodec.weights_file import load as load_model

LARGEST = 32 << 20  # bytes of one weights file
GOLDEN = Path(__file__).parents[1] / "golden" / "packaged"

each_model = pytest.mark.parametrize("model_id", registry.MODELS)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    mse = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(255**2 / mse))


def test_the_default_model_is_packaged() -> None:
    assert registry.DEFAULT_MODEL in registry.MODELS


@each_model
def test_weights_are_those_registered(model_id: str) -> None:
    weights = registry.locate(model_id)
    assert weights.sha256 == registry.MODELS[model_id].sha256
    assert weights.path.stat().st_size < LARGEST
    assert registry.read_metadata(weights.path)["model_id"] == model_id


@each_model
def test_the_card_names_the_file(model_id: str) -> None:
    card = (registry.weights_directory() / f"{model_id}.md").read_text()
    assert registry.MODELS[model_id].sha256 in card
    for heading in ("## Data", "## Training", "## Results", "## Limits"):
        assert heading in card


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.vqz")), ids=lambda path: path.stem)
def test_files_of_packaged_models_decode_for_ever(path: Path) -> None:
    restored = codec.decompress(path.read_bytes())  # compares the checksum of the indices
    expected = load(path.with_suffix(".png"))
    assert np.abs(restored.pixels.astype(int) - expected.pixels).max() <= 1


def test_every_model_has_such_a_file() -> None:
    files = GOLDEN.glob("*.vqz")
    assert {codec.inspect(path.read_bytes()).header.model_id for path in files} == {
        *registry.MODELS
    }


def test_the_generator_is_packaged_and_small() -> None:
    model_id = registry.default_generator()
    path = registry.locate(model_id).path
    assert path.stat().st_size <= 12_000_000
    classes = registry.read_classes(path)
    assert len(classes) == 1000
    assert classes[97].name == "drake"
    assert sum(each.images >= 200 for each in classes) == 200


def test_a_seed_draws_the_same_images_for_ever() -> None:
    model_id = registry.default_generator()
    drawn = grid(sample(classes=[97, 1], count=2, seed=3), 2)
    expected = load(GOLDEN / f"{model_id}-samples.png")
    assert np.abs(drawn.pixels.astype(int) - expected.pixels).max() <= 1


@pytest.mark.parametrize("model_id", registry.SYNTHESES)
def test_a_natural_synthesis_restores_the_same_file(model_id: str, chelsea: Path) -> None:
    entry = registry.SYNTHESES[model_id]
    assert entry.model_id == model_id
    assert entry.sha256 in (registry.weights_directory() / f"{model_id}.md").read_text()
    assert registry.packaged(entry).path.stat().st_size < LARGEST // 8
    original = load(chelsea)
    crop = Image(original.pixels[64:192, 128:288].copy(), grey=False)
    data = codec.compress(crop, quality=10, effort=1, model=model_id, synthesis="natural").data
    natural = codec.decompress(data).pixels
    faithful = codec.decompress(data, synthesis="faithful").pixels
    assert not np.array_equal(natural, faithful)
    assert psnr(faithful, crop.pixels) - 1.2 < psnr(natural, crop.pixels)
    best = codec.compress(crop, quality=100, effort=1, model=model_id).data
    assert np.array_equal(
        codec.decompress(best, synthesis="natural").pixels, codec.decompress(best).pixels
    )


@pytest.mark.slow
def test_a_photograph_survives(chelsea: Path) -> None:
    original = load(chelsea, keep="none")
    found = []
    for quality in (1, load_model(registry.DEFAULT_MODEL).qualities):
        compressed = codec.compress(original, quality=quality)
        restored = codec.decompress(compressed.data)
        bpp = 8 * len(compressed.data) / original.pixels[..., 0].size
        found.append((bpp, psnr(original.pixels, restored.pixels)))
    (low_bpp, low_psnr), (high_bpp, high_psnr) = found
    assert low_bpp < 0.08
    assert low_psnr > 27
    assert high_bpp < 1.5
    assert high_psnr > 39


@pytest.mark.slow
def test_quality_1_is_where_the_scale_is_stretched_most(chelsea: Path) -> None:
    image = load(chelsea)
    made = [codec.compress(image, quality=quality, effort=1) for quality in (1, 2, 3, 12)]
    weights = [each.rate_weight for each in made]
    assert weights == sorted(set(weights), reverse=True)
    assert weights[-1] == 1.0
    sizes = [len(each.data) for each in made]
    assert sizes == sorted(set(sizes))
