from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, GROUPED, tiny_autoencoder
from torch import Tensor

from vqcodec.models.autoencoder import Autoencoder, AutoencoderConfig, LevelConfig
from vqcodec.models.layers import Knots, ListOf, depth_to_space, interpolation, space_to_depth
from vqcodec.models.quantizer import CodebookConfig
from vqcodec.training.hvq import RateDistortion
from vqcodec.training.presets import PHOTO, WIDE, books
from vqcodec.training.settings import AutoencoderTraining

LEVELS = range(len(CONFIG.levels))


@pytest.fixture
def autoencoder() -> Autoencoder:
    return tiny_autoencoder()


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_depth_to_space_undoes_space_to_depth(stride: int) -> None:
    features = torch.randn(2, 8, 12, 3)
    folded = space_to_depth(features, stride)
    assert folded.shape == (2, 8 // stride, 12 // stride, 3 * stride**2)
    assert torch.equal(depth_to_space(folded, stride), features)
    assert torch.equal(folded[0, 0, 0].view(stride, stride, 3), features[0, :stride, :stride])


def test_list_of_modules_is_a_module_list() -> None:
    layers = ListOf[torch.nn.Linear](torch.nn.Linear(n, 1) for n in (1, 2, 3))
    assert [layer.in_features for layer in layers] == [1, 2, 3]
    assert layers[1].in_features == 2
    assert isinstance(layers[1:], ListOf)
    assert "0.weight" in layers.state_dict()


@pytest.mark.parametrize("config", [CONFIG, PHOTO, GROUPED, WIDE])
def test_config_survives_json(config: AutoencoderConfig) -> None:
    assert AutoencoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_config_of_earlier_weights_is_read() -> None:
    names = ("levels", "lmbdas", "refine_stride", "refine_channels", "refine_blocks")
    present = json.loads(json.dumps(PHOTO.to_dict()))
    fields = {name: present[name] for name in (*names, "choice_weight")}
    for level in fields["levels"]:
        level["codebooks"] = [book[:2] for book in level["codebooks"]]
    assert AutoencoderConfig.from_dict(fields) == PHOTO


def test_between_knots_vectors_are_interpolated() -> None:
    torch.manual_seed(0)
    knots = Knots(4, 5)
    rows = knots.weight.detach()
    with torch.no_grad():
        assert torch.equal(knots(torch.arange(4)), rows)
        assert torch.equal(knots(torch.arange(4.0)), rows)
        found = knots(torch.tensor([0.25, 1.5, 2.875]))
    expected = [0.75 * rows[0] + 0.25 * rows[1], (rows[1] + rows[2]) / 2]
    expected.append(rows[2] / 8 + rows[3] * 7 / 8)
    torch.testing.assert_close(found, torch.stack(expected))
    weights = interpolation(torch.linspace(0, 3, 50), 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(50))
    assert (weights > 0).sum(1).max() == 2


@pytest.mark.parametrize("config", [GROUPED, WIDE])
def test_qualities_span_the_knots(config: AutoencoderConfig) -> None:
    assert config.qualities is not None
    positions = config.position(torch.arange(config.qualities))
    assert float(positions[0]) == 0
    assert float(positions[-1]) == pytest.approx(config.last_knot, abs=1e-5)
    steps = positions.diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-4, atol=0)


def test_without_qualities_of_their_own_knots_are_qualities() -> None:
    assert torch.equal(CONFIG.position(torch.arange(3)), torch.arange(3.0))


def test_lmbda_is_geometric_between_knots() -> None:
    autoencoder = tiny_autoencoder(GROUPED)
    low, middle, high = GROUPED.lmbdas
    positions = torch.tensor([0.0, 0.5, 1.0, 1.75, 2.0])
    found = autoencoder.lmbda(positions)
    expected = [low, (low * middle) ** 0.5, middle, middle**0.25 * high**0.75, high]
    torch.testing.assert_close(found, torch.tensor(expected))
    ratio = autoencoder.choice_lmbda(positions) / found
    torch.testing.assert_close(ratio, ratio[:1].expand(5))
    lmbdas = autoencoder.lmbda(autoencoder.position(torch.arange(10)))
    assert (lmbdas.diff() < 0).all()


