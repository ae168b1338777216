from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from vqcodec.models.quantizer import (
    Choice,
    Codebook,
    CodebookConfig,
    ProductQuantizer,
    groups,
    slices,
)

BOOKS = tuple(CodebookConfig(*book) for book in ((8, 2), (4, 1), (16, 3)))
SHAPE = (2, 3, 5)
GROUPED = (
    CodebookConfig(8, 2),
    CodebookConfig(8, 3),
    CodebookConfig(16, 2, 0, 0.3),
    CodebookConfig(16, 4, 5, 0.3, True),
    CodebookConfig(8, 3, 2, 0.6),
    CodebookConfig(8, 2, 7, 0.6, True),
)
USED = {0.0: 2, 0.29: 2, 0.3: 4, 0.59: 4, 0.6: 6, 1.0: 6}  # share of the qualities -> codebooks


@pytest.fixture
def quantizer() -> ProductQuantizer:
    torch.manual_seed(0)
    quantizer = ProductQuantizer(BOOKS, context_channels=4, rate_channels=6)
    for head in quantizer.rate_logits:
        nn.init.normal_(head.weight)
    return quantizer.eval()


@pytest.fixture
def grouped() -> ProductQuantizer:
    torch.manual_seed(0)
    quantizer = ProductQuantizer(GROUPED, context_channels=4, rate_channels=6)
    for head in quantizer.rate_logits:
        nn.init.normal_(head.weight)
    return quantizer.eval()


def choose(
    quantizer: ProductQuantizer, latents: Tensor, lmbda: float, share: Tensor | None = None
) -> Choice:
    context = torch.ones(*latents.shape[:-1], 4)
    with torch.no_grad():
        choice: Choice = quantizer(
            latents,
            context,
            torch.full((len(latents),), lmbda),
            torch.linspace(0.5, 2.0, latents.shape[-1]),
            torch.linspace(0, 1, len(latents)) if share is None else share,
        )
    return choice


def test_shapes_and_types(quantizer: ProductQuantizer) -> None:
    choice = choose(quantizer, torch.randn(*SHAPE, 6), 1.0)
    assert choice.indices.shape == choice.bits.shape == (*SHAPE, 3)
    assert choice.vectors.shape == (*SHAPE, 6)
    assert choice.indices.dtype == torch.int64
    for g, (size, *_) in enumerate(BOOKS):
        assert 0 <= choice.indices[..., g].min() <= choice.indices[..., g].max() < size
    assert choice.bits.min() >= 0


def test_lookup_gives_the_chosen_vectors(quantizer: ProductQuantizer) -> None:
    choice = choose(quantizer, torch.randn(*SHAPE, 6), 1.0)
    assert torch.equal(quantizer.lookup(choice.indices, torch.zeros(2)), choice.vectors)


def test_without_a_rate_the_nearest_is_chosen(quantizer: ProductQuantizer) -> None:
    latents = torch.randn(*SHAPE, 6)
    choice = choose(quantizer, latents, 0.0)
    start = 0
    for g, (_, dim, *_) in enumerate(BOOKS):
        part = latents[..., start : start + dim]
        distance = (part[..., None, :] - quantizer.codebooks[g].vectors).square().sum(-1)
        assert torch.equal(choice.indices[..., g], distance.argmin(-1))
        start += dim


def test_code_vectors_are_chosen_for_themselves(quantizer: ProductQuantizer) -> None:
    indices = torch.stack([torch.randint(k, SHAPE) for k, *_ in BOOKS], -1)
    latents = quantizer.lookup(indices, torch.zeros(2))
    assert torch.equal(choose(quantizer, latents, 0.0).indices, indices)


def test_a_dearer_bit_saves_bits(quantizer: ProductQuantizer) -> None:
    latents = torch.randn(*SHAPE, 6)
    first = [choose(quantizer, latents, lmbda) for lmbda in (0.0, 1.0, 1e6)]
    # Of the first codebook alone: the bits of the others depend on what is chosen before them.
    bits = [float(choice.bits[..., 0].sum()) for choice in first]
    error = [float((latents - choice.vectors)[..., :2].square().sum()) for choice in first]
    assert bits[0] > bits[1] > bits[2]
    assert error[0] < error[1] < error[2]


