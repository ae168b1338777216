"""What trainings leave behind, for the tests of what comes after them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import autoencoder_training, extraction_of

from vqcodec.training.autoencoder import train
from vqcodec.training.indices import extract


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a tiny autoencoder."""
    return train(autoencoder_training(tmp_path_factory.mktemp("autoencoder"), 30))


@pytest.fixture(scope="session")
def extracted(trained: Path) -> Path:
    """Its indices of twenty crops."""
    output = trained.parent / "indices.safetensors"
    return extract(extraction_of(trained, output, count=20, crop=64))
