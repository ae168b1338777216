"""The integer prior: causality, both ways of running it, and agreement with the float prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from vqcodec.entropy import compiled, layers, payload
from vqcodec.entropy import prior as integer
from vqcodec.entropy import state as reference
from vqcodec.entropy.state import State
from vqcodec.models import prior as trained
from vqcodec.spec.cone import step_of
from vqcodec.spec.prior import TOTAL, TOTAL_BITS, PriorConfig
from vqcodec.training.export import integer_prior, shared_tables

pytestmark = pytest.mark.usefixtures("each_way")

BOOKS = ((8, 1), (16, 2), (5, 3))
COARSER = {0: (), 1: (((8, 2),),), 2: (((8, 1), (16, 2)), ((4, 2),))}
FACTORS = {0: (), 1: (3,), 2: (2, 2)}
CLASSES = 3


@dataclass(frozen=True)
class Pair:
    """A float prior with random weights, and its export."""

    trained: trained.Prior
    exported: integer.Prior


def vectors(books: Sequence[tuple[int, int]]) -> list[Tensor]:
    return [torch.randn(k, d) for k, d in books]


@cache
def make(coarser: int, heads: int, layers: int = 1) -> Pair:
    torch.manual_seed(coarser)
    config = PriorConfig(
        codebooks=BOOKS,
        coarser=COARSER[coarser],
        factors=FACTORS[coarser],
        channels=16,
        blocks=3,
        context_blocks=1,
        attention_heads=heads,
        attention_layers=layers,
        head_channels=8,
        qualities=4,
        classes=CLASSES,
    )
    prior = trained.Prior(config, [vectors(books) for books in (*config.coarser, BOOKS)])
    for part in prior.modules():
        if isinstance(part, trained.Convolution):
            nn.init.normal_(part.weight, std=0.25)
            nn.init.normal_(part.bias, std=0.25)
    nn.init.normal_(prior.context.classes, std=0.5)
    nn.init.normal_(prior.context.quality, std=0.5)
    trained.set_mode(prior, "calibrate")
    with torch.no_grad():
        own, before = maps(coarser, 4, 8, 8)
        prior(own, before, torch.zeros(4, dtype=torch.int64))
    trained.set_mode(prior, "quantized")
    exported = integer.Prior(config, integer_prior(prior), shared_tables())
    return Pair(prior.eval(), exported)


KEYS = [(0, 0), (0, 4), (1, 0), (2, 2), (0, 4, 2)]
each_pair = pytest.mark.parametrize("key", KEYS, ids=lambda key: "-".join(map(str, key)))


def maps(coarser: int, count: int, height: int, width: int) -> tuple[Tensor, list[Tensor]]:
    """Random indices of the level and of the coarser ones; the sides are of the coarsest level."""
    generator = torch.Generator().manual_seed(17)

    def draw(books: Sequence[tuple[int, int]], h: int, w: int) -> Tensor:
        shape = (count, h, w)
        return torch.stack([torch.randint(k, shape, generator=generator) for k, _ in books], 1)

    before = []
    for books, factor in zip(COARSER[coarser], FACTORS[coarser], strict=True):
        before.append(draw(books, height, width))
        height, width = height * factor, width * factor
    return draw(BOOKS, height, width), before


def parallel(
    prior: integer.Prior,
    own: Tensor,
    before: Sequence[Tensor],
    quality: int = 1,
    label: int = 0,
) -> Tensor:
    """int32 [N, G, H * W, K]."""
    of_each = torch.ones(len(own), dtype=torch.int64)
    state = prior.start(before, quality * of_each, label * of_each, *own.shape[2:])
    return state.parallel(own)


def stepwise(prior: integer.Prior, own: Tensor, before: Sequence[Tensor]) -> Tensor:
    """The same, from a wavefront that is told the indices."""
    quality = torch.ones(len(own), dtype=torch.int64)
    state = prior.start(before, quality, torch.zeros_like(quality), *own.shape[2:])
    known = own.flatten(2)
    found = torch.zeros(*known.shape, max(prior.sizes), dtype=torch.int32)

    def tell(state: State, number: int, group: int) -> npt.NDArray[np.int32]:
        step, codebook = state.steps[number], state.groups[group].codebooks.start
        frequencies = prior.frequencies(state.logits(number, group))
        found[:, codebook, step, : frequencies.shape[-1]] = frequencies.int()
        return known[:, codebook, step].int().numpy()

    result = payload.find(state, tell)
    assert torch.equal(result, own)
    return found


@each_pair
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (3, 4)])
def test_parallel_pass_is_the_wavefront(key: tuple[int, ...], shape: tuple[int, int]) -> None:
    prior = make(*key).exported
    own, before = maps(key[0], 3, *shape)
    assert torch.equal(parallel(prior, own, before), stepwise(prior, own, before))


@each_pair
def test_frequencies_are_complete(key: tuple[int, ...]) -> None:
    prior = make(*key).exported
    found = parallel(prior, *maps(key[0], 2, 3, 5))
    assert (found.sum(-1) == TOTAL).all()
    for g, size in enumerate(prior.sizes):
        assert (found[:, g, :, :size] >= 1).all()
        assert (found[:, g, :, size:] == 0).all()


@each_pair
def test_batches_of_1_and_16_are_the_same(key: tuple[int, ...]) -> None:
    prior = make(*key).exported
    own, before = maps(key[0], 16, 2, 3)
    alone = [
        parallel(prior, own[n : n + 1], [level[n : n + 1] for level in before]) for n in range(16)
    ]
    assert torch.equal(parallel(prior, own, before), torch.cat(alone))
    assert torch.equal(stepwise(prior, own, before), torch.cat(alone))


@each_pair
def test_rows_per_call_change_nothing(
    key: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = make(*key).exported
    own, before = maps(key[0], 2, 3, 4)
    whole = parallel(prior, own, before)
    monkeypatch.setattr(reference, "ROWS_PER_CALL", 5)
    monkeypatch.setattr(layers, "ROWS_PER_CALL", 5)
    monkeypatch.setattr(compiled, "AHEAD", 5)
    monkeypatch.setattr(layers, "ATTENTION_LOGITS_PER_CALL", 40)
    assert torch.equal(parallel(prior, own, before), whole)


@each_pair
def test_causality(key: tuple[int, ...]) -> None:
    """A symbol changes only what comes after it: later steps, and later codebooks of its place."""
    prior = make(*key).exported
    own, before = maps(key[0], 1, 2, 3)
    height, width = own.shape[2:]
    step = torch.tensor(step_of(height, width))
    books = torch.arange(len(BOOKS))[:, None]
    usual = parallel(prior, own, before)
    for position in range(height * width):
        for g, (size, _) in enumerate(BOOKS):
            changed = own.clone()
            place = changed[0, g].view(-1)
            place[position] = (place[position] + size // 2) % size
            differs = (parallel(prior, changed, before) != usual).any(-1)[0]
            here = torch.arange(height * width) == position
            after = (step > step[position]) | (here & (books > g))
            assert not (differs & ~after).any()
            # The next codebook of the place and the next column are always after it.
            if g + 1 < len(BOOKS):
                assert differs[g + 1, position]
            if (position + 1) % width:
                assert differs[:, position + 1].any()


def test_attention_reaches_everything_later() -> None:
    own, before = maps(0, 1, 6, 9)
    first = own.clone()
    first[0, 0, 0, 0] = (first[0, 0, 0, 0] + 4) % 8
    with_attention, without = (
        (parallel(prior, own, before) != parallel(prior, first, before)).any(-1)[0].any(0)
        for prior in (make(0, 4).exported, make(0, 0).exported)
    )
    assert with_attention.sum() > without.sum()


@pytest.mark.parametrize("coarser", [1, 2])
def test_every_coarser_level_counts(coarser: int) -> None:
    prior = make(coarser, 0 if coarser == 1 else 2).exported
    own, before = maps(coarser, 1, 2, 2)
    usual = parallel(prior, own, before)
    for level in range(coarser):
        changed = [indices.clone() for indices in before]
        changed[level][0, 0] = (changed[level][0, 0] + 2) % 4
        assert not torch.equal(parallel(prior, own, changed), usual)


@each_pair
def test_quality_and_class_count(key: tuple[int, ...]) -> None:
    prior = make(*key).exported
    own, before = maps(key[0], 1, 2, 2)
    found = [
        parallel(prior, own, before, quality, label)
        for quality, label in [(0, 0), (1, 0), (3, 0), (0, 1), (0, CLASSES)]
    ]
    for n, first in enumerate(found):
        assert all(not torch.equal(first, other) for other in found[n + 1 :])


@each_pair
def test_code_lengths_of_all_codes(key: tuple[int, ...]) -> None:
    prior = make(*key).exported
    own, before = maps(key[0], 2, 3, 5)
    quality = torch.tensor([1, 1])
    state = prior.start(before, quality, torch.zeros_like(quality), *own.shape[2:])
    found = state.code_lengths(own)
    exact = parallel(prior, own, before)
    there = exact > 0
    assert torch.equal(there, found > 0)
    expected = 24 - exact[there].double().log2()
    likely = expected < 8
    torch.testing.assert_close(found[there][likely].double(), expected[likely], atol=0.05, rtol=0)


@each_pair
def test_a_batch_may_mix_qualities_and_classes(key: tuple[int, ...]) -> None:
    prior = make(*key).exported
    own, before = maps(key[0], 2, 2, 2)
    state = prior.start(before, torch.tensor([0, 3]), torch.tensor([2, 0]), *own.shape[2:])
    mixed = state.parallel(own)
    for n, (quality, label) in enumerate([(0, 2), (3, 0)]):
        single = [level[n : n + 1] for level in before]
        assert torch.equal(mixed[n], parallel(prior, own[n : n + 1], single, quality, label)[0])


@each_pair
@pytest.mark.parametrize("label", [0, 2])
def test_bits_are_those_of_the_quantized_float_prior(key: tuple[int, ...], label: int) -> None:
    """Within 1 %, in sum and for every codebook."""
    pair = make(*key)
    own, before = maps(key[0], 4, 6, 6)
    labels = torch.full((4,), label)
    with torch.no_grad():
        expected = pair.trained.bits(own, before, torch.full((4,), 3), labels)
    found = parallel(pair.exported, own, before, 3, label)
    chosen = found.gather(-1, own.flatten(2)[..., None]).squeeze(-1)
    bits = (TOTAL_BITS - chosen.double().log2()).sum(-1)
    assert bits.sum() == pytest.approx(float(expected.sum()), rel=0.01)
    assert bits.sum(0).tolist() == pytest.approx(expected.sum(0).tolist(), rel=0.01)


@each_pair
def test_temperature_draws_nearer_to_the_likeliest(key: tuple[int, ...]) -> None:
    prior = make(*key).exported
    _, before = maps(key[0], 1, 2, 2)
    own, _ = maps(key[0], 1, 2, 2)
    largest = []
    for temperature in (32, 256):
        quality = torch.zeros(1, dtype=torch.int64)
        state = prior.start(before, quality, quality, *own.shape[2:])
        seen: list[Tensor] = []

        def likeliest(
            state: State, *at: int, seen: list[Tensor] = seen, temperature: int = temperature
        ) -> npt.NDArray[np.int32]:
            logits = state.logits(*at)
            seen.append(prior.frequencies(logits, temperature).amax(-1).flatten())
            return logits.argmax(-1).int().numpy()

        payload.find(state, likeliest)
        largest.append(torch.cat(seen).double().mean())
    assert largest[0] > largest[1]
