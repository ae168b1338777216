from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from tiny import CONFIG, GROUPED
from torch import Tensor

from vqcodec.models.autoencoder import Autoencoder
from vqcodec.training.hvq import draw_positions, k_means, principal_components, start_from_data
from vqcodec.training.presets import WIDE

LEVELS = range(len(CONFIG.levels))


def test_principal_components_are_orthonormal_and_ordered() -> None:
    vectors = torch.randn(500, 6) * torch.tensor([1.0, 9.0, 3.0, 0.1, 5.0, 2.0])
    basis = principal_components(vectors.T @ vectors / len(vectors), 4)
    torch.testing.assert_close(basis.T @ basis, torch.eye(4), atol=1e-5, rtol=0)
    assert basis.abs().argmax(0).tolist() == [1, 4, 2, 5]


def test_k_means_finds_clusters_and_keeps_its_seed() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [-9.0, -9.0]])
    vectors = (centres[:, None] + 0.1 * torch.randn(4, 100, 2)).flatten(0, 1)
    vectors = vectors[torch.randperm(400)]

    def error(rounds: int, seed: int) -> float:
        found = k_means(vectors, 6, rounds, torch.Generator().manual_seed(seed))
        assert found.shape == (6, 2)
        return float(torch.cdist(vectors, found).amin(1).square().mean())

    for seed in range(3):
        assert error(8, seed) < error(0, seed)
        assert error(8, seed) == error(8, seed)


def test_start_from_data_reduces_the_error(crops: Tensor) -> None:
    torch.manual_seed(0)
    # Half the strides: principal components take a time that grows with the stride's sixth power.
    levels = tuple(replace(level, stride=level.stride // 2) for level in CONFIG.levels)
    autoencoder = Autoencoder(replace(CONFIG, levels=levels)).eval()
    quality = torch.full((len(crops),), 2)

    def errors() -> list[float]:
        indices, _ = autoencoder.quantize(crops, quality)
        decodes = [autoencoder.synthesize(indices[: n + 1], quality) for n in LEVELS]
        return [float((decode.float() - crops.float()).square().mean()) for decode in decodes]

    random = errors()
    start_from_data(autoencoder, crops, seed=0)
    started = errors()
    assert started[-1] < 0.5 * random[-1]
    assert started == sorted(started, reverse=True)
    for level in autoencoder.levels:
        latent_size = level.basis.shape[1]
        torch.testing.assert_close(
            level.basis.T @ level.basis, torch.eye(latent_size), atol=1e-4, rtol=0
        )


def test_refinements_start_from_what_is_left(crops: Tensor) -> None:
    torch.manual_seed(0)
    levels = tuple(replace(level, stride=level.stride // 2) for level in GROUPED.levels)
    config = replace(GROUPED, levels=levels, lmbdas=(1e-3, 1e-4, 1e-5))  # bits hardly count
    autoencoder = Autoencoder(config).eval()
    start_from_data(autoencoder, crops, seed=0)

    def error(quality: int) -> float:
        of_each = torch.full((len(crops),), quality)
        indices, _ = autoencoder.quantize(crops, of_each)
        restored = autoencoder.synthesize(indices, of_each)
        return float((restored.float() - crops.float()).square().mean())

    assert error(2) > error(3) * 1.05 > error(6) * 1.05**2
    assert error(2) == error(0)  # the networks on top start as zero


def test_positions_in_training_are_spread_over_the_qualities() -> None:
    rng = np.random.default_rng(0)
    found = torch.stack([draw_positions(WIDE, 8, rng) for _ in range(200)])
    strata = (found.sort(1).values / WIDE.last_knot * 8).floor()
    assert torch.equal(strata, torch.arange(8.0).expand(200, 8))
    assert not torch.equal(found[0].argsort(), found[1].argsort())
    assert (found % 1 != 0).any()
    assert {*draw_positions(CONFIG, 100, rng).tolist()} == {0.0, 1.0, 2.0}
