"""Training of a natural synthesis."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from random_lpips import write_random_lpips
from tiny import CONFIG, tiny_autoencoder, tiny_priors
from tiny_classes import CLASSES

from vqcodec import syntheses
from vqcodec.drawing.sampling import Place, Request, draw
from vqcodec.errors import CodecError
from vqcodec.models.natural import Natural
from vqcodec.training import checkpoint
from vqcodec.training.export import write_weights
from vqcodec.training.settings import SynthesisTraining
from vqcodec.training.synthesis import Discriminator, export, flatness, train
from vqcodec.weights_file import load


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for n in range(3):
        coarse = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((192, 160), Image.Resampling.BICUBIC)
        picture.save(folder / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def lpips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_random_lpips(tmp_path_factory.mktemp("lpips"))


@pytest.fixture
def settings(
    images: Path, lpips: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> dict[str, Any]:
    return {
        "output": tmp_path / "run",
        "sources": [(images, 1.0)],
        "model": tiny_model,
        "lpips": list(lpips.values()),
        "steps": 2,
        "batch": 1,
        "crop": 128,
        "warm_up": 1,
        "log_every": 1,
        "workers": 0,
        "device": "cpu",
    }


def rows(output: Path) -> list[dict[str, float]]:
    with (output / "log.csv").open() as stream:
        return [
            {name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)
        ]


@pytest.mark.parametrize("adversarial", [0.0, 0.4])
def test_a_run_trains_what_it_should(settings: dict[str, Any], adversarial: float) -> None:
    saved = train(SynthesisTraining(**settings, adversarial=adversarial))
    tensors, state = checkpoint.load(saved)
    model = load(settings["model"])
    autoencoder = dict(model.autoencoder.levels[-1].named_parameters())  # type: ignore[union-attr]
    for name, each in autoencoder.items():
        same = torch.equal(tensors[f"model.synthesis.trunk.level.{name}"], each)
        assert same == (
            not name.startswith(("synthesis_in", "synthesis_bl", "synthesis_out", "up"))
        )
    assert state["config"]["model"] == model.sha256
    assert any(name.startswith("model.discriminator") for name in tensors) == bool(adversarial)
    logged = rows(settings["output"])
    assert [row["step"] for row in logged] == [1, 2]
    assert all(np.isfinite(list(row.values())).all() for row in logged)
    assert ("adversarial" in logged[0]) == bool(adversarial)


def test_of_small_images_by_class(settings: dict[str, Any], tmp_path: Path) -> None:
    """A model of one quality, whose refinement has a stride of 2, and its samples."""
    levels = tuple(replace(level, stride=level.stride // 2) for level in CONFIG.levels)
    config = replace(CONFIG, levels=levels, lmbdas=(200.0,), refine_stride=2)
    autoencoder = tiny_autoencoder(config)
    model = tmp_path / "model.safetensors"
    priors = tiny_priors(autoencoder, classes=len(CLASSES))
    write_weights(model, "tiny-small", autoencoder, priors, CLASSES, 64)
    saved = train(SynthesisTraining(**{**settings, "model": model, "crop": 64}, adversarial=0.4))
    assert all(np.isfinite(list(row.values())).all() for row in rows(settings["output"]))
    natural = tmp_path / "natural.safetensors"
    export(saved, model, natural)
    plain, crisp = (
        next(draw(Request(classes=[1], synthesis=name), place=Place(model))).image.pixels.astype(
            int
        )
        for name in (None, natural)
    )
    assert plain.shape == crisp.shape == (64, 64, 3)
    assert 0 < np.abs(plain - crisp).mean() < 20


def test_it_goes_on_where_it_was(settings: dict[str, Any]) -> None:
    whole = checkpoint.load(train(SynthesisTraining(**settings)))[0]
    parts = {**settings, "output": settings["output"].parent / "parts"}
    train(SynthesisTraining(**{**parts, "steps": 1, "decay": 1e-9}))
    again = checkpoint.load(train(SynthesisTraining(**{**parts, "decay": 1e-9})))[0]
    straight = {**settings, "output": settings["output"].parent / "straight", "decay": 1e-9}
    expected = checkpoint.load(train(SynthesisTraining(**straight)))[0]
    name = "model.synthesis.texture.pixels_out.weight"
    torch.testing.assert_close(again[name], expected[name])
    assert not torch.equal(whole[name], torch.zeros_like(whole[name]))


def test_what_is_exported_restores(settings: dict[str, Any], tmp_path: Path) -> None:
    saved = train(SynthesisTraining(**settings))
    target = tmp_path / "natural.safetensors"
    export(saved, settings["model"], target)
    found = syntheses.synthesis_of(load(settings["model"]), target)
    assert isinstance(found, Natural)
    average = checkpoint.load(saved)[0]["average.synthesis.texture.pixels_out.weight"]
    assert torch.equal(found.texture.pixels_out.weight, average.half().float())


def test_a_run_starts_from_another(settings: dict[str, Any], tmp_path: Path) -> None:
    first = train(SynthesisTraining(**settings))
    second = {**settings, "output": tmp_path / "second", "adversarial": 0.3, "learning_rate": 1e-9}
    saved = train(SynthesisTraining(**second, start=first))
    name = "synthesis.texture.pixels_out.weight"
    before = checkpoint.load(first)[0][f"average.{name}"]
    torch.testing.assert_close(checkpoint.load(saved)[0][f"model.{name}"], before)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"crop": 48}, "cannot train on 64 of 48 pixels"),
        ({"part": 40}, "cannot train on 40 of 128 pixels"),
        ({"part": 144}, "cannot train on 144 of 128 pixels"),
    ],
)
def test_sides_that_cannot_be(
    settings: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(CodecError, match=message):
        train(SynthesisTraining(**{**settings, **changed}))


def test_both_networks_are_needed(settings: dict[str, Any], lpips: dict[str, Path]) -> None:
    with pytest.raises(CodecError, match="needed for VGG16 and for AlexNet"):
        train(SynthesisTraining(**{**settings, "lpips": [lpips["vgg"]] * 2}))


def test_a_checkpoint_of_another_model(settings: dict[str, Any]) -> None:
    saved = train(SynthesisTraining(**settings))
    with pytest.raises(CodecError, match="was not trained for hvq-photo-1"):
        export(saved, "hvq-photo-1", saved.parent / "natural.safetensors")


def test_flat_areas_weigh_more() -> None:
    target = torch.full((1, 3, 64, 64), 128.0)
    target[:, :, :, 32:] += torch.linspace(-99, 99, 32).remainder(40)
    weights = flatness(target)
    assert weights.shape == (1, 1, 64, 64)
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    assert weights[..., :16].min() > 2 * weights[..., 48:].max()


def test_the_discriminator_tells_positions_apart() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator([4, 5, 6, 7], 10)
    features = [torch.randn(2, n, 64 >> s, 48 >> s) for s, n in enumerate((4, 5, 6, 7))]
    assert discriminator(features).shape == (2, 11, 8, 6)
