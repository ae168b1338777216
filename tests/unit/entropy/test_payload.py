"""The order of symbols: both directions, and indices from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tiny import GROUPED, tiny_autoencoder, tiny_priors
from torch import Tensor

from vqcodec.entropy import payload
from vqcodec.entropy.prior import Prior
from vqcodec.entropy.state import State
from vqcodec.errors import SectionError
from vqcodec.training.export import integer_prior, shared_tables

pytestmark = pytest.mark.usefixtures("each_way")

SIZES = [16, 16, 16, 16, 8, 8]
USED = {1: 2, 5: 4, 10: 6}  # quality -> codebooks
COUNT, HEIGHT, WIDTH = 2, 4, 6


@pytest.fixture(scope="module")
def prior() -> Prior:
    """Of the finer of two levels, with codebooks in groups."""
    trained = tiny_priors(tiny_autoencoder(GROUPED))[1]
    return Prior(trained.config, integer_prior(trained), shared_tables())


def start(prior: Prior, quality: int, steps: Sequence[Tensor] | None = None) -> State:
    generator = torch.Generator().manual_seed(1)
    shape = (COUNT, HEIGHT // 2, WIDTH // 2)
    coarser = torch.stack([torch.randint(k, shape, generator=generator) for k in (8, 16)], 1)
    of_each = torch.full((COUNT,), quality - 1)
    return prior.start([coarser], of_each, torch.zeros_like(of_each), HEIGHT, WIDTH, steps)


def draw(quality: int) -> Tensor:
    generator = torch.Generator().manual_seed(quality)
    shape = (COUNT, HEIGHT, WIDTH)
    own = torch.stack([torch.randint(k, shape, generator=generator) for k in SIZES], 1)
    own[:, USED[quality] :] = 0
    return own


@pytest.mark.parametrize("quality", USED)
def test_payloads_come_back_as_indices(prior: Prior, quality: int) -> None:
    own = draw(quality)
    payloads, bits = payload.encode(start(prior, quality), own)
    assert len(payloads) == COUNT
    # Whole words, of which the last ones settle what the ideal length leaves open.
    assert bits / 8 <= sum(map(len, payloads)) <= bits / 8 + 8 * COUNT
    assert torch.equal(payload.decode(start(prior, quality), payloads), own)


def test_a_map_s_payload_does_not_depend_on_its_batch(prior: Prior) -> None:
    own = draw(10)
    together, _ = payload.encode(start(prior, 10), own)
    swapped, _ = payload.encode(start(prior, 10), own.flip(0))
    assert together != swapped  # the coarser levels' maps are not swapped
    assert payload.encode(start(prior, 10), own)[0] == together


@pytest.mark.parametrize("quality", USED)
def test_every_index_is_asked_for_once_and_in_order(prior: Prior, quality: int) -> None:
    state = start(prior, quality)
    asked = [
        (g, int(position))
        for step, group in payload.order(state)
        for g in state.groups[group].codebooks
        for position in state.steps[step]
    ]
    assert len(asked) == len(set(asked)) == USED[quality] * HEIGHT * WIDTH
    steps = [position % WIDTH + 2 * (position // WIDTH) for _, position in asked]
    assert steps == sorted(steps)


def test_found_indices_are_those_chosen(prior: Prior) -> None:
    found = payload.find(
        start(prior, 10), lambda state, *at: state.read(*at).argmax(-1).astype(np.int32)
    )
    coded, _ = payload.encode(start(prior, 10), found)
    assert torch.equal(payload.decode(start(prior, 10), coded), found)


def test_other_steps_are_another_order_of_the_same_indices(prior: Prior) -> None:
    def one_by_one() -> State:
        return start(prior, 10, tuple(torch.arange(HEIGHT * WIDTH)[:, None]))

    own = draw(10)
    payloads, _ = payload.encode(one_by_one(), own)
    assert torch.equal(payload.decode(one_by_one(), payloads), own)


def test_progress_counts_steps(prior: Prior) -> None:
    payloads, _ = payload.encode(start(prior, 1), draw(1))
    calls: list[tuple[int, int]] = []
    payload.decode(start(prior, 1), payloads, lambda *call: calls.append(call))
    steps = WIDTH + 2 * (HEIGHT - 1)
    assert calls == [(n, steps) for n in range(1, steps + 1)]


def test_words_too_many_are_noticed(prior: Prior) -> None:
    payloads, _ = payload.encode(start(prior, 1), draw(1))
    with pytest.raises(SectionError, match="longer than its symbols"):
        payload.decode(start(prior, 1), [payloads[0], payloads[1] + bytes(8)])