@pytest.mark.parametrize("config", [GROUPED, WIDE])
def test_images_and_files_agree_on_what_a_quality_leaves_out(config: AutoencoderConfig) -> None:
    quantizer = Autoencoder(config).levels[-1].quantizer
    shares = config.position(torch.arange(config.num_qualities)) / config.last_knot
    counts = set()
    for g, book in enumerate(quantizer.configs):
        first = config.first_quality(book.share)
        expected = torch.arange(1, config.num_qualities + 1) >= first
        assert torch.equal(quantizer.used(g, shares), expected)
        assert expected[-1]
        counts.add(int(expected.sum()))
    assert len(counts) == len({book.share for book in quantizer.configs})


def test_low_qualities_leave_codebooks_out(crops: Tensor) -> None:
    autoencoder = tiny_autoencoder(GROUPED)
    quality = torch.arange(10)
    indices, _ = autoencoder.quantize(crops[:10], quality)
    used = [(each > 0).flatten(1).any(1) for each in indices[1].unbind(1)]
    first = [0, 0, 3, 3, 6, 6]
    assert [found.tolist() for found in used] == [(quality >= n).tolist() for n in first]
    restored = autoencoder.synthesize(indices, quality)
    for n in (0, 4, 9):  # images of several qualities don't change each other
        one = slice(n, n + 1)
        alone, _ = autoencoder.quantize(crops[one], quality[one])
        assert all(torch.equal(a, b[one]) for a, b in zip(alone, indices, strict=True))
        single = autoencoder.synthesize(alone, quality[one]).int()
        assert (single - restored[one]).abs().max() <= 1  # rounded to pixels


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 96), (64, 32)])
def test_shapes(autoencoder: Autoencoder, height: int, width: int) -> None:
    pixels = torch.randint(256, (2, height, width, 3), dtype=torch.uint8)
    quality = torch.tensor([0, 2])
    indices, bits = autoencoder.quantize(pixels, quality)
    for level, found in zip(CONFIG.levels, indices, strict=True):
        positions = (height // level.stride, width // level.stride)
        assert found.shape == (2, len(level.codebooks), *positions)
        assert found.dtype == torch.int64
        for g, (size, *_) in enumerate(level.codebooks):
            assert 0 <= found[:, g].min() <= found[:, g].max() < size
    assert bits.shape == (2, len(CONFIG.levels))
    assert (bits > 0).all()
    for count in (1, 2, 3):
        restored = autoencoder.synthesize(indices[:count], quality)
        assert restored.shape == pixels.shape
        assert restored.dtype == torch.uint8


def test_every_level_changes_the_image(autoencoder: Autoencoder, crops: Tensor) -> None:
    quality = torch.ones(len(crops), dtype=torch.int64)
    indices, _ = autoencoder.quantize(crops, quality)
    decodes = [autoencoder.synthesize(indices[: n + 1], quality) for n in LEVELS]
    assert not torch.equal(decodes[0], decodes[1])
    assert not torch.equal(decodes[1], decodes[2])


@pytest.mark.parametrize(("levels", "factor"), [(1, 2), (1, 32), (2, 4), (2, 16), (3, 2), (3, 8)])
def test_a_preview_has_the_means_of_squares(
    autoencoder: Autoencoder, crops: Tensor, levels: int, factor: int
) -> None:
    quality = torch.ones(len(crops), dtype=torch.int64)
    indices, _ = autoencoder.quantize(crops, quality)
    found = autoencoder.preview(indices[:levels], quality, factor)
    pixels = autoencoder.synthesize(indices[:levels], quality).float()
    squares = pixels.unflatten(1, (-1, factor)).unflatten(3, (-1, factor))
    inside = squares.amax((2, 4)).lt(255) & squares.amin((2, 4)).gt(0)  # no value was limited
    assert inside.float().mean() > 0.5
    assert found.dtype == torch.uint8
    assert (found - squares.mean((2, 4))).abs()[inside].max() < 1.1


def test_coarse_decode_ignores_finer_indices(autoencoder: Autoencoder, crops: Tensor) -> None:
    quality = torch.ones(len(crops), dtype=torch.int64)
    indices, _ = autoencoder.quantize(crops, quality)
    other = [indices[0], *(torch.zeros_like(level) for level in indices[1:])]
    first, second = (autoencoder.synthesize(each[:1], quality) for each in (indices, other))
    assert torch.equal(first, second)


def test_quality_enters_analysis_and_synthesis(autoencoder: Autoencoder, crops: Tensor) -> None:
    low, high = (torch.full((len(crops),), quality) for quality in (0, 2))
    indices, _ = autoencoder.quantize(crops, low)
    assert not torch.equal(indices[2], autoencoder.quantize(crops, high)[0][2])
    assert not torch.equal(
        autoencoder.synthesize(indices, low), autoencoder.synthesize(indices, high)
    )


def test_both_ways_are_deterministic(autoencoder: Autoencoder, crops: Tensor) -> None:
    quality = torch.ones(len(crops), dtype=torch.int64)
    first, second = (autoencoder.quantize(crops, quality)[0] for _ in range(2))
    assert all(map(torch.equal, first, second))
    assert torch.equal(
        autoencoder.synthesize(first, quality), autoencoder.synthesize(first, quality)
    )


@pytest.mark.parametrize("config", [CONFIG, GROUPED])
def test_training_pass_is_what_quantize_and_synthesize_do(
    config: AutoencoderConfig, crops: Tensor
) -> None:
    autoencoder = tiny_autoencoder(config)
    quality = torch.arange(len(crops)) % config.num_qualities
    with torch.no_grad():
        result = autoencoder(crops, autoencoder.position(quality))
    indices, bits = autoencoder.quantize(crops, quality)
    torch.testing.assert_close(torch.stack(result.bits, 1), bits)
    pixels = (result.predictions[-1] * 32 + 127.5).round().clamp(0, 255)
    # Straight-through latents are the code vectors up to float's rounding.
    difference = (pixels - autoencoder.synthesize(indices, quality).float()).abs()
    assert difference.max() <= 1
    assert result.commitment.shape == (len(crops),)


@pytest.mark.parametrize("architecture", [CONFIG, GROUPED])
def test_gradients_reach_every_parameter(architecture: AutoencoderConfig, crops: Tensor) -> None:
    config = AutoencoderTraining(output=Path(), sources=[], bfloat16=False)
    autoencoder = tiny_autoencoder(architecture)
    objective = RateDistortion(autoencoder.train(), config)
    loss, means = objective(crops, torch.arange(len(crops)) % 3)
    loss.backward()
    for name, parameter in autoencoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    by_level = [f"bpp_{n}" for n in range(len(architecture.levels))]
    assert {"mse", "coarse", "bpp", "commitment", *by_level} == set(means)
    assert float(means["bpp"].detach()) == pytest.approx(
        sum(float(means[name].detach()) for name in by_level), rel=1e-5
    )


def test_codebooks_move_in_training(autoencoder: Autoencoder, crops: Tensor) -> None:
    def books() -> Iterator[Tensor]:
        for level in autoencoder.levels:
            for book in level.quantizer.codebooks:
                yield book.vectors

    before = [vectors.clone() for vectors in books()]
    quality = torch.zeros(len(crops), dtype=torch.int64)
    autoencoder(crops, quality)
    assert all(map(torch.equal, books(), before))
    autoencoder.train()(crops, quality)
    assert not any(map(torch.equal, books(), before))


def test_one_level_and_no_refinement() -> None:
    config = AutoencoderConfig(
        (LevelConfig(4, books((8, 2)), 8, 0, 0, 4),), (100.0,), refine_channels=0
    )
    autoencoder = Autoencoder(config).eval()
    pixels = torch.randint(256, (1, 8, 12, 3), dtype=torch.uint8)
    indices, _ = autoencoder.quantize(pixels, torch.zeros(1, dtype=torch.int64))
    assert indices[0].shape == (1, 1, 2, 3)
    restored = autoencoder.synthesize(indices, torch.zeros(1, dtype=torch.int64))
    assert restored.shape == pixels.shape


@pytest.mark.parametrize("codebook", [(1, 4), (0, 4), (2**16 + 1, 4), (8, 0)])
def test_codebooks_that_cannot_be_coded_are_refused(codebook: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="codebooks need"):
        LevelConfig(8, books((16, 2), codebook), 16, 1, 1)


@pytest.mark.parametrize("shares", [(0.1, 0.5), (0.0, 0.5, 0.4), (0.2,)])
def test_codebooks_of_all_qualities_come_first(shares: tuple[float, ...]) -> None:
    codebooks = tuple(CodebookConfig(8, 2, None, share) for share in shares)
    with pytest.raises(ValueError, match="come first"):
        LevelConfig(8, codebooks, 16, 1, 1)
