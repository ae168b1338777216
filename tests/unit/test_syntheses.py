"""Syntheses of a model: files of their own, what a file asks for, and what is restored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import NATURAL_CONFIG, register, write_tiny_natural

from vqcodec import codec, registry, syntheses
from vqcodec.errors import CodecError, WeightsError
from vqcodec.image import Image
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.models.natural import Natural
from vqcodec.weights_file import Model, load


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return load(tiny_model)


@pytest.fixture
def weights(model: Model, tmp_path: Path) -> Path:
    """Of a natural synthesis that changes something."""
    write_tiny_natural(tmp_path / "natural.safetensors", model)
    return tmp_path / "natural.safetensors"


@pytest.fixture
def registered(model: Model, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(weights, model, monkeypatch)


@pytest.fixture
def image() -> Image:
    generator = np.random.default_rng(0)
    return Image(generator.integers(0, 256, (70, 90, 3), dtype=np.uint8), grey=False)


def test_what_is_written_is_what_is_read(model: Model, weights: Path) -> None:
    found = syntheses.synthesis_of(model, weights)
    assert isinstance(found, Natural)
    assert found.config == NATURAL_CONFIG
    tensors = load_file(weights)
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    state = found.state_dict()
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in tensors.items())
    assert syntheses.synthesis_of(model, str(weights)) is found


def test_same_file_two_syntheses(image: Image, tiny_model: Path, weights: Path) -> None:
    data = codec.compress(image, quality=1, model=tiny_model).data
    plain = codec.decompress(data, model=tiny_model).pixels
    faithful = codec.decompress(data, model=tiny_model, synthesis="faithful").pixels
    natural = codec.decompress(data, model=tiny_model, synthesis=weights).pixels
    assert np.array_equal(plain, faithful)
    assert natural.shape == plain.shape
    assert not np.array_equal(natural, plain)


def test_from_some_levels_it_is_faithful(image: Image, tiny_model: Path, weights: Path) -> None:
    data = codec.compress(image, quality=1, model=tiny_model).data
    coarse = codec.decompress(data, model=tiny_model, levels=1).pixels
    found = codec.decompress(data, model=tiny_model, levels=1, synthesis=weights).pixels
    assert np.array_equal(found, coarse)


@pytest.mark.usefixtures("registered")
def test_a_file_says_what_it_is_made_for(image: Image, tiny_model: Path, weights: Path) -> None:
    files = {  # without a search, which would be for what restores
        name: codec.compress(image, quality=1, effort=1, model=tiny_model, synthesis=name).data
        for name in (None, "faithful", "natural")
    }
    assert codec.inspect(files[None]).extras == {}
    assert codec.inspect(files["faithful"]).extras == {4: b"\0"}
    assert codec.inspect(files["natural"]).extras == {4: b"\1"}
    restored = {name: codec.decompress(data, model=tiny_model) for name, data in files.items()}
    natural = codec.decompress(files[None], model=tiny_model, synthesis=weights).pixels
    assert np.array_equal(restored[None].pixels, restored["faithful"].pixels)
    assert np.array_equal(restored["natural"].pixels, natural)
    faithful = codec.decompress(files["natural"], model=tiny_model, synthesis="faithful").pixels
    assert np.array_equal(faithful, restored[None].pixels)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("tune", ["psnr", "natural"])
def test_the_search_is_for_what_restores(image: Image, tiny_model: Path, tune: str) -> None:
    """Of two files for one quality, the one searched for the natural synthesis is nearer by it."""
    errors = []
    for synthesis in ("faithful", "natural"):
        data = codec.compress(
            image, quality=1, effort=6, model=tiny_model, synthesis=synthesis, tune=tune
        ).data
        restored = codec.decompress(data, model=tiny_model, synthesis="natural").pixels
        errors.append(np.square(restored.astype(float) - image.pixels).mean())
    assert errors[1] < errors[0]


@pytest.mark.usefixtures("registered")
def test_a_tune_says_what_a_file_is_made_for(image: Image, tiny_model: Path) -> None:
    data = codec.compress(image, quality=1, effort=1, model=tiny_model, tune="natural").data
    assert codec.inspect(data).extras == {4: b"\1"}
    with pytest.raises(CodecError, match="no tune 'sharp'; give psnr, ssimulacra2, natural"):
        codec.compress(image, model=tiny_model, tune="sharp")


def test_a_file_made_for_what_is_not_there(
    image: Image, tiny_model: Path, registered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = codec.compress(image, quality=1, model=tiny_model, synthesis="natural").data
    monkeypatch.setattr(registry, "SYNTHESES", {})
    faithful = codec.decompress(data, model=tiny_model, synthesis="faithful").pixels
    assert np.array_equal(codec.decompress(data, model=tiny_model).pixels, faithful)
    with pytest.raises(CodecError, match="has no natural synthesis; use the faithful one"):
        codec.decompress(data, model=tiny_model, synthesis="natural")


def test_names_that_are_none(image: Image, tiny_model: Path) -> None:
    with pytest.raises(CodecError, match="no synthesis 'pretty'; give faithful or natural"):
        codec.compress(image, quality=1, model=tiny_model, synthesis="pretty")
    data = codec.compress(image, quality=1, model=tiny_model).data
    with pytest.raises(CodecError, match="no synthesis 'pretty'; give faithful or natural"):
        codec.decompress(data, model=tiny_model, synthesis="pretty")
    with pytest.raises(CodecError, match=r"tiny-test has no natural synthesis"):
        codec.compress(image, quality=1, model=tiny_model, synthesis="natural")


@pytest.mark.usefixtures("registered")
def test_another_file_than_the_registered_one(model: Model, weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="install vqcodec anew"):
        syntheses.synthesis_of(model, "natural")


def rewritten(weights: Path, **metadata: str) -> Path:
    known = registry.read_metadata(weights)
    other = weights.parent / "other.safetensors"
    save_file(load_file(weights), other, {**known, **metadata})
    return other


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"model_sha256": "0" * 64}, "is a synthesis of tiny-test with SHA-256 0000000000000000"),
        ({"format": "other"}, "its format is not vqcodec-synthesis-1"),
        ({"config": "{"}, "JSONDecodeError"),
        ({"config": '{"wide": 1}'}, "TypeError"),
        ({"config": '{"blocks": 2}'}, "has not the tensors of its shape"),
        ({"config": '{"blocks": 1, "fine_blocks": 1, "fine_channels": 4}'}, "RuntimeError"),
    ],
)
def test_malformed_files(
    model: Model, weights: Path, metadata: dict[str, str], message: str
) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        syntheses.synthesis_of(model, rewritten(weights, **metadata))
    assert "other.safetensors" in str(caught.value)


def test_missing_files(model: Model, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        syntheses.synthesis_of(model, tmp_path / "absent.safetensors")


def test_what_float16_cannot_hold(model: Model, tmp_path: Path) -> None:
    assert isinstance(model.autoencoder, Autoencoder)
    natural = Natural(model.autoencoder, NATURAL_CONFIG)
    torch.nn.init.constant_(natural.texture.pixels_out.weight, 1e6)
    with pytest.raises(CodecError, match=r"pixels_out\.weight: not finite in float16"):
        syntheses.write(tmp_path / "natural.safetensors", model, natural)
