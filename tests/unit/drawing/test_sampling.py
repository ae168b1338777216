from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_autoencoder, tiny_priors
from tiny_classes import CLASSES, MODEL_ID, SIDE
from torch import Tensor

from vqcodec import registry
from vqcodec.drawing import sampling
from vqcodec.drawing.sampling import Keeping, Place, Request, Sample, draw, sample
from vqcodec.drawing.shaping import Shaping, shapings
from vqcodec.errors import CodecError, ModelError
from vqcodec.image import Image
from vqcodec.training.export import write_weights
from vqcodec.weights_file import load


@pytest.fixture
def place(class_model: Path) -> Place:
    return Place(class_model)


def pixels(images: Iterable[Image]) -> list[bytes]:
    return [image.pixels.tobytes() for image in images]


def same_bits(*_: object) -> np.random.BitGenerator:
    """Random bits that are the same for every image."""
    return np.random.PCG64(0)


class TestImages:
    def test_depend_on_nothing_but_seed_class_and_number(self, class_model: Path) -> None:
        def drawn(batch: int | None = None, **what: Any) -> dict[tuple[int | None, int], bytes]:
            found = list(draw(Request(**what), place=Place(class_model, batch=batch)))
            return {(s.class_index, s.number): s.image.pixels.tobytes() for s in found}

        many = drawn(classes=[1, 4], count=3)
        assert list(many) == [(1, 0), (1, 1), (1, 2), (4, 0), (4, 1), (4, 2)]
        assert len(set(many.values())) == 6
        assert drawn(classes=[1, 4], count=3, batch=1) == many
        assert drawn(classes=[1, 4], count=3, batch=5) == many
        assert drawn(classes=[4], count=1) == {(4, 0): many[4, 0]}
        assert drawn(classes=[4, 4]) == {(4, 0): many[4, 0]}
        assert drawn(classes=[4], seed=1)[4, 0] != many[4, 0]
        assert drawn()[None, 0] not in many.values()

    def test_have_the_same_pixels_in_every_batch(self) -> None:
        """Of a model large enough for sums of floats to depend on the batch."""

        def drawn(batch: int) -> list[bytes]:
            return pixels(sample(64, 64, model="hvq-photo-1", count=4, seed=3, batch=batch))

        assert drawn(1) == drawn(4)

    def test_a_class_changes_more_than_the_random_numbers(
        self, class_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sampling, "bit_generator", same_bits)
        first, second = pixels(sample(model=class_model, classes=[1, 4]))
        assert first != second

    def test_have_the_side_of_the_model(self, class_model: Path) -> None:
        (image,) = sample(model=class_model)
        assert image.pixels.shape == (SIDE, SIDE, 3)
        (image,) = sample(8, model=class_model)
        assert image.pixels.shape == (8, SIDE, 3)

    def test_of_plain_arguments_are_those_of_the_values(self, class_model: Path) -> None:
        request = Request(8, 16, classes=[1], count=2, seed=3, quality=1)
        shaping = Shaping(temperature=0.9, top_k=7, top_p=0.95, guidance=1.5)
        drawn = [each.image for each in draw(request, shaping, Place(class_model))]
        what: dict[str, Any] = {"classes": [1], "count": 2, "seed": 3, "quality": 1}
        how = {"temperature": 0.9, "top_k": 7, "top_p": 0.95, "guidance": 1.5}
        assert pixels(drawn) == pixels(sample(8, 16, **what, **how, model=class_model))

    def test_come_batch_by_batch(self, class_model: Path) -> None:
        calls: list[tuple[str, int, int]] = []

        def note(stage: str, done: int, total: int) -> None:
            calls.append((stage, done, total))

        place = Place(class_model, batch=2)
        drawn = draw(Request(8, 8, count=5), place=place, progress=note)
        assert not calls
        next(drawn)
        after_one = len(calls)
        assert 0 < calls[-1][1] < calls[-1][2]
        next(drawn)
        assert len(calls) == after_one
        assert len(list(drawn)) == 3
        assert {(stage, total) for stage, _, total in calls} == {("sample", calls[0][2])}
        assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
        assert calls[-1][1] == calls[-1][2]

    def test_of_fewer_levels(self, place: Place) -> None:
        (plain,) = draw(Request(seed=3), place=place)
        (whole,) = draw(Request(seed=3, levels=True), place=place)
        assert plain.coarser == ()
        assert whole.image.pixels.tobytes() == plain.image.pixels.tobytes()
        steps = [*whole.coarser, whole.image]
        assert len(steps) == 3
        assert len({each.pixels.tobytes() for each in steps}) == 3


