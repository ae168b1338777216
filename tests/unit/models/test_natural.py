"""The natural synthesis beside that of its autoencoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import CONFIG, GROUPED, tiny_autoencoder
from torch import Tensor

from vqcodec.models.autoencoder import Autoencoder
from vqcodec.models.natural import Natural, NaturalConfig

SHAPE = NaturalConfig(blocks=1, fine_blocks=1, fine_channels=8)


@pytest.fixture
def autoencoder() -> Autoencoder:
    return tiny_autoencoder(GROUPED)


def coded(autoencoder: Autoencoder, quality: int) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(3)
    pixels = torch.randint(0, 256, (2, 32, 48, 3), dtype=torch.uint8)
    qualities = torch.full((2,), quality - 1)
    return autoencoder.quantize(pixels, qualities)[0], qualities


def shaken(autoencoder: Autoencoder) -> Natural:
    """With nothing left where it starts."""
    torch.manual_seed(4)
    natural = Natural(autoencoder, SHAPE).eval()
    with torch.no_grad():
        for parameter in (*natural.tuned.values(), *natural.texture.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return natural


@pytest.mark.parametrize("stride", [2, 4])
def test_of_one_quality_all_of_it_counts(stride: int) -> None:
    levels = CONFIG.levels[1:]
    config = replace(CONFIG, levels=levels, lmbdas=(200.0,), refine_stride=stride)
    autoencoder = tiny_autoencoder(config)
    indices, qualities = coded(autoencoder, 1)
    faithful = autoencoder.synthesize(indices, qualities)
    assert torch.equal(Natural(autoencoder, SHAPE).synthesize(indices, qualities), faithful)
    natural = shaken(autoencoder)
    assert natural.share(autoencoder.position(qualities)).tolist() == [1.0] * 2
    found = natural.synthesize(indices, qualities)
    assert found.shape == faithful.shape
    assert not torch.equal(found, faithful)


@pytest.mark.parametrize("quality", [1, 5, 10])
def test_it_starts_as_the_faithful_one(autoencoder: Autoencoder, quality: int) -> None:
    natural = Natural(autoencoder, SHAPE)
    indices, qualities = coded(autoencoder, quality)
    expected = autoencoder.synthesize(indices, qualities)
    assert torch.equal(natural.synthesize(indices, qualities), expected)


def test_it_fades_with_the_quality(autoencoder: Autoencoder) -> None:
    natural = shaken(autoencoder)
    shares, changes = [], []
    for quality in range(1, 11):
        indices, qualities = coded(autoencoder, quality)
        found = natural.synthesize(indices, qualities).int()
        changes.append((found - autoencoder.synthesize(indices, qualities).int()).abs().max())
        shares.append(float(natural.share(autoencoder.position(qualities))[0]))
    assert shares[:2] == [1.0] * 2
    assert shares == sorted(shares, reverse=True)
    assert shares[-3:] == [0.0] * 3
    assert changes[-3:] == [0] * 3
    assert min(changes[:-3]) > 0


def test_the_autoencoder_stays_as_it_is(autoencoder: Autoencoder) -> None:
    before = {name: each.clone() for name, each in autoencoder.state_dict().items()}
    shaken(autoencoder)
    assert all(torch.equal(each, before[name]) for name, each in autoencoder.state_dict().items())
    assert not any(name.startswith("_autoencoder") for name in shaken(autoencoder).state_dict())


def test_changed_weights_are_noticed(autoencoder: Autoencoder) -> None:
    natural = shaken(autoencoder)
    indices, qualities = coded(autoencoder, 1)
    before = natural.synthesize(indices, qualities)
    assert torch.equal(natural.synthesize(indices, qualities), before)
    with torch.no_grad():
        natural.tuned["level.synthesis_out.bias"].add_(0.5)
    assert not torch.equal(natural.synthesize(indices, qualities), before)


def test_what_is_tuned_gets_gradients(autoencoder: Autoencoder) -> None:
    natural = shaken(autoencoder)
    indices, qualities = coded(autoencoder, 3)
    position = autoencoder.position(qualities)
    vectors = [
        level.lookup(chosen.permute(0, 2, 3, 1), position)
        for level, chosen in zip(autoencoder.levels, indices, strict=True)
    ]
    before = autoencoder.decode(vectors[:-1], position)
    natural(vectors[-1], position, before).square().sum().backward()
    trained = {name for name, each in natural.named_parameters() if each.grad is not None}
    tuned = {f"trunk.{name}" for name in natural.tuned}
    assert trained == tuned | {f"texture.{name}" for name, _ in natural.texture.named_parameters()}


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIG, refine_channels=0),
        replace(CONFIG, refine_stride=8),
        replace(CONFIG, levels=CONFIG.levels[:1]),
    ],
)
def test_autoencoders_that_cannot_have_one(config: object) -> None:
    with pytest.raises(ValueError, match="stride 2 or 4"):
        Natural(Autoencoder(config), SHAPE)  # type: ignore[arg-type]
