"""The classifier of the classification accuracy score."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.metrics import classifier_training
from vqcodec.metrics.classification_accuracy import accuracy
from vqcodec.metrics.classifier_training import (
    Batches,
    ClassifierTraining,
    SmallResNet,
    Trainer,
    steps_in,
    train_classifier,
)


def stripes(count: int, seed: int, side: int = 16) -> tuple[Tensor, Tensor]:
    """Images of three classes, alike in their means: stripes down, stripes across, noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    noise = torch.rand(count, side, side, 1, generator=generator)
    down = (torch.rand(count, 1, side, 1, generator=generator)).expand(-1, side, -1, -1)
    choices = torch.stack([down, down.transpose(1, 2), noise])
    images = (choices[labels, torch.arange(count)] * 255).byte().expand(-1, -1, -1, 3)
    return images.contiguous(), labels


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few channels, small batches: the tests' images are easy."""
    monkeypatch.setattr(classifier_training, "widths_for", lambda side: (16, 32))
    monkeypatch.setattr(classifier_training, "BATCH", 32)


def test_learns_what_only_convolutions_can_tell() -> None:
    training = ClassifierTraining(steps=60)
    network = train_classifier(*stripes(300, 1), 3, training)
    assert accuracy(network, *stripes(150, 2)).top1 > 0.9


def test_labels_that_mean_nothing_are_not_learned() -> None:
    images, labels = stripes(120, 1)
    shuffled = labels[torch.randperm(120, generator=torch.Generator().manual_seed(0))]
    network = train_classifier(images, shuffled, 3, ClassifierTraining(steps=20))
    assert accuracy(network, *stripes(150, 2)).top1 < 0.7


def test_the_same_settings_give_the_same_classifier() -> None:
    def weights(seed: int) -> Tensor:
        images, labels = stripes(40, 1)
        network = train_classifier(images, labels, 3, ClassifierTraining(steps=3, seed=seed))
        return network.head.weight.detach()

    torch.manual_seed(1)
    first = weights(0)
    torch.manual_seed(2)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


def test_training_leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train_classifier(*stripes(20, 1), 3, ClassifierTraining(steps=1))
    assert torch.equal(torch.rand(1), expected)


def test_progress_counts_the_steps() -> None:
    seen: list[tuple[str, int, int]] = []
    training = ClassifierTraining(steps=3)
    train_classifier(*stripes(20, 1), 3, training, lambda *step: seen.append(step))
    assert seen == [("train classifier", n, 3) for n in (1, 2, 3)]


def test_mirroring_can_be_off() -> None:
    """Without it, moved images never have the dark side on the right."""
    images = torch.zeros(8, 16, 16, 3, dtype=torch.uint8)
    images[:, :, 8:] = 255
    labels = torch.arange(8)
    for mirror in (False, True):
        training = ClassifierTraining(steps=1, mirror=mirror)
        crops, drawn = Batches(images, labels, training).draw(1.0)
        assert crops.shape == (8, 3, 16, 16)
        assert sorted(drawn.tolist()) == list(range(8))
        turned = crops[..., :4].mean((1, 2, 3)) > 0.5
        assert bool(turned.any()) == mirror


def test_an_epoch_is_every_image_once() -> None:
    images, labels = torch.zeros(64, 16, 16, 3, dtype=torch.uint8), torch.arange(64)
    batches = Batches(images, labels, ClassifierTraining(steps=1))
    drawn = [batches.draw(share)[1] for share in (0.5, 1.0)]
    assert sorted(torch.cat(drawn).tolist()) == list(range(64))


def test_steps_follow_the_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that steps move: 1, 2 and 4 seconds by the images' size, and more at first."""
    seconds = {0.0: 1.0, 0.45: 2.0, 0.8: 4.0}
    clock = 0.0
    seen: set[float] = set()

    def step(_: object, progress: float) -> None:
        nonlocal clock
        clock += seconds[progress] + (0 if progress in seen else 100)
        seen.add(progress)

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(classifier_training.time, "perf_counter", lambda: clock)

    def steps(minutes: float) -> int:
        seen.clear()
        return steps_in(minutes, *stripes(20, 1), 3)

    mean = 0.45 * 1 + 0.35 * 2 + 0.2 * 4
    assert steps(1e-9) == 1
    assert steps(13 * mean / 60) == 13
    assert steps(10) == round(600 / mean)


def test_unusable_images() -> None:
    images, labels = stripes(20, 1)
    training = ClassifierTraining(steps=1)
    with pytest.raises(CodecError, match="too few"):
        train_classifier(images[:1], labels[:1], 3, training)
    with pytest.raises(CodecError, match="2 classes"):
        train_classifier(images, labels * 0, 1, training)
    with pytest.raises(CodecError, match="multiple of 16"):
        train_classifier(images[:, :12, :12], labels, 3, training)


def test_saved_classifiers_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network = train_classifier(*stripes(20, 1), 3, ClassifierTraining(steps=2))
    network.save(path, ("a", "b", "c"))
    loaded, labels = SmallResNet.load(path)
    assert labels == ("a", "b", "c")
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    with pytest.raises(CodecError, match="exists already"):
        network.save(path, labels)


def test_other_files_are_no_classifiers(tmp_path: Path, tiny_model: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nonsense")
    for path in (broken, tiny_model, tmp_path / "missing.safetensors"):
        with pytest.raises(CodecError, match="is no classifier"):
            SmallResNet.load(path)
