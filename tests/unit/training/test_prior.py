from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import (
    autoencoder_training,
    needs_compiler,
    prior_training,
    rewritten,
    rows,
)

from vqcodec.errors import CodecError
from vqcodec.training.autoencoder import train as train_autoencoder
from vqcodec.training.prior import train


@pytest.mark.slow
@needs_compiler
def test_a_compiled_prior_learns_the_same(trained: Path, extracted: Path, tmp_path: Path) -> None:
    bits = []
    for compiled in (False, True):
        sizes = {"blocks": 1, "context_blocks": 0, "steps": 2, "quantized_from": 1.0}
        output = tmp_path / str(compiled)
        train(prior_training(trained, extracted, output, 1, compile=compiled, **sizes))
        bits.append([row["bits"] for row in rows(output / "log.csv")])
    np.testing.assert_allclose(bits[1], bits[0], rtol=2e-2)


def test_a_level_that_is_not_there_is_an_error(
    trained: Path, extracted: Path, tmp_path: Path
) -> None:
    with pytest.raises(CodecError, match="no level 2"):
        train(prior_training(trained, extracted, tmp_path, 2))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_resumed_prior_ends_where_an_unbroken_one_does(
    trained: Path, extracted: Path, tmp_path: Path, dropout: float
) -> None:
    shares = {"dropout": dropout, "attention_dropout": dropout, "quantized_from": 0.0}

    def run(folder: str, steps: int) -> dict[str, torch.Tensor]:
        settings = {"steps": steps, "decay": 1e-9, **shares}
        return load_file(
            train(prior_training(trained, extracted, tmp_path / folder, 0, **settings))
        )

    whole = run("whole", 6)
    run("parts", 3)
    parts = run("parts", 6)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_calibration_sees_all_of_the_activations(
    trained: Path, extracted: Path, tmp_path: Path
) -> None:
    def exponents(dropout: float) -> dict[str, torch.Tensor]:
        settings = {"steps": 1, "quantized_from": 0.0, "dropout": dropout}
        output = tmp_path / str(dropout)
        tensors = load_file(train(prior_training(trained, extracted, output, 0, **settings)))
        return {name: value for name, value in tensors.items() if "exponent" in name}

    expected = exponents(0.0)
    assert expected
    assert exponents(0.99) == expected


def test_sizes_that_attention_cannot_have_are_an_error(
    trained: Path, extracted: Path, tmp_path: Path
) -> None:
    with pytest.raises(CodecError, match="give fewer attention layers or more blocks"):
        train(prior_training(trained, extracted, tmp_path, 0, attention_layers=3))
    with pytest.raises(CodecError, match="give a multiple of 3 channels"):
        train(prior_training(trained, extracted, tmp_path, 0, attention_heads=3))


def test_indices_and_priors_of_another_autoencoder_are_refused(
    trained: Path, extracted: Path, tmp_path: Path
) -> None:
    other = train_autoencoder(autoencoder_training(tmp_path / "other", 2, seed=5))
    with pytest.raises(CodecError, match="extract them again"):
        train(prior_training(other, extracted, tmp_path / "prior", 0))
    train(prior_training(trained, extracted, tmp_path / "prior", 0, steps=2))
    unmarked = rewritten(extracted, tmp_path / "earlier", autoencoder_sha256=None)
    with pytest.raises(CodecError, match="use another output folder"):
        train(prior_training(other, unmarked, tmp_path / "prior", 0, steps=2))
    assert train(prior_training(other, unmarked, tmp_path / "fresh", 0, steps=2)).exists()


def test_a_batch_in_parts_is_the_same_step(trained: Path, extracted: Path, tmp_path: Path) -> None:
    def run(at_once: int | None) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        output = tmp_path / str(at_once)
        settings = {"steps": 1, "batch": 7, "quantized_from": 2.0, "at_once": at_once}
        path = train(prior_training(trained, extracted, output, 1, **settings))
        return load_file(path), rows(output / "log.csv")[0]

    whole, row = run(None)
    parts, same = run(3)
    for name, precision in (("bits", 1e-5), ("bits_1", 1e-5), ("loss", 1e-5), ("gradient", 5e-3)):
        assert same[name] == pytest.approx(row[name], rel=precision)
    first = [name for name in whole if name.endswith(".exp_avg")]
    assert first
    for name in first:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-2, atol=1e-5)
