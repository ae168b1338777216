from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import CONFIG, MODEL_ID, tiny_autoencoder, tiny_priors
from torch import Tensor

from vqcodec import codec, registry
from vqcodec.errors import CodecError, UnknownModelError, WeightsError
from vqcodec.image import Image
from vqcodec.training.export import write_weights
from vqcodec.weights_file import load


@pytest.fixture
def registered(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packaged model of its own weights directory, with the id of the tiny one."""
    path = tmp_path / "tiny-test.safetensors"
    shutil.copyfile(tiny_model, path)
    sha256 = registry.sha256_of(path)
    entry = registry.Entry(MODEL_ID, path.name, sha256, "for tests")
    monkeypatch.setitem(registry.MODELS, MODEL_ID, entry)
    monkeypatch.setattr(registry, "weights_directory", lambda: tmp_path)
    return path


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other weights under the tiny model's id."""
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    autoencoder = tiny_autoencoder()
    with torch.no_grad():
        autoencoder.levels[0].basis.mul_(-1)
    write_weights(path, MODEL_ID, autoencoder, tiny_priors(autoencoder))
    return path


def small_file(model: Path | str) -> bytes:
    image = Image(np.full((8, 8, 3), 100, np.uint8), grey=False)
    return codec.compress(image, lossless="never", model=model).data


def test_load(tiny_model: Path) -> None:
    model = load(tiny_model)
    assert model.model_id == MODEL_ID
    assert model.sha256 == registry.sha256_of(tiny_model)
    assert model.strides == (32, 16, 8)
    assert model.qualities == 3
    assert [prior.sizes for prior in model.priors] == [[8, 16], [16, 16, 32], [16, 16]]
    assert not model.autoencoder.training


def test_networks_are_those_that_were_written(tiny_model: Path) -> None:
    written = tiny_autoencoder().state_dict()
    for name, tensor in load(tiny_model).autoencoder.state_dict().items():
        assert tensor.dtype == torch.float32
        if not name.endswith(".counts"):
            torch.testing.assert_close(tensor, written[name].half().float())


def test_a_model_is_loaded_once(tiny_model: Path) -> None:
    assert load(tiny_model) is load(tiny_model)


def test_registered_model(registered: Path) -> None:
    assert load(MODEL_ID).sha256 == registry.MODELS[MODEL_ID].sha256
    data = small_file(MODEL_ID)
    assert codec.decompress(data).pixels.shape == (8, 8, 3)


def test_unknown_id() -> None:
    with pytest.raises(UnknownModelError, match=r"'nonsense'.*--model FILE"):
        load("nonsense")


def test_registered_weights_missing(registered: Path) -> None:
    expected = registry.MODELS[MODEL_ID].sha256
    data = small_file(MODEL_ID)
    registered.unlink()
    for use in (lambda: load(MODEL_ID), lambda: codec.decompress(data)):
        with pytest.raises(WeightsError, match=f"no such file.*{expected}"):
            use()


def test_missing_weights_of_a_file_name_both_hashes(registered: Path) -> None:
    data = small_file(MODEL_ID)
    sha256 = registry.MODELS[MODEL_ID].sha256
    registered.unlink()
    with pytest.raises(WeightsError) as found:
        codec.decompress(data)
    assert f"have SHA-256 {sha256}" in str(found.value)
    assert f"coded with weights of SHA-256 {sha256[:16]}..." in str(found.value)


def test_a_file_of_an_unknown_model_names_the_hash_of_its_weights(tiny_model: Path) -> None:
    data = small_file(tiny_model)
    with pytest.raises(UnknownModelError) as found:
        codec.decompress(data)
    assert registry.sha256_of(tiny_model)[:16] in str(found.value)


def test_no_such_device(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CodecError, match="no device 'cuda' here"):
        load(tiny_model, "cuda")


def test_registered_weights_altered(registered: Path) -> None:
    expected = registry.MODELS[MODEL_ID].sha256
    data = small_file(MODEL_ID)
    content = bytearray(registered.read_bytes())
    content[-1] ^= 1
    registered.write_bytes(content)
    found = registry.sha256_of(registered)
    for use in (lambda: load(MODEL_ID), lambda: codec.decompress(data)):
        with pytest.raises(WeightsError, match=f"{found}.*{expected}"):
            use()


def test_weights_file_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors: cannot be read"):
        load(tmp_path / "nowhere.safetensors")


def test_foreign_weights_name_both_hashes(tiny_model: Path, other_model: Path) -> None:
    data = small_file(tiny_model)
    expected = registry.sha256_of(tiny_model)[:16]
    found = registry.sha256_of(other_model)
    assert not found.startswith(expected)
    with pytest.raises(WeightsError, match=rf"{expected}\.\.\..*{found}.*--model FILE"):
        codec.decompress(data, model=other_model)


def test_altered_weights_name_both_hashes(tiny_model: Path, tmp_path: Path) -> None:
    data = small_file(tiny_model)
    altered = tmp_path / "altered.safetensors"
    content = bytearray(tiny_model.read_bytes())
    content[-1] ^= 1
    altered.write_bytes(content)
    expected, found = registry.sha256_of(tiny_model)[:16], registry.sha256_of(altered)
    with pytest.raises(WeightsError, match=rf"{expected}\.\.\..*{found}"):
        codec.decompress(data, model=altered)


@pytest.mark.parametrize("kept", [0, 7, 100, 3000, -1])
def test_truncated_weights(tiny_model: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_model.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"cut\.safetensors"):
        load(cut)


def test_a_text_file_is_no_weights_file(tmp_path: Path) -> None:
    text = tmp_path / "a.safetensors"
    text.write_text("no weights at all, but text that is longer than a few bytes")
    with pytest.raises(WeightsError, match=r"a\.safetensors"):
        load(text)


Change = Callable[[dict[str, Tensor], dict[str, str], dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, metadata, config: metadata.update(format="vqcodec-weights-999"),
        lambda tensors, metadata, config: metadata.pop("format"),
        lambda tensors, metadata, config: metadata.pop("model_id"),
        lambda tensors, metadata, config: config.clear(),
        lambda tensors, metadata, config: config["priors"].pop(),
        lambda tensors, metadata, config: config["priors"].append(None),
        lambda tensors, metadata, config: config.update(priors=7),
        lambda tensors, metadata, config: config["autoencoder"].update(levels=[]),
        lambda tensors, metadata, config: config["autoencoder"].update(levels=[[]]),
        lambda tensors, metadata, config: config["autoencoder"].update(unknown=1),
        lambda tensors, metadata, config: config["autoencoder"].update(refine_stride=0),
        lambda tensors, metadata, config: config["autoencoder"].update(refine_stride=16),
        lambda tensors, metadata, config: config["autoencoder"].update(choice_weight=[]),
        lambda tensors, metadata, config: config["autoencoder"].update(lmbdas=[1.0, None, 2.0]),
        lambda tensors, metadata, config: config["autoencoder"].update(refine_blocks=1 << 18),
        lambda tensors, metadata, config: config["autoencoder"]["levels"][2].update(channels=0),
        lambda tensors, metadata, config: config["priors"][1].update(head_channels=16.0),
        lambda tensors, metadata, config: (
            config["autoencoder"].update(levels=config["autoencoder"]["levels"] * 3),
            config.update(priors=config["priors"] * 3),
        ),
        lambda tensors, metadata, config: config["autoencoder"]["levels"][1].update(stride=0),
        lambda tensors, metadata, config: config["priors"][1].update(blocks=3),
        lambda tensors, metadata, config: config["priors"][1].update(blocks="x"),
        lambda tensors, metadata, config: config["priors"][1].update(codebooks=[8]),
        lambda tensors, metadata, config: config["priors"][1].update(coarser=3),
        lambda tensors, metadata, config: config["priors"][0].update(attention_layers=3),
        lambda tensors, metadata, config: config["priors"][0].update(attention_heads=3),
        lambda tensors, metadata, config: config.update(classes=7),
        lambda tensors, metadata, config: config.update(classes=[["cat", "cat"]]),
        lambda tensors, metadata, config: config.update(classes=[["cat", "cat", "1"]]),
        lambda tensors, metadata, config: config.update(classes=[["cat", None, 1]]),
        lambda tensors, metadata, config: config.update(classes=[["cat", "cat", 1]]),
        lambda tensors, metadata, config: config.update(side="64"),
        lambda tensors, metadata, config: config.update(side=0),
        lambda tensors, metadata, config: config.update(shapings=[{"temperature": 0.5}]),
        lambda tensors, metadata, config: config.update(shapings=[{"heat": 1.0}, {}, {}]),
        lambda tensors, metadata, config: config.update(shapings=[{"top_p": "1"}, {}, {}]),
        lambda tensors, metadata, config: config.update(shapings=["temperature"] * 3),
        lambda tensors, metadata, config: tensors.pop("tables.gate"),
        lambda tensors, metadata, config: tensors.pop("priors.0.enter.weight"),
        lambda tensors, metadata, config: tensors.pop("autoencoder.levels.0.basis"),
        lambda tensors, metadata, config: tensors["priors.0.enter.weight"].fill_(-128),
        lambda tensors, metadata, config: tensors["priors.0.enter.weight"].fill_(64),
        lambda tensors, metadata, config: tensors.update(
            {"autoencoder.levels.0.basis": torch.zeros(3)}
        ),
        lambda tensors, metadata, config: tensors.update({"autoencoder.more": torch.zeros(3)}),
        lambda tensors, metadata, config: tensors.update({"priors.0.more": torch.zeros(3)}),
        *(
            lambda tensors, metadata, config, name=name: tensors.update({name: tensors[name][:-1]})
            for name in (
                "priors.0.activation.table",
                "priors.0.enter.weight",
                "priors.0.enter.offset",
                "priors.0.context.quality",
                "priors.0.embedding.1",
                "priors.1.context.embeddings.0.0",
                "priors.1.earlier.0",
                "tables.gate",
                "tables.exponential",
            )
        ),
        lambda tensors, metadata, config: tensors["tables.exponential"].zero_(),
        lambda tensors, metadata, config: tensors["priors.0.attention.scale"].fill_(-1),
    ],
)
def test_malformed_weights(tiny_model: Path, tmp_path: Path, change: Change) -> None:
    with safe_open(tiny_model, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = dict(opened.metadata())
    config = json.loads(metadata["config"])
    change(tensors, metadata, config)
    metadata["config"] = json.dumps(config)
    path = tmp_path / "malformed.safetensors"
    save_file(tensors, path, metadata)
    with pytest.raises(WeightsError, match=r"malformed\.safetensors: [^\n]+$"):
        load(path)


def test_config_of_the_tiny_model(tiny_model: Path) -> None:
    assert load(tiny_model).autoencoder.config == CONFIG
