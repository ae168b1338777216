from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_classes import CLASSES

from vqcodec.drawing.judging import evidence
from vqcodec.drawing.sampling import Keeping, Place, Request, draw
from vqcodec.entropy.frequencies import code_lengths
from vqcodec.weights_file import Model, load


@pytest.fixture
def model(class_model: Path) -> Model:
    return load(class_model)


def maps_of(model: Model, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.stack(
            [
                torch.randint(size, (count, side, side), generator=generator)
                for size in model.priors[level].sizes
            ],
            1,
        )
        for level, side in enumerate((2, 4, 8))
    ]


def test_evidence_is_the_difference_of_two_likelihoods(model: Model) -> None:
    indices = maps_of(model, 3)
    labels, quality = torch.tensor([2, 1, 6]), torch.ones(3, dtype=torch.int64)
    expected = torch.zeros(3, dtype=torch.float64)
    for level, (prior, maps) in enumerate(zip(model.priors, indices, strict=True)):
        for sign, label in ((-1, labels), (1, torch.zeros_like(labels))):
            state = prior.start(indices[:level], quality, label, *maps.shape[2:])
            bits = code_lengths(state.parallel(maps), maps.flatten(2))
            expected += sign * math.log(2) * bits.sum((1, 2))
    found = evidence(model, indices, labels, quality)
    assert found == pytest.approx(expected.tolist())
    assert len({round(each, 6) for each in found}) == 3
    none = evidence(model, indices, torch.zeros_like(labels), quality)
    assert none == [0.0] * 3


def test_samples_speak_for_their_own_class(class_model: Path) -> None:
    """Drawn from the likelihoods themselves, they have more of it on average, whatever they are."""
    request, place = Request(classes=range(len(CLASSES)), count=8), Place(class_model)
    drawn = list(draw(request, place=place, keeping=Keeping(1.0)))
    scores = torch.tensor([each.score for each in drawn])
    assert float(scores.mean()) > 1.0


@pytest.mark.parametrize("batch", [None, 3])
def test_the_samples_of_most_evidence_are_kept(class_model: Path, batch: int | None) -> None:
    place = Place(class_model, batch=batch)
    everything = list(draw(Request(classes=[1, 4], count=8), keeping=Keeping(1.0), place=place))
    plain = list(draw(Request(classes=[1, 4], count=8), place=place))
    assert [each.score for each in plain] == [None] * 16
    for each, same in zip(everything, plain, strict=True):
        assert each.image.pixels.tobytes() == same.image.pixels.tobytes()
    kept = list(draw(Request(classes=[1, 4], count=2), keeping=Keeping(0.25), place=place))
    for index in (1, 4):
        candidates = [each for each in everything if each.class_index == index]
        best = sorted(candidates, key=lambda each: each.score or 0.0)[-2:]
        found = [each.number for each in kept if each.class_index == index]
        assert found == sorted(each.number for each in best)
