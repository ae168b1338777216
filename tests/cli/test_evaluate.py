"""`evaluate` on small folders of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as PillowImage

from vqcodec.cli import main
from vqcodec.metrics import classifier_training, photo_sets
from vqcodec.photos import Photo

CLASSIFIER = '''
from torch import nn

def colour():
    """Logits of red, green and blue, and they as features."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a classifier that can be imported and images of two colours."""
    (tmp_path / "my_colours.py").write_text(CLASSIFIER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(classifier_training, "widths_for", lambda side: (8, 16))
    write_images(tmp_path / "real", seed=1)
    write_images(tmp_path / "fake", seed=2)
    return tmp_path


def write_images(folder: Path, seed: int, count: int = 8) -> None:
    """Reddish and bluish noise, one folder each, in sizes that differ."""
    rng = np.random.default_rng(seed)
    for channel, name in ((0, "red"), (2, "blue")):
        (folder / name).mkdir(parents=True)
        for n in range(count):
            pixels = rng.integers(80, size=(64, 64 + 8 * (n % 2), 3), dtype=np.uint8)
            pixels[..., channel] += 150
            PillowImage.fromarray(pixels).save(folder / name / f"{n}.png")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def results(*arguments: object) -> tuple[str, dict[str, Any]]:
    """Standard output and the JSON file of a run that succeeds."""
    result = invoke(*arguments, "--json", "results.json", "--force")
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(Path("results.json").read_text())
    return result.stdout, content


def test_images(folder: Path) -> None:
    features = ["--features", "my_colours:colour"]
    rest = ["--reconstructions", "fake", "--limit", "12"]
    printed, found = results("images", "real", "fake", *features, *rest)
    assert "Frechet distance (my_colours:colour features)" in printed
    assert "FID" not in printed
    assert "Inception" not in printed
    assert (found["real"]["images"], found["fake"]["images"]) == (12, 12)
    assert not found["is_fid"]
    assert found["frechet"] > 0
    assert found["frechet_reconstructions"] == pytest.approx(0, abs=1e-6)
    assert 0 <= found["precision"] <= 1
    assert 1 <= found["score"]["mean"] <= 3


def test_images_of_one_set_are_all_alike(folder: Path) -> None:
    _, found = results("images", "real", "real", "--features", "my_colours:colour")
    assert found["frechet"] == pytest.approx(0, abs=1e-6)
    assert (found["precision"], found["recall"]) == (1, 1)


def test_cas(folder: Path) -> None:
    arguments = ["--train", "fake", "--test", "real", "--test-reconstructions", "fake"]
    settings = ["--side", 16, "--steps", 20, "--save", "c.safetensors"]
    printed, found = results("cas", *arguments, *settings, "--baseline", "fake")
    assert "top-1" in printed
    assert found["classes"] == 2
    assert found["accuracy"]["test images"]["top1"] == 1
    assert found["accuracy"]["reconstructed test images"]["top1"] == 1
    assert found["baseline"]["shares"] == {"test images": 1, "reconstructed test images": 1}
    printed, found = results(
        "images", "real", "fake", "--features", "c.safetensors", "--limit", "9"
    )
    assert "c (trained classifier)" in printed


def test_cas_counts_test_images_of_other_classes(folder: Path) -> None:
    (folder / "real" / "blue").rename(folder / "real" / "green")
    arguments = ["--train", "fake", "--test", "real", "--side", 16, "--minutes", 1e-9]
    _, found = results("cas", *arguments)
    assert found["images"] == {"test images": 8}
    assert found["left_out"] == {"test images": 8}
    assert found["settings"]["steps"] == 1


def test_likelihood(folder: Path, tiny_model: Path) -> None:
    images = ["--images", "real", "--crop", 32, "--short-side", 48, "--model", tiny_model]
    printed, found = results("likelihood", *images, "--count", 3)
    assert "nats a symbol" in printed
    levels = found["splits"]["all"]["levels"]
    assert len(levels) == 3
    assert found["splits"]["all"]["bpp"] == pytest.approx(sum(level["bpp"] for level in levels))
    assert found["splits"]["all"]["images"] == 3


def test_likelihood_of_both_splits(folder: Path, tiny_model: Path) -> None:
    write_images(folder / "more", seed=3, count=11)
    images = ["--images", "more", "--crop", 32, "--model", tiny_model, "--split", "both"]
    printed, found = results("likelihood", *images)
    assert [each["images"] for each in found["splits"].values()] == [20, 2]
    assert "validation" in printed


def test_reconstruct(folder: Path, tiny_model: Path) -> None:
    arguments = ["--images", "real", "--crop", 32, "--model", tiny_model, "--count", 4]
    result = invoke("reconstruct", *arguments, "--out", "rec")
    assert result.exit_code == 0, result.output
    names = sorted(path.relative_to("rec") for path in Path("rec").rglob("*.png"))
    assert [name.parent.name for name in names] == ["blue", "blue", "red", "red"]
    with PillowImage.open(Path("rec") / names[0]) as picture:
        assert picture.size == (32, 32)
    again = invoke("reconstruct", *arguments, "--out", "rec")
    assert again.exit_code == 1
    assert "exists already" in again.stderr


@pytest.mark.parametrize("label", ["..", "../outside", "red/../../outside", "/outside", "a\0"])
def test_reconstructions_stay_in_their_folder(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    """Also if what reads the images lets through what an archive calls its folders."""
    photo = Photo(np.zeros((32, 32, 3), np.uint8), label)
    monkeypatch.setattr(photo_sets, "read_photos", lambda *_, **__: [photo])
    arguments = ["--images", "real", "--crop", 32, "--model", tiny_model]
    result = invoke("reconstruct", *arguments, "--out", "rec")
    assert result.exit_code == 1
    assert "cannot name a folder in rec; rename it" in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["fake", "my_colours.py", "real"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["images", "missing", "fake", "--features", "my_colours:colour"],
        ["images", "real", "fake", "--features", "nonsense"],
        ["images", "real", "fake", "--features", "inception", "--weights", "missing"],
        ["images", "real", "fake", "--features", "my_colours:colour", "--limit", "3"],
        ["images", "real", "fake", "--json", "my_colours.py"],
        ["cas", "--train", "real", "--test", "real"],
        ["cas", "--train", "real", "--test", "fake", "--side", "20", "--steps", "1"],
        ["cas", "--train", "real/red", "--test", "fake", "--steps", "1"],
        ["cas", "--train", "real", "--test", "other", "--steps", "1"],
        ["likelihood", "--images", "real", "--crop", "40"],
        ["likelihood", "--images", "real", "--crop", "96"],
        ["reconstruct", "--images", "real", "--model", "nonsense", "--out", "rec"],
    ],
)
def test_unusable_input_is_one_line(folder: Path, arguments: list[str]) -> None:
    write_images(folder / "other", seed=3, count=1)
    (folder / "other" / "red").rename(folder / "other" / "green")
    (folder / "other" / "blue").rename(folder / "other" / "yellow")
    result = invoke(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("vqcodec: error: ")
    assert result.stderr.count("\n") == 1
