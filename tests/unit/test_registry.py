from __future__ import annotations

import errno
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from vqcodec import container, registry
from vqcodec.errors import UnknownModelError, WeightsError
from vqcodec.registry import Entry, Location


def write_weights(path: Path, header: Any, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    metadata = {"model_id": "mine-1", "config": "{}", "format": "1"}
    return write_weights(tmp_path / "mine.safetensors", {"__metadata__": metadata})


@pytest.fixture
def registered(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    model = Entry("mine-1", weights.name, sha256, "A model of a test.")
    monkeypatch.setattr(registry, "MODELS", {"mine-1": model})
    monkeypatch.setattr(registry, "weights_directory", lambda: weights.parent)
    return model


def test_table_is_consistent() -> None:
    for model_id, model in registry.MODELS.items():
        assert model.model_id == model_id
        assert re.fullmatch("[0-9a-f]{64}", model.sha256)
        assert model.filename.endswith(registry.WEIGHTS_SUFFIX)
        assert model.summary
        assert "\n" not in model.summary
    assert len(registry.DEFAULT_MODEL) <= container.MAX_MODEL_ID_LENGTH


def test_packaged_weights_are_the_registered_ones() -> None:
    for model_id in registry.MODELS:
        found = registry.locate(model_id)
        assert registry.read_metadata(found.path)["model_id"] == model_id


def test_weights_directory_is_named_weights() -> None:
    directory = registry.weights_directory()
    assert isinstance(directory, Path)
    assert directory.name == "weights"


class TestLocate:
    def test_by_id(self, weights: Path, registered: Entry) -> None:
        assert registry.locate("mine-1") == Location(weights, "mine-1", registered.sha256)

    @pytest.mark.parametrize("kind", [str, Path])
    def test_by_file(self, weights: Path, kind: type) -> None:
        sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        assert registry.locate(kind(weights)) == Location(weights, "mine-1", sha256)

    @pytest.mark.usefixtures("registered")
    def test_unknown_id(self) -> None:
        expected = r"^model 'other' is not known \(known: mine-1\); .* --model FILE$"
        with pytest.raises(UnknownModelError, match=expected):
            registry.locate("other")

    def test_changed_weights_name_both_hashes(self, weights: Path, registered: Entry) -> None:
        weights.write_bytes(weights.read_bytes() + b"\0")
        changed = hashlib.sha256(weights.read_bytes()).hexdigest()
        with pytest.raises(WeightsError) as caught:
            registry.locate("mine-1")
        for part in (str(weights), changed, registered.sha256):
            assert part in str(caught.value)

    def test_missing_weights_name_the_hash(self, weights: Path, registered: Entry) -> None:
        weights.unlink()
        with pytest.raises(WeightsError, match=f"no such file.*{registered.sha256}"):
            registry.locate("mine-1")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"cannot be read \(No such file"):
            registry.locate(tmp_path / "missing.safetensors")

    def test_file_without_model_id(self, tmp_path: Path) -> None:
        path = write_weights(tmp_path / "a.safetensors", {"__metadata__": {"format": "pt"}})
        with pytest.raises(WeightsError, match="no model_id in its metadata"):
            registry.locate(path)


class TestReadMetadata:
    def test_metadata(self, weights: Path) -> None:
        assert registry.read_metadata(weights)["config"] == "{}"

    def test_none(self, tmp_path: Path) -> None:
        assert registry.read_metadata(write_weights(tmp_path / "a", {})) == {}

    def test_file_of_the_safetensors_library(self, tmp_path: Path) -> None:
        path = tmp_path / "a.safetensors"
        save_file({"table": np.zeros(3)}, path, metadata={"model_id": "mine-1"})
        assert registry.read_metadata(path) == {"model_id": "mine-1"}

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "not JSON"),
            (b"\x05\0\0", "ends inside its header"),
            (b"\x05\0\0\0\0\0\0\0{}", "ends inside its header"),
            (b"\xff" * 64, "claims a header of"),
            ((registry.MAX_METADATA_LENGTH + 1).to_bytes(8, "little"), "claims a header of"),
            (b"\x02\0\0\0\0\0\0\0\xff\xff", "not JSON"),
            (b"\xa0\x86\x01\0\0\0\0\0" + b"[" * 100_000, "not JSON"),
            (b"\x02\0\0\0\0\0\0\0[]", "table of texts"),
            (b"\x12\0\0\0\0\0\0\0" + b'{"__metadata__":1}', "table of texts"),
            (b"\x18\0\0\0\0\0\0\0" + b'{"__metadata__":{"a":1}}', "table of texts"),
        ],
    )
    def test_malformed(self, tmp_path: Path, content: bytes, expected: str) -> None:
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(WeightsError, match=expected):
            registry.read_metadata(tmp_path / "a")

    def test_directory(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"cannot be read \(Is a directory"):
            registry.read_metadata(tmp_path)


def test_sha256_of_more_than_a_chunk(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    (tmp_path / "a").write_bytes(content)
    assert registry.sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_sha256_of_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "a").write_bytes(b"some")
    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(WeightsError, match="Input/output error"):
        registry.sha256_of(tmp_path / "a")
    with pytest.raises(WeightsError, match="No such file"):
        registry.sha256_of(tmp_path / "b")


def test_sha256_of_a_file_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = registry.sha256_of(path)
    assert registry.sha256_of(path) == first == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert registry.sha256_of(path) == hashlib.sha256(b"three").hexdigest()