def test_bits_are_a_probability(quantizer: ProductQuantizer) -> None:
    """Over all symbols of the first codebook, whose logits depend on the context alone."""
    vectors = quantizer.codebooks[0].vectors
    latents = torch.cat([vectors, torch.zeros(8, 4)], 1)[:, None, None, :]
    choice = choose(quantizer, latents, 0.0)
    assert choice.indices[:, 0, 0, 0].tolist() == list(range(8))
    assert float(torch.exp2(-choice.bits[:, 0, 0, 0]).sum()) == pytest.approx(1)


def test_earlier_codebooks_condition_later_ones(quantizer: ProductQuantizer) -> None:
    vectors = quantizer.codebooks[0].vectors
    latents = torch.cat([vectors, torch.zeros(8, 4)], 1)[:, None, None, :]
    bits = choose(quantizer, latents, 0.0).bits[:, 0, 0, 1]
    assert len(bits.unique()) > 1


def test_codebooks_move_in_training_alone(quantizer: ProductQuantizer) -> None:
    latents = torch.randn(*SHAPE, 6)
    before = [book.vectors.clone() for book in quantizer.codebooks]
    choose(quantizer, latents, 0.0)
    assert all(
        torch.equal(book.vectors, old)
        for book, old in zip(quantizer.codebooks, before, strict=True)
    )
    quantizer.train()
    choose(quantizer, latents, 0.0)
    assert not any(
        torch.equal(book.vectors, old)
        for book, old in zip(quantizer.codebooks, before, strict=True)
    )


def test_averages_move_to_the_mean_of_what_chose_a_code() -> None:
    book = Codebook(3, 2, decay=0.9)
    untouched = book.vectors[2].clone()
    latents = torch.tensor([[1.0, 2.0], [3.0, 4.0], [-5.0, 0.0]])
    one_hot = torch.eye(3)[[0, 0, 1]]
    first = book.vectors[0] * 0.9 + torch.tensor([4.0, 6.0]) * 0.1
    book.update(latents, one_hot)
    torch.testing.assert_close(book.counts, torch.tensor([1.1, 1.0, 0.9]))
    torch.testing.assert_close(book.vectors[0], first / 1.1)
    torch.testing.assert_close(book.vectors[2], untouched)
    for _ in range(200):
        book.update(latents, one_hot)
    torch.testing.assert_close(book.vectors[:2], torch.tensor([[2.0, 3.0], [-5.0, 0.0]]))
    torch.testing.assert_close(book.vectors[2], untouched)
    assert book.vectors.isfinite().all()


def test_unused_codes_are_restarted(quantizer: ProductQuantizer) -> None:
    book = quantizer.codebooks[2]
    book.counts.copy_(torch.tensor([1.0] * 13 + [0.0] * 3))
    kept = book.vectors[:13].clone()
    candidates = torch.full((16, 3), 7.0) + torch.arange(16)[:, None]
    head = quantizer.rate_logits[2]
    with torch.no_grad():
        head.bias.copy_(torch.arange(16))
    assert quantizer.restart_unused(2, candidates, threshold=0.01) == 3
    assert torch.equal(book.vectors[13:], candidates[:3])
    assert torch.equal(book.vectors[:13], kept)
    assert (book.counts[13:] / book.counts.sum() > 0.01).all()
    assert (head.weight[13:] == 0).all()
    assert (head.bias[13:] == 7.5).all()
    assert quantizer.restart_unused(2, candidates, threshold=0.01) == 0


def test_no_more_codes_are_restarted_than_there_are_candidates(
    quantizer: ProductQuantizer,
) -> None:
    quantizer.codebooks[0].counts.copy_(torch.tensor([1.0] + [0.0] * 7))
    assert quantizer.restart_unused(0, torch.ones(2, 2), threshold=0.01) == 2
    assert quantizer.restart_unused(0, torch.ones(0, 2), threshold=0.01) == 0


