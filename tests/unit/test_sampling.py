from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_classes import CLASSES, MODEL_ID, SIDE, write_tiny_class_model
from torch import Tensor

from vqcodec import registry
from vqcodec.drawing import sampling
from vqcodec.drawing.sampling import Sample, Shaping, draw, draw_with, find_classes
from vqcodec.entropy.prior import Prior
from vqcodec.errors import CodecError, ModelError
from vqcodec.spec.prior import TOTAL
from vqcodec.weights_file import load


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights file of a tiny model with classes."""
    path = tmp_path_factory.mktemp("weights") / "classes.safetensors"
    write_tiny_class_model(path)
    return path


@pytest.fixture(scope="module")
def prior(weights: Path) -> Prior:
    return load(weights).priors[0]


def pixels(samples: Iterator[Sample]) -> list[bytes]:
    return [each.image.pixels.tobytes() for each in samples]


class TestImages:
    def test_depend_on_nothing_but_seed_class_and_number(self, weights: Path) -> None:
        def drawn(**options: Any) -> dict[tuple[int | None, int], bytes]:
            found = list(draw(model=weights, **options))
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
            model = "hvq-photo-1"
            return pixels(draw(64, 64, model=model, count=4, seed=3, batch=batch))

        assert drawn(1) == drawn(4)

    def test_a_class_changes_more_than_the_random_numbers(
        self, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sampling, "_generator", lambda *_: np.random.PCG64(0))
        first, second = pixels(draw(model=weights, classes=[1, 4]))
        assert first != second

    def test_have_the_side_of_the_model(self, weights: Path) -> None:
        (image,) = sampling.sample(model=weights)
        assert image.pixels.shape == (SIDE, SIDE, 3)
        (image,) = sampling.sample(8, model=weights)
        assert image.pixels.shape == (8, SIDE, 3)

    def test_come_batch_by_batch(self, weights: Path) -> None:
        calls: list[tuple[str, int, int]] = []

        def note(stage: str, done: int, total: int) -> None:
            calls.append((stage, done, total))

        drawn = draw(8, 8, model=weights, count=5, batch=2, progress=note)
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

    def test_of_fewer_levels(self, weights: Path) -> None:
        (plain,) = draw(model=weights, seed=3)
        (whole,) = draw(model=weights, seed=3, levels=True)
        assert plain.coarser == ()
        assert whole.image.pixels.tobytes() == plain.image.pixels.tobytes()
        steps = [*whole.coarser, whole.image]
        assert len(steps) == 3
        assert len({each.pixels.tobytes() for each in steps}) == 3


class TestGuidance:
    def test_of_one_is_none(self, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also with both halves: what the class alone gives."""
        plain = pixels(draw(model=weights, classes=[1, 4], count=2))
        assert pixels(draw(model=weights, classes=[1, 4], count=2, guidance=1.0)) == plain
        monkeypatch.setattr(Shaping, "guided", True)
        assert pixels(draw(model=weights, classes=[1, 4], count=2)) == plain

    def test_of_zero_is_no_class(self, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sampling, "_generator", lambda *_: np.random.PCG64(0))
        (unguided,) = pixels(draw(model=weights))
        assert pixels(draw(model=weights, classes=[1, 4], guidance=0.0)) == [unguided] * 2

    def test_depends_on_no_batch(self, weights: Path) -> None:
        def drawn(**options: Any) -> list[bytes]:
            return pixels(draw(model=weights, count=3, guidance=2.5, **options))

        many = drawn(classes=[1, 4])
        assert drawn(classes=[1, 4], batch=1) == many
        assert drawn(classes=[4]) == many[3:]
        assert not set(many) & set(pixels(draw(model=weights, count=3, classes=[1, 4])))

    def test_extrapolates_in_integers(self) -> None:
        given = torch.tensor([[[16, -7, 3]]])
        without = torch.tensor([[[10, 5, 3]]])
        for weight, expected in ((0.0, without), (1.0, given), (2.0, 2 * given - without)):
            assert torch.equal(Shaping(guidance=weight).guide(given, without), expected)
        guided = Shaping(guidance=1.5).guide(given, without)
        assert guided.dtype == torch.int64
        assert guided.tolist() == [[[19, -13, 3]]]


