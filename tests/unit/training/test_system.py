from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import (
    autoencoder_training,
    system_training,
)

from vqcodec.errors import CodecError
from vqcodec.training.autoencoder import train as train_autoencoder
from vqcodec.training.checkpoint import load_state
from vqcodec.training.export import (
    fingerprint,
    load_autoencoder,
)
from vqcodec.training.system import train
from vqcodec.weights_file import load


def test_a_whole_system_trains_and_is_not_trained_twice(tmp_path: Path) -> None:
    config = system_training(tmp_path)
    model = load(train(config))
    assert model.model_id == "whole"
    assert [each.key for each in model.classes] == ["fixtures"]
    checkpoints = sorted(tmp_path.rglob("checkpoint.safetensors"))
    steps = [load_state(path)["step"] for path in checkpoints]
    assert load(train(config)).sha256 == model.sha256
    assert steps == [load_state(path)["step"] for path in checkpoints]

    # More minutes go to the priors, on the same indices of the same autoencoder.
    indices = tmp_path / "indices.safetensors"
    extracted = indices.read_bytes()
    train(system_training(tmp_path, minutes=0.08))
    autoencoder, *priors = [load_state(path) for path in checkpoints]
    assert autoencoder["step"] == steps[0]
    assert all(prior["seconds"] >= 60 * 0.08 * 0.6 / 2 for prior in priors)
    assert indices.read_bytes() == extracted

    # With another autoencoder nothing is mixed: indices anew, and the priors are refused.
    train_autoencoder(autoencoder_training(checkpoints[0].parent, steps[0] + 1, crop=32))
    with pytest.raises(CodecError, match=r"prior-0.*use another output folder"):
        train(config)
    mark = fingerprint(load_autoencoder(checkpoints[0]))
    assert load_state(indices)["autoencoder_sha256"] == mark
    assert indices.read_bytes() != extracted


def test_a_system_is_checked_before_it_is_trained(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="no model id"):
        train(system_training(tmp_path, model_id="Not An Id"))
    with pytest.raises(CodecError, match="at least 1024 pixels"):
        train(system_training(tmp_path, crop=None, preset="vqvae2-ffhq1024"))
    assert not any(tmp_path.iterdir())