def test_a_refinement_codes_what_is_left_of_its_slice() -> None:
    torch.manual_seed(0)
    books = (CodebookConfig(8, 2), CodebookConfig(4, 1), CodebookConfig(16, 2, 0))
    quantizer = ProductQuantizer(books, context_channels=4, rate_channels=6).eval()
    latents = torch.randn(*SHAPE, 3)
    choice = choose(quantizer, latents, 0.0)
    assert choice.vectors.shape == latents.shape
    first, _, last = (book.vectors for book in quantizer.codebooks)
    left = latents[..., :2] - first[choice.indices[..., 0]]
    distance = (left[..., None, :] - last).square().sum(-1)
    assert torch.equal(choice.indices[..., 2], distance.argmin(-1))
    assert torch.equal(quantizer.lookup(choice.indices, torch.zeros(2)), choice.vectors)


def test_slices_and_groups_of_codebooks() -> None:
    assert slices(BOOKS) == [slice(0, 2), slice(2, 3), slice(3, 6)]
    assert groups(BOOKS) == [range(1), range(1, 2), range(2, 3)]
    found = [(part.start, part.stop) for part in slices(GROUPED)]
    assert found == [(0, 2), (2, 5), (0, 2), (5, 9), (2, 5), (7, 9)]
    assert groups(GROUPED) == [range(1), range(1, 2), range(2, 4), range(4, 6)]
    # After a refinement, the next slice is the one after all slices so far.
    assert slices([*GROUPED[:3], CodebookConfig(8, 1)])[-1] == slice(5, 6)


def test_an_image_is_the_sum_of_the_codes_that_its_quality_uses(grouped: ProductQuantizer) -> None:
    share = torch.tensor(list(USED))
    latents = torch.randn(len(USED), 3, 5, 9)
    choice = choose(grouped, latents, 0.5, share)
    assert torch.equal(grouped.lookup(choice.indices, share), choice.vectors)
    for n, count in enumerate(USED.values()):
        expected = torch.zeros(3, 5, 9)
        for g in range(count):
            codes = grouped.codebooks[g].vectors[choice.indices[n, ..., g]]
            expected[..., slices(GROUPED)[g]] += codes
        torch.testing.assert_close(choice.vectors[n], expected)
        assert (choice.indices[n, ..., :count] > 0).any()
        assert (choice.indices[n, ..., count:] == 0).all()
        assert (choice.bits[n, ..., :count] > 0).all()
        assert (choice.bits[n, ..., count:] == 0).all()


def test_images_of_a_batch_do_not_change_each_other(grouped: ProductQuantizer) -> None:
    share = torch.tensor([1.0, 0.0, 0.4, 0.7, 0.1, 0.3])
    latents = torch.randn(len(share), 3, 5, 9)
    together = choose(grouped, latents, 0.5, share)
    for n in range(len(share)):
        alone = choose(grouped, latents[n : n + 1], 0.5, share[n : n + 1])
        assert torch.equal(alone.indices[0], together.indices[n])
        assert torch.equal(alone.vectors[0], together.vectors[n])
        torch.testing.assert_close(alone.bits[0], together.bits[n])
        looked_up = grouped.lookup(together.indices, share)[n]
        assert torch.equal(grouped.lookup(alone.indices, share[n : n + 1])[0], looked_up)