class TestShaping:
    def logits(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(-60, 60, (2, 5, 8), generator=generator)

    def test_keeps_all_frequencies_unless_asked(self, prior: Prior) -> None:
        logits = self.logits()
        for shaping in (Shaping(), Shaping(top_k=8), Shaping(top_p=1.0)):
            found = shaping.frequencies(prior, logits)
            assert found.dtype == torch.int64
            assert torch.equal(found, prior.frequencies(logits))
            assert (found.sum(-1) == TOTAL).all()

    @pytest.mark.parametrize("k", [1, 3, 7])
    def test_top_k_keeps_the_k_likeliest(self, prior: Prior, k: int) -> None:
        everything = prior.frequencies(self.logits())
        found = Shaping(top_k=k).frequencies(prior, self.logits())
        assert ((found > 0).sum(-1) == k).all()
        assert ((found == 0) | (found == everything)).all()
        least = torch.where(found > 0, found, TOTAL).amin(-1)
        assert (least >= torch.where(found > 0, 0, everything).amax(-1)).all()

    def test_ties_go_to_the_smaller_index(self, prior: Prior) -> None:
        logits = torch.tensor([[[-3000, 5, 9, 5, 9, 9, 5, 5]]])
        kept = Shaping(top_k=2).frequencies(prior, logits)
        assert kept.nonzero()[:, -1].tolist() == [2, 4]
        kept = Shaping(top_k=5).frequencies(prior, logits)
        assert kept.nonzero()[:, -1].tolist() == [1, 2, 3, 4, 5]

    def test_top_p_keeps_the_fewest_that_reach_it(self, prior: Prior) -> None:
        everything = prior.frequencies(self.logits())
        before = torch.zeros(2, 5, dtype=torch.int64)
        for p in (1e-9, 0.2, 0.5, 0.9, 0.99, 1.0):
            found = Shaping(top_p=p).frequencies(prior, self.logits())
            assert ((found == 0) | (found == everything)).all()
            assert (found.sum(-1) >= round(p * TOTAL)).all()
            least = torch.where(found > 0, found, TOTAL).amin(-1)
            assert (found.sum(-1) - least < max(1, round(p * TOTAL))).all()
            kept = (found > 0).sum(-1)
            assert (kept >= before).all()
            before = kept
        assert (before == 8).all()

    def test_symbols_follow_the_kept_frequencies(self, prior: Prior) -> None:
        row = torch.tensor([0, 30, 20, -300, 25, 10, 27, 0])
        kept = Shaping(top_k=3).frequencies(prior, row.expand(1, 1, -1))[0, 0]
        choose = draw_with(prior, [np.random.PCG64(0)], Shaping(top_k=3))
        symbols = choose(0, row.expand(1, 20_000, -1))
        assert symbols.dtype == torch.int64
        shares = torch.bincount(symbols.flatten(), minlength=8) / symbols.numel()
        assert torch.allclose(shares, kept / kept.sum(), atol=0.015)
        assert shares[kept == 0].sum() == 0

    def test_only_the_likeliest_is_the_same_for_every_seed(self, weights: Path) -> None:
        found = {pixels(draw(model=weights, seed=seed, top_k=1))[0] for seed in range(3)}
        assert len(found) == 1
        assert {pixels(draw(model=weights, seed=5, top_p=1e-9))[0]} == found

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"temperature": 0.0}, "cannot sample at temperature"),
            ({"temperature": math.nan}, "cannot sample at temperature"),
            ({"top_k": 0}, "cannot sample from the 0 likeliest"),
            ({"top_p": 0.0}, "cannot sample with top-p 0.0"),
            ({"top_p": 1.01}, "cannot sample with top-p 1.01"),
            ({"top_p": math.nan}, "cannot sample with top-p nan"),
            ({"guidance": -0.1}, "cannot sample with guidance -0.1"),
            ({"guidance": math.inf}, "cannot sample with guidance inf"),
        ],
    )
    def test_values_that_cannot_be(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(CodecError, match=message):
            Shaping(**options)


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
    def test_the_likeliest_of_each_class(self, weights: Path, batch: int | None) -> None:
        everything = list(draw(model=weights, classes=[1, 4], count=10))
        kept = list(
            draw(
                model=weights,
                classes=[1, 4],
                count=3,
                keep=0.3,
                classifier=by_brightness(),
                batch=batch,
            )
        )
        assert [each.class_index for each in kept] == [1, 1, 1, 4, 4, 4]
        for index, sign in ((1, 1), (4, -1)):
            candidates = [each for each in everything if each.class_index == index]
            ranked = sorted(candidates, key=lambda each: -sign * each.image.pixels.mean())
            expected = sorted(each.number for each in ranked[:3])
            found = [each for each in kept if each.class_index == index]
            assert [each.number for each in found] == expected
            for each in found:
                drawn = candidates[each.number].image.pixels
                assert each.image.pixels.tobytes() == drawn.tobytes()
                assert each.probability == pytest.approx(sign * drawn.mean())

    def test_draws_no_more_candidates_than_the_share_says(self, weights: Path) -> None:
        seen = 0

        def count(images: Tensor) -> Tensor:
            nonlocal seen
            seen += len(images)
            return torch.zeros(len(images), len(CLASSES))

        drawn = draw(8, 8, model=weights, classes=[0], count=7, keep=0.7, classifier=count)
        # Equally likely ones stay in the order of their numbers.
        assert [each.number for each in drawn] == list(range(7))
        assert seen == 10

    def test_needs_a_classifier_of_these_classes(self, weights: Path) -> None:
        judge = by_brightness(3)
        drawn = draw(model=weights, classes=[0], keep=0.5, classifier=judge)
        with pytest.raises(CodecError, match=r"gives \[2, 3\] probabilities for 2 images of 6"):
            next(drawn)

    def test_by_a_classifier_of_other_classes_goes_by_their_keys(self, weights: Path) -> None:
        class Judge:
            labels = ("n01847000", "somewhere-else")

            def __call__(self, images: Tensor) -> Tensor:
                mean = images.double().mean((1, 2, 3))
                return torch.stack([mean, -mean], 1)

        options: dict[str, Any] = {"model": weights, "count": 2, "keep": 0.25}
        kept = pixels(draw(classes=[1], classifier=Judge(), **options))
        assert kept == pixels(draw(classes=[1], classifier=by_brightness(), **options))
        with pytest.raises(
            CodecError, match=r"does not know class 0 \(tench, Tinca tinca\); leave"
        ):
            draw(classes=[1, 0], classifier=Judge(), **options)

    @pytest.mark.parametrize("keep", [0, 1e-9, -0.5, 1.5, math.nan])
    def test_shares_that_cannot_be(self, weights: Path, keep: float) -> None:
        with pytest.raises(CodecError, match=r"give a share from 0\.001 to 1"):
            draw(model=weights, classes=[0], keep=keep, classifier=by_brightness())

    def test_needs_class_and_classifier(self, weights: Path) -> None:
        with pytest.raises(CodecError, match="needs a class and a classifier"):
            draw(model=weights, classes=[0], keep=0.5)
        with pytest.raises(CodecError, match="needs a class and a classifier"):
            draw(model=weights, keep=0.5, classifier=by_brightness())


class TestClasses:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1", [1]),
            ("005", [5]),
            ("n01847000", [1]),
            ("N01847000", [1]),
            ("drake", [1]),
            (" DRAKE ", [1]),
            ("tench", [0]),
            ("tinca  tinca", [0]),
            ("tench, Tinca tinca", [0]),
            ("tinca", [0]),
            ("husky", [5]),  # a whole synonym, where 4 has the word only
            ("siberian", [4]),
            ("eskimo dog", [5]),
            ("esk", [5]),
            ("all", [0, 1, 2, 3, 4, 5]),
        ],
    )
    def test_are_found(self, text: str, expected: list[int]) -> None:
        assert find_classes(CLASSES, text) == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("crane", r"class 'crane' may be 2 \(crane\); 3 \(crane\); give the index"),
            ("k", r"may be 1 \(drake\); 4 \(Siberian husky\); 5 \(Eskimo dog, husky\); give"),
            ("drke", r"no class 'drke'; did you mean 1 \(drake\)\?"),
            ("huskey", r"no class 'huskey'; did you mean 5 \(Eskimo dog, husky\)"),
            ("zebra", "no class 'zebra'; vqcodec models --classes lists them"),
            ("", "no class ''"),
            ("6", "no class 6; give an index from 0 to 5"),
            ("-1", "no class '-1'"),
            ("9" * 5000, "no class"),
        ],
    )
    def test_are_suggested(self, text: str, message: str) -> None:
        with pytest.raises(CodecError, match=message):
            find_classes(CLASSES, text)

    def test_many_that_may_be_meant_are_counted(self) -> None:
        many = [CLASSES[1]._replace(name=f"drake {n}") for n in range(20)]
        with pytest.raises(CodecError, match=r"7 \(drake 7\) and 12 more; give the index"):
            find_classes(many, "drake")

    def test_that_the_model_does_not_have(self, weights: Path) -> None:
        for index in (-1, 6):
            with pytest.raises(CodecError, match=rf"no class {index}; give one from 0 to 5"):
                draw(model=weights, classes=[0, index])

    def test_of_a_model_without(
        self, weights: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ModelError, match=r"tiny-test has no classes; (use|give) one that has"):
            draw(model=tiny_model, classes=[0])
        entry = registry.Entry(MODEL_ID, weights.name, registry.sha256_of(weights), "Of a test.")
        monkeypatch.setattr(registry, "MODELS", {MODEL_ID: entry})
        monkeypatch.setattr(registry, "weights_directory", lambda: weights.parent)
        with pytest.raises(ModelError, match="has no classes; use one that has: tiny-classes"):
            draw(model=tiny_model, classes=[0])

    def test_ask_for_the_packaged_model_that_has_them(
        self, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "DEFAULT_GENERATOR", None)
        with pytest.raises(ModelError, match="no packaged model draws images by class; give"):
            draw(classes=[0])
        monkeypatch.setattr(registry, "DEFAULT_GENERATOR", str(weights))
        assert pixels(draw(classes=[1])) == pixels(draw(model=weights, classes=[1]))

    def test_are_needed_for_guidance(self, weights: Path) -> None:
        with pytest.raises(CodecError, match="guidance needs a class"):
            draw(model=weights, guidance=2.0)

    def test_are_read_without_the_tensors(self, weights: Path, tiny_model: Path) -> None:
        assert registry.read_classes(weights) == load(weights).classes == CLASSES
        assert registry.read_classes(tiny_model) == ()