class TestShaped:
    def test_quality_and_temperature_change_the_images(self, tiny_model: Path) -> None:
        def drawn(**options: Any) -> list[bytes]:
            return pixels(sample(40, 50, model=tiny_model, **options))

        assert drawn(quality=1) != drawn()
        assert drawn(temperature=0.1) != drawn()

    def test_only_the_likeliest_is_the_same_for_every_seed(self, class_model: Path) -> None:
        found = {pixels(sample(model=class_model, seed=seed, top_k=1))[0] for seed in range(3)}
        assert len(found) == 1
        assert {pixels(sample(model=class_model, seed=5, top_p=1e-9))[0]} == found

    def test_guidance_of_one_is_none(
        self, class_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also with both halves: what the class alone gives."""
        options: dict[str, Any] = {"model": class_model, "classes": [1, 4], "count": 2}
        plain = pixels(sample(**options))
        assert pixels(sample(**options, guidance=1.0)) == plain
        monkeypatch.setattr(Shaping, "guided", True)
        assert pixels(sample(**options)) == plain

    def test_guidance_of_zero_is_no_class(
        self, class_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sampling, "bit_generator", same_bits)
        (unguided,) = pixels(sample(model=class_model))
        assert pixels(sample(model=class_model, classes=[1, 4], guidance=0.0)) == [unguided] * 2

    def test_guidance_depends_on_no_batch(self, class_model: Path) -> None:
        def drawn(**options: Any) -> list[bytes]:
            return pixels(sample(model=class_model, count=3, guidance=2.5, **options))

        many = drawn(classes=[1, 4])
        assert drawn(classes=[1, 4], batch=1) == many
        assert drawn(classes=[4]) == many[3:]
        assert not set(many) & set(pixels(sample(model=class_model, count=3, classes=[1, 4])))

    def test_guidance_needs_classes(self, class_model: Path) -> None:
        with pytest.raises(CodecError, match="guidance needs a class"):
            sample(model=class_model, guidance=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 0, "width": 8}, "cannot sample 8x0 pixels; both sides must be 1 to 4096"),
        ({"height": 4097, "width": 8}, "cannot sample 8x4097 pixels"),
        ({"width": 0}, "cannot sample 0x256 pixels"),
        ({"width": 4097}, "cannot sample 4097x256 pixels"),
        ({"quality": 0}, "no quality 0; give one from 1 to 3"),
        ({"quality": 4}, "no quality 4; give one from 1 to 3"),
        ({"count": 0}, "cannot sample 0 images; give 1 or more"),
        ({"seed": -1}, "cannot sample with seed -1; give 0 or more"),
        ({"batch": 0}, "cannot draw 0 at a time; give 1 or more"),
    ],
)
def test_values_that_cannot_be(tiny_model: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(CodecError, match=message):
        sample(model=tiny_model, **options)  # type: ignore[arg-type]


def by_brightness(classes: int = len(CLASSES)) -> sampling.Classifier:
    """A classifier that gives bright images to every class of an odd index."""

    def judge(images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (SIDE, SIDE, 3)
        mean = images.double().mean((1, 2, 3))[:, None]
        return torch.where(torch.arange(classes) % 2 == 1, mean, -mean)

    return judge


class TestKeeping:
    @pytest.mark.parametrize("batch", [None, 3])
    def test_the_likeliest_of_each_class(self, class_model: Path, batch: int | None) -> None:
        def drawn(count: int, keeping: Keeping | None) -> list[Sample]:
            place = Place(class_model, batch=batch)
            return list(draw(Request(classes=[1, 4], count=count), place=place, keeping=keeping))

        everything = drawn(10, None)
        kept = drawn(3, Keeping(0.3, by_brightness()))
        assert [each.class_index for each in kept] == [1, 1, 1, 4, 4, 4]
        for index, sign in ((1, 1), (4, -1)):
            candidates = [each for each in everything if each.class_index == index]
            ranked = sorted(candidates, key=lambda each: -sign * each.image.pixels.mean())
            expected = sorted(each.number for each in ranked[:3])
            found = [each for each in kept if each.class_index == index]
            assert [each.number for each in found] == expected
            for each in found:
                pixels = candidates[each.number].image.pixels
                assert each.image.pixels.tobytes() == pixels.tobytes()
                assert each.score == pytest.approx(sign * pixels.mean())

    def test_draws_no_more_candidates_than_the_share_says(self, place: Place) -> None:
        seen = 0

        def count(images: Tensor) -> Tensor:
            nonlocal seen
            seen += len(images)
            return torch.zeros(len(images), len(CLASSES))

        request = Request(8, 8, classes=[0], count=7)
        drawn = draw(request, place=place, keeping=Keeping(0.7, count))
        # Equally likely ones stay in the order of their numbers.
        assert [each.number for each in drawn] == list(range(7))
        assert seen == 10

    def test_needs_a_classifier_of_these_classes(self, place: Place) -> None:
        keeping = Keeping(0.5, by_brightness(3))
        drawn = draw(Request(classes=[0]), place=place, keeping=keeping)
        with pytest.raises(CodecError, match=r"gives \[2, 3\] probabilities for 2 images of 6"):
            next(drawn)

    def test_by_a_classifier_of_other_classes_goes_by_their_keys(self, place: Place) -> None:
        class Judge:
            labels = ("n01847000", "somewhere-else")

            def __call__(self, images: Tensor) -> Tensor:
                mean = images.double().mean((1, 2, 3))
                return torch.stack([mean, -mean], 1)

        def kept(classifier: sampling.Classifier, *classes: int) -> list[bytes]:
            request, keeping = Request(classes=classes, count=2), Keeping(0.25, classifier)
            return pixels(each.image for each in draw(request, place=place, keeping=keeping))

        assert kept(Judge(), 1) == kept(by_brightness(), 1)
        with pytest.raises(
            CodecError, match=r"does not know class 0 \(tench, Tinca tinca\); leave"
        ):
            kept(Judge(), 1, 0)

    @pytest.mark.parametrize("share", [0, 1e-9, -0.5, 1.5, math.nan])
    def test_shares_that_cannot_be(self, share: float) -> None:
        with pytest.raises(CodecError, match=r"give a share from 0\.001 to 1"):
            Keeping(share, by_brightness())

    def test_needs_a_class(self, place: Place) -> None:
        with pytest.raises(CodecError, match="needs a class"):
            draw(Request(), place=place, keeping=Keeping(0.5, by_brightness()))


class TestClasses:
    def test_that_the_model_does_not_have(self, class_model: Path) -> None:
        for index in (-1, 6):
            with pytest.raises(CodecError, match=rf"no class {index}; give one from 0 to 5"):
                sample(model=class_model, classes=[0, index])

    def test_of_a_model_without(
        self, class_model: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ModelError, match=r"tiny-test has no classes; (use|give) one that has"):
            sample(model=tiny_model, classes=[0])
        entry = registry.Entry(
            MODEL_ID, class_model.name, registry.sha256_of(class_model), "Of a test."
        )
        monkeypatch.setattr(registry, "MODELS", {MODEL_ID: entry})
        monkeypatch.setattr(registry, "weights_directory", lambda: class_model.parent)
        with pytest.raises(ModelError, match="has no classes; use one that has: tiny-classes"):
            sample(model=tiny_model, classes=[0])

    def test_ask_for_the_packaged_model_that_has_them(
        self, class_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "DEFAULT_GENERATOR", None)
        with pytest.raises(ModelError, match="no packaged model draws images by class; give"):
            sample(classes=[0])
        monkeypatch.setattr(registry, "DEFAULT_GENERATOR", str(class_model))
        assert pixels(sample(classes=[1])) == pixels(sample(model=class_model, classes=[1]))

    def test_are_read_without_the_tensors(self, class_model: Path, tiny_model: Path) -> None:
        assert registry.read_classes(class_model) == load(class_model).classes == CLASSES
        assert registry.read_classes(tiny_model) == ()


class TestOwnShapings:
    OWN = ({"temperature": 0.5}, {"top_p": 0.3, "guidance": 2.0}, {})

    @pytest.fixture
    def shaped(self, class_model: Path, tmp_path: Path) -> Path:
        autoencoder = tiny_autoencoder()
        priors = tiny_priors(autoencoder, classes=len(CLASSES))
        path = tmp_path / "shaped.safetensors"
        write_weights(path, MODEL_ID, autoencoder, priors, CLASSES, SIDE, self.OWN)
        return path

    def test_are_what_is_drawn_with(self, shaped: Path) -> None:
        assert load(shaped).shapings == self.OWN
        request = Request(classes=[1, 4], count=2)
        own = [Shaping(temperature=0.5), Shaping(top_p=0.3, guidance=2.0), Shaping()]
        drawn = pixels(each.image for each in draw(request, own, Place(shaped)))
        assert pixels(each.image for each in draw(request, place=Place(shaped))) == drawn
        assert pixels(sample(model=shaped, classes=[1, 4], count=2)) == drawn
        plain = pixels(each.image for each in draw(request, Shaping(), Place(shaped)))
        assert plain != drawn
        given: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "guidance": 1.0}
        assert pixels(sample(model=shaped, classes=[1, 4], count=2, **given)) == plain

    def test_give_way_one_by_one(self, shaped: Path) -> None:
        found = shapings(load(shaped), of_classes=True, temperature=0.9, top_k=3)
        assert found == (
            Shaping(0.9, 3),
            Shaping(0.9, 3, 0.3, guidance=2.0),
            Shaping(0.9, 3),
        )

    def test_guide_to_no_class(self, shaped: Path) -> None:
        (without,) = sample(model=shaped)
        own = [Shaping(temperature=0.5), Shaping(top_p=0.3), Shaping()]
        (same,) = draw(Request(), own, Place(shaped))
        assert same.image.pixels.tobytes() == without.pixels.tobytes()
        with pytest.raises(CodecError, match="guidance needs a class"):
            sample(model=shaped, guidance=2.0)

    def test_are_as_many_as_levels(self, shaped: Path) -> None:
        with pytest.raises(CodecError, match="2 shapings for the 3 levels of tiny-classes; give"):
            draw(Request(), [Shaping(), Shaping()], Place(shaped))