def test_codebooks_learn_from_the_images_that_use_them_alone(grouped: ProductQuantizer) -> None:
    latents = torch.randn(3, 3, 5, 9)
    start = copy.deepcopy(grouped.state_dict())
    few = torch.tensor([0.1, 0.2, 0.0])
    choose(grouped.train(), latents, 0.0, few)
    for g, book in enumerate(grouped.codebooks):
        before = start[f"codebooks.{g}.vectors"]
        if g < 2:
            assert (book.vectors - before).abs().max() > 0.01
        else:
            torch.testing.assert_close(book.vectors, before, rtol=1e-6, atol=0)
    moved = []
    # The last image alone, and beside two that leave all but two codebooks out.
    for chosen in (slice(2, 3), slice(0, 3)):
        grouped.load_state_dict(start)
        choose(grouped, latents[chosen], 0.0, torch.tensor([0.0, 0.1, 1.0])[chosen])
        moved.append([book.vectors.clone() for book in grouped.codebooks[2:]])
    for alone, together in zip(*moved, strict=True):
        torch.testing.assert_close(alone, together)


def test_in_training_the_vectors_are_those_that_were_chosen(grouped: ProductQuantizer) -> None:
    latents, share = torch.randn(2, 3, 5, 9), torch.tensor([0.1, 1.0])
    before = choose(grouped, latents, 0.5, share)
    training = choose(grouped.train(), latents, 0.5, share)
    assert torch.equal(training.indices, before.indices)
    assert torch.equal(training.vectors, before.vectors)
    assert not torch.equal(grouped.lookup(before.indices, share), before.vectors)  # they moved


def test_a_rate_model_learns_from_the_images_that_use_it_alone(grouped: ProductQuantizer) -> None:
    latents = torch.randn(2, 3, 5, 9)
    context = torch.ones(2, 3, 5, 4)
    choice = grouped(latents, context, torch.ones(2), torch.ones(9), torch.tensor([0.1, 0.4]))
    choice.bits.sum().backward()
    for g, head in enumerate(grouped.rate_logits):
        learns = head.weight.grad is not None and bool(head.weight.grad.abs().sum() > 0)
        assert learns == (g < 4)


def test_codebooks_see_earlier_groups_but_not_their_own(grouped: ProductQuantizer) -> None:
    share = torch.ones(1)
    # Latents that are sums of codes of the first four codebooks, which are then those chosen.
    for book in grouped.codebooks[4:]:
        book.vectors.mul_(1e-3)
    grouped.codebooks[2].vectors.mul_(0.01)
    indices = torch.stack([torch.randint(1, k, (1, 3, 5)) for k, *_ in GROUPED], -1)
    first = choose(grouped, grouped.lookup(indices, share), 0.0, share)
    assert torch.equal(first.indices[..., :4], indices[..., :4])
    for changed, sees_it in [(0, {1, 2, 3}), (1, {2, 3}), (2, set()), (3, set())]:
        other = indices.clone()
        other[..., changed] = (other[..., changed] + 1) % GROUPED[changed].num_embeddings
        second = choose(grouped, grouped.lookup(other, share), 0.0, share)
        assert torch.equal(second.indices[..., :4], other[..., :4])
        for g, _ in enumerate(GROUPED[:4]):
            if g == changed:
                continue
            # The same index was chosen: its bits tell whether its logits are others.
            same = torch.allclose(first.bits[..., g], second.bits[..., g], rtol=1e-6, atol=0)
            assert same == (g not in sees_it)


def test_a_codebook_is_left_out_of_low_qualities() -> None:
    torch.manual_seed(0)
    books = (CodebookConfig(8, 2), CodebookConfig(16, 4, None, 0.5))
    quantizer = ProductQuantizer(books, context_channels=4, rate_channels=6)
    for training in (False, True):
        quantizer.train(training)
        choice = choose(quantizer, torch.randn(*SHAPE, 6), 0.0)  # the images have shares 0 and 1
        assert (choice.indices[0, ..., 1] == 0).all()
        assert (choice.bits[0, ..., 1] == 0).all()
        assert (choice.vectors[0, ..., 2:] == 0).all()
        assert (choice.bits[1, ..., 1] > 0).all()
    quantizer.eval()
    choice = choose(quantizer, torch.randn(1, 3, 5, 6), 0.0)  # no image uses the second one
    assert (choice.vectors[..., 2:] == 0).all()
    assert (choice.vectors[..., :2] != 0).any()
