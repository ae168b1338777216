from __future__ import annotations

import csv
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from vqcodec import codec
from vqcodec.drawing.sampling import sample
from vqcodec.errors import CodecError
from vqcodec.image import Image
from vqcodec.models.vqvae import VQVAE, VQVAEConfig, VQVAELevel
from vqcodec.training.autoencoder import AutoencoderTraining, train
from vqcodec.training.export import export, load_autoencoder
from vqcodec.training.indices import Extraction, extract
from vqcodec.training.prior import PriorTraining
from vqcodec.training.prior import train as train_prior
from vqcodec.training.vqvae import PRESETS, PRIOR_PRESETS, Preset
from vqcodec.weights_file import load

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
ROOT = Path(__file__).parents[2]
SMALL = {"channels": 8, "residual_channels": 4, "residual_blocks": 1}


def test_every_preset_has_its_row() -> None:
    assert set(PRESETS) == set(TABLES) == set(PRIOR_PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_tables_latents(name: str) -> None:
    sides, num_embeddings, embedding_dim = TABLES[name]
    preset = PRESETS[name]
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


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_its_document_says(name: str) -> None:
    document = (ROOT / "vqcodec" / "training" / "PRESETS.md").read_text("utf-8")
    (row,) = (line for line in document.splitlines() if line.startswith(f"| `{name}` |"))
    latents, strides, sizes, dims, widths = (cell.strip() for cell in row.split("|")[2:7])
    config, crop = PRESETS[name].config, PRESETS[name].settings["crop"]
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


def test_a_preset_wins_over_defaults_and_a_user_over_the_preset() -> None:
    def settings(**given: object) -> AutoencoderTraining:
        return AutoencoderTraining(output=Path(), sources=[], **given)

    razavi = settings(preset="vqvae2-imagenet256")
    assert (razavi.batch, razavi.learning_rate, razavi.average_decay) == (128, 2e-4, 0.9999)
    assert (razavi.crop, razavi.commitment_cost) == (256, 0.25)
    assert (razavi.betas, razavi.weight_decay) == ((0.9, 0.999), 0.0)
    default = settings()
    assert (default.batch, default.preset, default.weight_decay) == (8, "photo", 1e-4)
    # The default, given by the user, is no default.
    given = settings(preset="vqvae2-imagenet256", batch=default.batch, crop=64)
    assert (given.batch, given.crop, given.learning_rate) == (8, 64, 2e-4)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """An `.npz` file with a few bars that stand for digits."""
    rng = np.random.default_rng(0)
    images = np.zeros((40, 28, 28), np.uint8)
    for image in images:
        left, top = rng.integers(4, 18, 2)
        image[top : top + 9, left : left + 5] = 255
    labels = np.arange(40) % 10
    path = tmp_path / "digits.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:4], y_test=labels[:4])
    return path


FAMILIES = {
    "vqvae": VQVAEConfig((VQVAELevel(4, 16, 4),), **SMALL),  # type: ignore[arg-type]
    "vqvae2": VQVAEConfig((VQVAELevel(8, 16, 4), VQVAELevel(4, 16, 4)), **SMALL),  # type: ignore[arg-type]
    "hrvqvae": VQVAEConfig((VQVAELevel(4, 4, 4),) * 2, linked=True, **SMALL),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_preset_goes_from_images_to_a_model(
    kind: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"learning_rate": 0.05, "restart_every": 7, "log_every": 1}
    settings = PRESETS["vqvae2-mnist"].settings | given
    monkeypatch.setitem(PRESETS, "tiny-paper", Preset(FAMILIES[kind], settings))
    sources = [(digits, 1.0)]
    run = {"sources": sources, "mirror": False, "split": "train", "device": "cpu"}
    checkpoint = train(
        AutoencoderTraining(
            output=tmp_path / "ae", preset="tiny-paper", batch=8, steps=60, decay=0.1, **run
        )
    )
    with (tmp_path / "ae" / "log.csv").open() as log:
        losses = [float(row["loss"]) for row in csv.DictReader(log)]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    autoencoder = load_autoencoder(checkpoint)
    assert isinstance(autoencoder, VQVAE)
    indices = extract(
        Extraction(
            autoencoder=checkpoint, output=tmp_path / "indices", count=16, crop=32, batch=8, **run
        )
    )
    priors = [
        train_prior(
            PriorTraining(
                autoencoder=checkpoint,
                indices=[indices],
                output=tmp_path / f"prior-{level}",
                level=level,
                channels=16,
                blocks=1,
                context_blocks=1,
                attention_heads=0,
                head_channels=16,
                steps=10,
                batch=4,
                device="cpu",
            )
        )
        for level in range(len(FAMILIES[kind].levels))
    ]
    weights = tmp_path / "mine.safetensors"
    export(checkpoint, priors, weights, "mine")
    assert isinstance(load(weights).autoencoder, VQVAE)
    rng = np.random.default_rng(1)
    picture = Image(rng.integers(0, 256, (45, 37, 3), np.uint8), grey=False)
    compressed = codec.compress(picture, model=weights)
    codec.verify(compressed.data, model=weights)  # the decoded indices' checksum
    assert codec.decompress(compressed.data, model=weights).pixels.shape == (45, 37, 3)
    (drawn,) = sample(32, 32, model=weights, seed=1)
    assert drawn.pixels.shape == (32, 32, 3)


def test_a_resumed_run_ends_where_an_unbroken_one_does(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PRESETS["hrvqvae-mnist"].settings | {"restart_every": 2, "decay": 1e-9}
    monkeypatch.setitem(PRESETS, "tiny-paper", Preset(FAMILIES["hrvqvae"], settings))

    def after(folder: str, steps: int) -> dict[str, torch.Tensor]:
        config = AutoencoderTraining(
            output=tmp_path / folder,
            sources=[(digits, 1.0)],
            preset="tiny-paper",
            batch=4,
            steps=steps,
            device="cpu",
        )
        return load_autoencoder(train(config)).state_dict()

    whole = after("whole", 6)
    after("parts", 3)
    parts = after("parts", 6)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_crop_that_does_not_fit_is_an_error(digits: Path, tmp_path: Path) -> None:
    config = AutoencoderTraining(
        output=tmp_path / "ae", sources=[(digits, 1.0)], preset="vqvae2-mnist", crop=28
    )
    with pytest.raises(CodecError, match="multiple of 8"):
        train(config)
    assert not (tmp_path / "ae").exists()


def test_an_unknown_preset_names_the_papers(tmp_path: Path) -> None:
    config = AutoencoderTraining(output=tmp_path, sources=[], preset="vqvae3")
    with pytest.raises(CodecError, match=r"tiny, .*hrvqvae-mnist"):
        train(config)
