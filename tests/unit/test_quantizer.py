from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vqcodec.models.quantizer import (
    Choice,
    Codebook,
    CodebookConfig,
    ProductQuantizer,
)

BOOKS = tuple(CodebookConfig(*book) for book in ((8, 2), (4, 1), (16, 3)))
SHAPE = (2, 3, 5)


@pytest.fixture
def quantizer() -> ProductQuantizer:
    torch.manual_seed(0)
    quantizer = ProductQuantizer(BOOKS, context_channels=4, rate_channels=6)
    for head in quantizer.rate_logits:
        nn.init.normal_(head.weight)
    return quantizer.eval()


def choose(quantizer: ProductQuantizer, latents: Tensor, lmbda: float) -> Choice:
    context = torch.ones(*latents.shape[:-1], 4)
    with torch.no_grad():
        choice: Choice = quantizer(
            latents,
            context,
            torch.full((len(latents),), lmbda),
            torch.ones(latents.shape[-1]),
            torch.linspace(0, 1, len(latents)),
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
