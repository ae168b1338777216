from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import linked_search
import numpy as np
import pytest
import torch
from tiny import tiny_priors
from tiny_vqvae import CONFIGS, LINKED, ONE, RESIDUAL, every_config, pixels, started
from torch import Tensor

from vqcodec import codec
from vqcodec.image import Image
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.models.families import from_config
from vqcodec.models.vqvae import VQVAE, Quantizer, VQVAEConfig, VQVAELevel, nearest
from vqcodec.tiles import Tiles
from vqcodec.training.export import write_weights
from vqcodec.weights_file import load


def quality(count: int = 2) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


@every_config
def test_configs_survive_json(name: str) -> None:
    fields = json.loads(json.dumps(CONFIGS[name].to_dict()))
    rebuilt = from_config(fields)
    assert isinstance(rebuilt, VQVAE)
    assert rebuilt.config == CONFIGS[name]


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="'vqvae-9'"):
        from_config(ONE.to_dict() | {"family": "vqvae-9"})


@pytest.mark.parametrize(
    ("levels", "linked", "reason"),
    [
        ((), False, "fall or be all the same"),
        ((VQVAELevel(4, 8, 4), VQVAELevel(8, 8, 4)), False, "fall or be all the same"),
        ((VQVAELevel(8, 8, 4), VQVAELevel(8, 8, 4), VQVAELevel(4, 8, 4)), False, "fall or be"),
        ((VQVAELevel(6, 8, 4),), False, "powers of two"),
        ((VQVAELevel(1, 8, 4),), False, "powers of two"),
        ((VQVAELevel(4, 8, 4), VQVAELevel(4, 8, 5)), False, "one dimension"),
        ((VQVAELevel(8, 8, 4), VQVAELevel(4, 8, 4)), True, "all of one stride"),
        ((VQVAELevel(4, 8, 4),), True, "several levels"),
        ((VQVAELevel(4, 1, 4),), False, "2 to 65536"),
        ((VQVAELevel(4, 65537, 4),), False, "2 to 65536"),
    ],
)
def test_levels_that_cannot_be_are_refused(
    levels: tuple[VQVAELevel, ...], linked: bool, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        VQVAEConfig(levels, linked)


def test_linked_codebooks_multiply() -> None:
    assert LINKED.paths == (1, 3, 12)
    assert RESIDUAL.paths == (1, 1)
    sizes = [len(level.quantizer.codebook.vectors) for level in VQVAE(LINKED).levels]
    assert sizes == [3, 12, 24]
    assert [tuple(codes.shape) for (codes,) in VQVAE(LINKED).code_vectors()] == [
        (3, 4),
        (4, 4),
        (2, 4),
    ]


def test_the_nearest_code_is_that_of_a_brute_force_search() -> None:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(200, 4, generator=generator)
    codebooks = torch.randn(6, 5, 4, generator=generator)
    path = torch.randint(6, (200,), generator=generator)
    path[path == 2] = 3  # a codebook that nothing searches
    expected = [
        int(p) * 5 + min(range(5), key=lambda k: float((z - codebooks[p, k]).square().sum()))
        for z, p in zip(latents, path.tolist(), strict=True)
    ]
    assert nearest(latents, codebooks, path).tolist() == expected
    flat = nearest(latents, codebooks[:1])
    assert torch.equal(flat, nearest(latents, codebooks[:1], torch.zeros_like(path)))


def test_a_linked_quantizer_equals_a_walk_down_the_tree() -> None:
    autoencoder = started("linked").eval()
    with torch.no_grad():
        found, _ = autoencoder.walk(pixels())
    indices, _ = autoencoder.quantize(pixels(), quality())
    tables = [level.quantizer.books for level in autoencoder.levels]
    for left, chosen in zip(
        found[0].latents.flatten(0, 2),
        torch.stack([maps[:, 0] for maps in indices], -1).flatten(0, 2).tolist(),
        strict=True,
    ):
        path, rest = 0, left
        for table, index in zip(tables, chosen, strict=True):
            distances = [float((rest - code).square().sum()) for code in table[path]]
            assert distances[index] == pytest.approx(min(distances), abs=1e-5)
            rest, path = rest - table[path, index], path * len(distances) + index


def test_a_search_stays_within_the_codebook_of_its_path() -> None:
    level = VQVAELevel(4, 3, 2)
    quantizer = Quantizer(level, 4, 0.99).eval()
    with torch.no_grad():
        quantizer.codebook.vectors[:9] = 1000.0
        quantizer.codebook.vectors[9:] = 0.0
    path = torch.tensor([[[0, 1, 2, 3]]])
    rows = quantizer(torch.zeros(1, 1, 4, 2), path)
    assert (rows // 3 == path).all()
    assert torch.equal(quantizer.lookup(rows)[0, 0, :3], torch.full((3, 2), 1000.0))


def test_code_vectors_move_towards_the_mean_of_what_chose_them() -> None:
    quantizer = Quantizer(VQVAELevel(4, 2, 2), 1, decay=0.5)
    with torch.no_grad():
        quantizer.codebook.vectors.copy_(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    latents = torch.tensor([[1.0, 0.0], [3.0, 0.0], [9.0, 9.0]]).view(1, 1, 3, 2)
    assert quantizer(latents, None).flatten().tolist() == [0, 0, 1]
    # counts: 0.5 * 1 + 0.5 * 2 and 0.5 * 1 + 0.5 * 1; sums the same way
    expected = torch.tensor([[2.0 / 1.5, 0.0], [9.5, 9.5]])
    torch.testing.assert_close(quantizer.codebook.vectors, expected)
    torch.testing.assert_close(quantizer.codebook.counts, torch.tensor([1.5, 1.0]))
    torch.testing.assert_close(quantizer.mean, (expected * torch.tensor([[0.6], [0.4]])).sum(0))
    before = quantizer.codebook.vectors.clone()
    quantizer.eval()(latents, None)
    assert torch.equal(quantizer.codebook.vectors, before)


@every_config
def test_indices_have_the_levels_sizes_and_equal_bits(name: str) -> None:
    config = CONFIGS[name]
    indices, bits = started(name).eval().quantize(pixels(), quality())
    for n, (level, maps) in enumerate(zip(config.levels, indices, strict=True)):
        assert maps.shape == (2, 1, 32 // level.stride, 48 // level.stride)
        assert maps.min() >= 0
        assert maps.max() < level.num_embeddings
        expected = 32 * 48 / level.stride**2 * math.log2(level.num_embeddings)
        torch.testing.assert_close(bits[:, n], torch.full((2,), expected))
    first, first_bits = started(name).eval().quantize(pixels(), quality(), 1)
    assert len(first) == 1
    assert torch.equal(first[0], indices[0])
    assert torch.equal(first_bits, bits[:, :1])


@every_config
def test_synthesis_from_indices_is_that_of_training(name: str) -> None:
    autoencoder = started(name).eval()
    with torch.no_grad():
        prediction, _ = autoencoder(pixels())
    indices, _ = autoencoder.quantize(pixels(), quality())
    expected = ((prediction.permute(0, 2, 3, 1) + 1) * 127.5).clamp(0, 255)
    restored = autoencoder.synthesize(indices, quality())
    assert restored.dtype == torch.uint8
    assert (restored - expected).abs().max() < 0.51


@pytest.mark.parametrize("name", ["pyramid", "residual", "linked"])
def test_the_first_levels_alone_give_an_image(name: str) -> None:
    autoencoder = started(name).eval()
    indices, _ = autoencoder.quantize(pixels(), quality())
    images = [autoencoder.synthesize(indices[: n + 1], quality()) for n in range(len(indices))]
    assert all(image.shape == (2, 32, 48, 3) for image in images)
    assert all(not torch.equal(a, b) for a, b in pairwise(images))


def test_a_preview_has_the_means_of_squares() -> None:
    autoencoder = started("pyramid").eval()
    indices, _ = autoencoder.quantize(pixels(), quality())
    found = autoencoder.preview(indices, quality(), 4)
    restored = autoencoder.synthesize(indices, quality()).float()
    means = restored.view(2, 8, 4, 12, 4, 3).mean((2, 4))
    assert (found - means).abs().max() <= 0.5
    assert torch.equal(autoencoder.preview(indices, quality(), 1), restored.byte())


def test_the_mean_code_stands_in_for_a_missing_level() -> None:
    autoencoder = started("pyramid").eval()
    indices, _ = autoencoder.quantize(pixels(), quality())
    expected = autoencoder.synthesize(indices[:1], quality())
    with torch.no_grad():
        for level in autoencoder.levels[1:]:
            level.quantizer.codebook.vectors[:] = level.quantizer.mean
    assert torch.equal(autoencoder.synthesize(indices, quality()), expected)


@every_config
def test_gradients_reach_every_weight_and_codebooks_have_none(name: str) -> None:
    autoencoder = started(name).train()
    prediction, _ = autoencoder(pixels())
    prediction.square().mean().backward()  # without the commitment: straight through alone
    gradients = [(name, weight.grad) for name, weight in autoencoder.named_parameters()]
    assert all(grad is not None and grad.abs().sum() > 0 for _, grad in gradients)
    assert not any("codebook" in name for name, _ in gradients)


@pytest.mark.parametrize("name", ["residual", "linked"])
def test_a_sum_of_codes_passes_its_gradient_once(name: str) -> None:
    autoencoder = started(name).eval()
    _, codes = autoencoder.walk(pixels())
    gradient = torch.randn_like(codes)
    codes.backward(gradient)
    last = autoencoder.analysis[0][-1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.bias is not None
    torch.testing.assert_close(last.bias.grad, gradient.sum((0, 2, 3)))


@every_config
def test_the_corridor_takes_any_of_them(name: str, tmp_path: Path) -> None:
    autoencoder = started(name).eval()
    priors = tiny_priors(autoencoder)  # type: ignore[arg-type]
    path = tmp_path / f"{name}.safetensors"
    write_weights(path, f"tiny-{name}", autoencoder, priors)
    model = load(path)
    assert isinstance(model.autoencoder, VQVAE)
    picture = Image(pixels(1, 45, 37)[0].numpy(), grey=False)
    compressed = codec.compress(picture, model=path, tile=32)
    stages = Tiles(model, compressed.header, 4, None)
    expected = stages.analyze(picture.pixels)
    contents = codec.inspect(compressed.data)
    decoded: list[Tensor] = []
    for payloads in contents.sections:
        decoded.append(stages.decode(payloads, decoded))
    assert all(torch.equal(a, b) for a, b in zip(decoded, expected, strict=True))
    restored = codec.decompress(compressed.data, model=path)
    assert np.array_equal(restored.pixels, stages.synthesize(expected))
    preview = codec.decompress(compressed.data, model=path, levels=1)
    assert preview.pixels.shape == picture.pixels.shape


def test_linked_codes_enter_the_priors_as_the_mean_over_their_codebooks() -> None:
    autoencoder = started("linked")
    vectors = autoencoder.code_vectors()
    table = autoencoder.levels[1].quantizer.codebook.vectors
    torch.testing.assert_close(vectors[1][0][2], (table[2] + table[6] + table[10]) / 3)


def test_the_benchmarks_linked_search_is_that_of_the_model() -> None:
    search = linked_search.Search("small", 2, 4, linked=True)
    assert search.distances == 8
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 10, 10, 3, generator=generator)
    books = search.codebooks(3, generator)
    rest, path = latents, None
    for table, rows in zip(books, search(latents.flatten(0, 2), books), strict=True):
        quantizer = Quantizer(VQVAELevel(4, 4, 3), len(table), 0.99).eval()
        quantizer.codebook.vectors.copy_(table.flatten(0, 1))
        path = quantizer(rest, path)
        rest = rest - quantizer.lookup(path)
        assert torch.equal(path.flatten(), rows)
    assert [each.distances for each in linked_search.SEARCHES] == [24, 512, 1536]
    assert min(linked_search.measure(50, 4, 1)) > 0


def test_the_packaged_family_needs_no_name() -> None:
    from tiny import CONFIG

    assert "family" not in CONFIG.to_dict()
    assert isinstance(from_config(json.loads(json.dumps(CONFIG.to_dict()))), Autoencoder)
