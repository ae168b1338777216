from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from vqcodec.models.vqvae import VQVAE, VQVAEConfig
from vqcodec.training.presets import PRESETS, PRIOR_PRESETS
from vqcodec.training.settings import PriorTraining

# The sides of the latents by the papers' tables, coarse to fine, K, and D where a table gives it.
TABLES = {
    "vqvae-mnist": ([16], 64, None),
    "vqvae-cifar10": ([8], 512, None),
    "vqvae-imagenet128": ([32], 512, None),
    "vqvae2-imagenet256": ([32, 64], 512, 64),
    "vqvae2-ffhq1024": ([32, 64, 128], 512, 64),
    "vqvae2-ffhq256": ([8, 16, 32], 512, 32),
    "vqvae2-imagenet128": ([8, 16, 32], 512, 32),
    "vqvae2-cifar10": ([4, 8, 16], 512, 16),
    "vqvae2-mnist": ([4, 8, 16], 64, 8),
    "hrvqvae-ffhq256": ([32, 32, 32], 8, None),
    "hrvqvae-imagenet128": ([32, 32, 32], 8, None),
    "hrvqvae-cifar10": ([16, 16, 16], 8, None),
    "hrvqvae-mnist": ([16, 16, 16], 4, None),
}
ROOT = Path(__file__).parents[3]
SMALL = {"channels": 8, "residual_channels": 4, "residual_blocks": 1}


PAPERS = {
    name: preset for name, preset in PRESETS.items() if isinstance(preset.config, VQVAEConfig)
}


def test_every_preset_has_its_row() -> None:
    assert set(PAPERS) == set(TABLES) == set(PRIOR_PRESETS)


@pytest.mark.parametrize("name", PAPERS)
def test_a_preset_has_the_tables_latents(name: str) -> None:
    sides, num_embeddings, embedding_dim = TABLES[name]
    preset = PAPERS[name]
    side = preset.settings["crop"]
    with torch.device("meta"):
        autoencoder = VQVAE(preset.config)
        features = torch.empty(1, 3, side, side)
        found = []
        for stage in reversed(autoencoder.analysis):
            features = stage(features)
            found.insert(0, features.shape[2])
    assert found == (sides[:1] if preset.config.residual else sides)
    assert [side // stride for stride in preset.config.strides] == sides
    for level in preset.config.levels:
        assert level.num_embeddings == num_embeddings
        assert embedding_dim in (None, level.embedding_dim)
    if name.startswith("hrvqvae"):
        sizes = [len(level.quantizer.codebook.vectors) for level in autoencoder.levels]
        assert sizes == [num_embeddings**n for n in (1, 2, 3)]


def numbers(cell: str, levels: int) -> list[int]:
    """A cell of a table, `32, 64` or `3 x 8` or one number for all levels."""
    *count, values = cell.split(" x ")
    assert count in ([], [str(levels)])
    found = [int(each) for each in values.split(",")]
    return found * levels if len(found) == 1 else found


@pytest.mark.parametrize("name", PAPERS)
def test_a_preset_is_what_its_document_says(name: str) -> None:
    document = (ROOT / "vqcodec" / "training" / "PRESETS.md").read_text("utf-8")
    (row,) = (line for line in document.splitlines() if line.startswith(f"| `{name}` |"))
    latents, strides, sizes, dims, widths = (cell.strip() for cell in row.split("|")[2:7])
    config, crop = PAPERS[name].config, PAPERS[name].settings["crop"]
    levels = len(config.levels)
    assert numbers(latents, levels) == [crop // stride for stride in config.strides]
    assert numbers(strides, levels) == list(config.strides)
    assert numbers(sizes, levels) == [level.num_embeddings for level in config.levels]
    assert numbers(dims, levels) == [level.embedding_dim for level in config.levels]
    assert widths == f"{config.channels} / {config.residual_channels}"


@pytest.mark.parametrize("name", PRIOR_PRESETS)
def test_a_prior_preset_has_a_row_a_level_of_settings_that_exist(name: str) -> None:
    rows = PRIOR_PRESETS[name]
    assert len(rows) == len(PRESETS[name].config.levels)
    known = {field.name for field in fields(PriorTraining)}
    for level, row in enumerate(rows):
        assert set(row) <= known
        assert (row["context_blocks"] > 0) == (level > 0)
        assert not row["attention_heads"] or row["channels"] % row["attention_heads"] == 0
