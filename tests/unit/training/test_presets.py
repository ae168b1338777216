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
    "vqvae-mnist": ([16], 64, 8),
    "vqvae-cifar10": ([8], 512, None),
    "vqvae-imagenet128": ([32], 512, None),
    "vqvae2-imagenet256": ([32, 64], 512, 64),
    "vqvae2-ffhq1024": ([32, 64, 128], 512, 64),
    "vqvae2-ffhq256": ([8, 16, 32], 512, 32),
    "vqvae2-imagenet128": ([8, 16, 32], 512, 32),
    "vqvae2-cifar10": ([4, 8, 16], 512, 16),
    "vqvae2-mnist": ([4, 8, 16], 64, 8),
    "hrvqvae-ffhq256": ([32, 32, 32], 8, 32),
    "hrvqvae-imagenet128": ([32, 32, 32], 8, 32),
    "hrvqvae-cifar10": ([16, 16, 16], 8, 16),
    "hrvqvae-mnist": ([16, 16, 16], 4, 8),
}
# Hidden and residual units, batch, steps, learning rate and EMA: tables 4 to 7 of Adiban et al.
TRAINING = {
    "vqvae2-imagenet256": (128, 64, None, 2_207_444, 2e-4, 0.9999),
    "vqvae2-ffhq1024": (128, 64, None, 304_741, 2e-4, 0.9999),
    "ffhq256": (128, 64, 32, 875_000, 3e-3, 0.9),
    "imagenet128": (128, 64, 64, 8_007_293, 3e-3, 0.9),
    "cifar10": (64, 64, 128, 390_234, 3e-3, 0.9),
    "mnist": (64, 64, 128, 468_281, 3e-3, 0.9),
}
# Hidden units, batch, layers of attention and dropout: tables 8 and 9, coarse to fine.
PRIORS = {
    "hrvqvae-ffhq256": [(128, 32, 4, 0.15)] * 3,
    "hrvqvae-imagenet128": [(128, 128, 4, 0.15)] * 3,
    "hrvqvae-cifar10": [(64, 512, 4, 0.1)] * 3,
    "hrvqvae-mnist": [(64, 512, 4, 0.1)] * 3,
    "vqvae2-ffhq256": [(128, 128, 4, 0.5), (128, 64, 1, 0.3), (128, 32, 0, 0.25)],
    "vqvae2-imagenet128": [(128, 256, 4, 0.5), (128, 128, 1, 0.3), (128, 64, 0, 0.25)],
    "vqvae2-cifar10": [(64, 512, 4, 0.5), (64, 512, 1, 0.3), (64, 512, 0, 0.25)],
    "vqvae2-mnist": [(64, 512, 4, 0.5), (64, 512, 1, 0.3), (64, 512, 0, 0.25)],
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


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (name, row)
        for name in PAPERS
        for ending, row in TRAINING.items()
        if name.startswith(("vqvae2", "hrvqvae")) and name.endswith(ending)
    ],
)
def test_a_preset_is_trained_as_the_tables_say(name: str, row: tuple[float, ...]) -> None:
    hidden, residual, batch, steps, rate, average = row
    config, settings = PAPERS[name].config, PAPERS[name].settings
    assert isinstance(config, VQVAEConfig)
    assert (config.channels, config.residual_channels) == (hidden, residual)
    assert batch in (None, settings["batch"])
    assert (settings["steps"], settings["learning_rate"]) == (steps, rate)
    assert (settings["average_decay"], settings["commitment_cost"]) == (average, 0.25)
    assert (settings["betas"], settings["weight_decay"]) == ((0.9, 0.999), 0.0)  # Adam


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_is_trained_as_the_tables_say(name: str) -> None:
    for row, (hidden, batch, layers, dropout) in zip(
        PRIOR_PRESETS[name], PRIORS[name], strict=True
    ):
        assert (row["channels"], row["batch"], row["dropout"]) == (hidden, batch, dropout)
        assert row["attention_heads"] == (8 if layers else 0)
        assert not layers or row["attention_layers"] == layers
        assert row["attention_dropout"] == (dropout if layers else 0)
        assert row["average_decay"] == 0.99
        assert row["blocks"] >= row["attention_layers"]


def numbers(cell: str, levels: int) -> list[int]:
    """A cell of a table, `32, 64` or `3 x 8` or one number for all levels."""
    *count, values = cell.split(" x ")
    assert count in ([], [str(levels)])
    found = [int(each) for each in values.split(",")]
    return found * levels if len(found) == 1 else found


def rows_of(name: str) -> list[list[str]]:
    """The cells of the document's rows of a preset, in its order."""
    document = (ROOT / "vqcodec" / "training" / "PRESETS.md").read_text("utf-8")
    rows = [line.strip("|").split("|") for line in document.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows if f"`{name}`" in row[0]]


@pytest.mark.parametrize("name", PAPERS)
def test_a_preset_is_what_its_document_says(name: str) -> None:
    (_, latents, strides, sizes, dims, widths, _), (_, batch, epochs, steps, _), _ = rows_of(name)
    config, settings = PAPERS[name].config, PAPERS[name].settings
    crop, levels = settings["crop"], len(config.levels)
    assert numbers(latents, levels) == [crop // stride for stride in config.strides]
    assert numbers(strides, levels) == list(config.strides)
    assert numbers(sizes, levels) == [level.num_embeddings for level in config.levels]
    assert numbers(dims, levels) == [level.embedding_dim for level in config.levels]
    assert widths == f"{config.channels} / {config.residual_channels}"
    assert int(batch) == settings["batch"]
    assert int(steps.replace(",", "")) == settings["steps"]
    images = {"ffhq256": 70_000, "imagenet128": 1_281_167, "cifar10": 50_000, "mnist": 60_000}
    if epochs != "-":
        of = images[name.split("-")[1]]
        assert settings["steps"] == of * int(epochs) // settings["batch"]


@pytest.mark.parametrize("name", PRIOR_PRESETS)
def test_a_prior_preset_is_what_its_document_says(name: str) -> None:
    *_, (_, channels, blocks, context, attention, dropout, batch, average, _) = rows_of(name)
    rows = PRIOR_PRESETS[name]
    layers = [
        f"{row['attention_layers']} x {row['attention_heads']}"
        if row["attention_heads"]
        else "none"
        for row in rows
    ]
    assert attention.split(", ") == (layers[:1] if len({*layers}) == 1 else layers)
    for cell, field in (
        (channels, "channels"),
        (blocks, "blocks"),
        (context, "context_blocks"),
        (dropout, "dropout"),
        (batch, "batch"),
        (average, "average_decay"),
    ):
        values = [float(each) for each in cell.split(", ")]
        assert values * (len(rows) if len(values) == 1 else 1) == [row[field] for row in rows]


def test_every_row_of_the_document_has_its_source_or_its_reason() -> None:
    for name in PAPERS:
        for *_, source in rows_of(name):
            assert "given" in source or "ours: " in source
            assert "doubtful" not in source


@pytest.mark.parametrize("name", PRIOR_PRESETS)
def test_a_prior_preset_has_a_row_a_level_of_settings_that_exist(name: str) -> None:
    rows = PRIOR_PRESETS[name]
    assert len(rows) == len(PRESETS[name].config.levels)
    known = {field.name for field in fields(PriorTraining)}
    for level, row in enumerate(rows):
        assert set(row) <= known
        assert (row["context_blocks"] > 0) == (level > 0)
        assert not row["attention_heads"] or row["channels"] % row["attention_heads"] == 0
