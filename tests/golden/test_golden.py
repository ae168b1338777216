"""Files that earlier releases made still decode to the same indices and the same image."""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corridor import decoded_indices, file_of
from safetensors.torch import load_file

from vqcodec import codec, container
from vqcodec.image import load
from vqcodec.models.families import FAMILIES
from vqcodec.models.family import FamilyConfig
from vqcodec.models.vqvae import VQVAEConfig
from vqcodec.weights_file import load as load_model

HERE = Path(__file__).parent
MANIFEST: dict[str, Any] = json.loads((HERE / "manifest.json").read_text())
CASES: dict[str, dict[str, Any]] = MANIFEST["cases"]
LOSSLESS: dict[str, dict[str, Any]] = MANIFEST["lossless"]
LARGEST = 1_000_000  # bytes of all golden files together

each_case = pytest.mark.parametrize("name", CASES)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def model_of(name: str) -> Path:
    return HERE / f"{CASES[name].get('model', 'tiny')}.safetensors"


def indices_of(name: str) -> list[torch.Tensor]:
    levels = load_file(HERE / f"{name}.safetensors")
    return [levels[f"level.{n}"].long() for n in range(len(levels))]


def test_files_are_as_they_were_written() -> None:
    expected = dict(MANIFEST["model"])
    for case in [*CASES.values(), *LOSSLESS.values()]:
        expected |= case["sha256"]
    files = [path for path in HERE.iterdir() if path.suffix in {".vqz", ".safetensors", ".png"}]
    assert {path.name: sha256(path.read_bytes()) for path in files} == expected
    assert sum(path.stat().st_size for path in files) < LARGEST


def form(config: FamilyConfig) -> str:
    """What makes the walk through an autoencoder's levels another one."""
    if not isinstance(config, VQVAEConfig):
        return "the codec's own"
    if config.residual:
        return "VQ-VAE, linked" if config.linked else "VQ-VAE, one stride"
    return "VQ-VAE, several strides" if len(config.levels) > 1 else "VQ-VAE, one level"


def test_every_family_has_a_file() -> None:
    autoencoders = [load_model(path).autoencoder for path in {*map(model_of, CASES)}]
    assert {each.config.to_dict().get("family") for each in autoencoders} == {*FAMILIES}
    assert {form(each.config) for each in autoencoders} == {
        "the codec's own",
        "VQ-VAE, one level",
        "VQ-VAE, several strides",
        "VQ-VAE, one stride",
        "VQ-VAE, linked",
    }


def test_generator_has_nothing_to_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    runpy.run_path(str(HERE / "generate.py"), run_name="__main__")
    assert capsys.readouterr() == ("", "")


@each_case
def test_header(name: str) -> None:
    case = CASES[name]
    header = container.peek((HERE / f"{name}.vqz").read_bytes())
    assert (header.width, header.height) == (case["width"], case["height"])
    assert (header.tile, header.quality) == (case["tile"], case["quality"])
    assert header.grey == ("grey" in case["mode"])
    assert MANIFEST["model"][model_of(name).name].startswith(header.weights_hash.hex())


@each_case
@pytest.mark.parametrize("batch", [1, 16])
def test_indices(name: str, batch: int) -> None:
    decoded = decoded_indices((HERE / f"{name}.vqz").read_bytes(), model_of(name), batch)
    for found, expected in zip(decoded, indices_of(name), strict=True):
        assert torch.equal(found, expected)


@each_case
@pytest.mark.parametrize("batch", [1, 16])
def test_bytes(name: str, batch: int) -> None:
    """Of the stored indices: entropy coding is exact, the search for indices is float."""
    data = (HERE / f"{name}.vqz").read_bytes()
    contents = container.unpack(data)
    assert (
        file_of(contents.header, contents.extras, indices_of(name), model_of(name), batch) == data
    )


@each_case
@pytest.mark.parametrize("way", ["torch", "numba"])
def test_our_own_coder(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both directions, where constriction cannot be had: plain, and compiled."""
    monkeypatch.setenv("VQCODEC_CODER", "own")
    monkeypatch.setenv("VQCODEC_KERNELS", way)
    test_indices(name, 4)
    test_bytes(name, 4)


@each_case
def test_image(name: str) -> None:
    restored = codec.decompress((HERE / f"{name}.vqz").read_bytes(), model=model_of(name))
    expected = load(HERE / f"{name}.png")
    assert restored.grey == expected.grey
    assert restored.pixels.shape == expected.pixels.shape
    assert np.abs(restored.pixels.astype(int) - expected.pixels).max() <= 1
    if expected.alpha is None:
        assert restored.alpha is None
    else:
        assert restored.alpha is not None
        np.testing.assert_array_equal(restored.alpha, expected.alpha)


@each_case
def test_metadata(name: str) -> None:
    data = (HERE / f"{name}.vqz").read_bytes()
    restored = codec.decompress(data, model=model_of(name))
    extras = container.unpack(data).extras
    found = {str(kind): sha256(content) for kind, content in extras.items()}
    assert found == CASES[name]["extras"]
    assert restored.icc == extras.get(container.EXTRA_ICC)
    assert restored.exif == extras.get(container.EXTRA_EXIF)
    assert (restored.icc is not None) == ("metadata" in CASES[name]["mode"])


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless(name: str) -> None:
    data = (HERE / f"{name}.vqz").read_bytes()
    contents = container.unpack(data)
    case = LOSSLESS[name]
    expected = container.Header.of_lossless(case["width"], case["height"], case["mode"] == "grey")
    assert contents.header == expected
    assert container.pack(contents) == data
    restored, image = codec.decompress(data), load(HERE / f"{name}.png")
    np.testing.assert_array_equal(restored.channels, image.channels)
