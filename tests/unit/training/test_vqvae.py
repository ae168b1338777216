from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_vqvae import CONFIGS, every_config, pixels, started

from vqcodec.models.vqvae import Quantizer
from vqcodec.training.processes import Processes
from vqcodec.training.settings import (
    AutoencoderTraining,
)
from vqcodec.training.vqvae import ReconstructionCommitment, perplexity, restart_unused


@every_config
def test_codes_start_from_latents(name: str) -> None:
    autoencoder = started(name).eval()
    found, _ = autoencoder.walk(pixels())
    for level, quantized in zip(autoencoder.levels, found, strict=True):
        latents = quantized.latents.flatten(0, 2)
        used = level.quantizer.codebook.vectors[quantized.rows.unique()]
        distance = (used[:, None] - latents).abs().amax(2).amin(1)
        assert distance.max() < 1e-5
        assert (level.quantizer.codebook.counts > 0).all()


@pytest.mark.parametrize("name", ["one", "linked"])
def test_unused_codes_start_afresh_from_latents_that_may_choose_them(name: str) -> None:
    autoencoder = started(name)
    level = autoencoder.levels[-1]
    assert isinstance(level.quantizer, Quantizer)
    book = level.quantizer.codebook
    autoencoder.eval()
    rows = autoencoder.walk(pixels())[0][-1].rows
    used = int(rows.flatten().mode().values)
    with torch.no_grad():
        book.vectors[used] = 1e4  # nobody's choice any more
        book.counts[used] = 0.0
    restart_unused(autoencoder, pixels(), Processes("cpu"), 1e-4, 0)
    assert autoencoder.training
    latents = autoencoder.eval().walk(pixels())[0][-1].latents
    mine = latents[rows // level.quantizer.num_embeddings == used // level.quantizer.num_embeddings]
    assert (mine - book.vectors[used]).abs().amax(1).min() < 1e-5
    assert book.counts[used] > 0


@every_config
def test_training_lowers_the_loss(name: str) -> None:
    autoencoder = started(name).train()
    config = AutoencoderTraining(output=Path(), sources=[], bfloat16=False)
    objective = ReconstructionCommitment(autoencoder, config)
    optimizer = torch.optim.Adam(autoencoder.parameters(), 3e-3)
    smooth = (torch.arange(32)[:, None] * 4 + torch.arange(48)).to(torch.uint8)
    batch = smooth[None, :, :, None].expand(2, -1, -1, 3)
    losses = []
    for _ in range(25):
        loss, means = objective(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    perplexities = [f"perplexity_{n}" for n in range(len(CONFIGS[name].levels))]
    assert list(means) == ["mse", "commitment", *perplexities]


def test_perplexity_counts_the_codes_in_use() -> None:
    assert perplexity(torch.tensor([[3, 5], [7, 9]])) == pytest.approx(4.0)
    assert perplexity(torch.tensor([2, 2, 2])) == pytest.approx(1.0)
