"""Groups of codebooks: coded together, and left out by lower qualities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny import GROUPED, tiny_autoencoder, tiny_priors, write_tiny_model
from torch import Tensor

from vqcodec import codec
from vqcodec.entropy import payload
from vqcodec.entropy import prior as integer
from vqcodec.entropy.state import State
from vqcodec.entropy.wavefront import steps
from vqcodec.errors import CodecError, WeightsError
from vqcodec.image import Image
from vqcodec.models import prior as trained
from vqcodec.models.autoencoder import AutoencoderConfig, LevelConfig
from vqcodec.models.quantizer import CodebookConfig
from vqcodec.spec.prior import TOTAL, PriorConfig
from vqcodec.training import checkpoint
from vqcodec.training.export import integer_prior, shared_tables, write_weights
from vqcodec.training.presets import books
from vqcodec.training.prior import groups_of, start_from_checkpoint, start_from_shares
from vqcodec.weights_file import load

pytestmark = pytest.mark.usefixtures("each_way")

USED = {1: 2, 3: 2, 4: 4, 6: 4, 7: 6, 10: 6}  # quality -> codebooks of the finer level
SIZES = [16, 16, 16, 16, 8, 8]


@pytest.fixture(scope="module")
def priors() -> tuple[trained.Prior, integer.Prior]:
    """The finer level's prior, in float on the grids and in integers."""
    prior = tiny_priors(tiny_autoencoder(GROUPED))[1]
    trained.set_mode(prior, "quantized")
    return prior, integer.Prior(prior.config, integer_prior(prior), shared_tables())


def draw(quality: int, count: int = 2, side: int = 3) -> tuple[Tensor, Tensor]:
    """Indices of both levels, 0 where the quality has no codebook."""
    generator = torch.Generator().manual_seed(quality)
    coarser = torch.stack(
        [torch.randint(k, (count, side, side), generator=generator) for k in (8, 16)], 1
    )
    own = torch.stack(
        [torch.randint(k, (count, 2 * side, 2 * side), generator=generator) for k in SIZES], 1
    )
    own[:, USED[quality] :] = 0
    return coarser, own


def parallel(prior: integer.Prior, quality: int, coarser: Tensor, own: Tensor) -> Tensor:
    of_each = torch.full((len(own),), quality - 1)
    state = prior.start([coarser], of_each, torch.zeros_like(of_each), *own.shape[2:])
    return state.parallel(own)


def test_groups_come_from_the_codebooks() -> None:
    assert groups_of(GROUPED, 0) == ()
    assert groups_of(GROUPED, 1) == ((1, 1), (1, 1), (2, 4), (2, 7))


@pytest.mark.parametrize("quality", USED)
def test_frequencies_of_the_codebooks_that_a_quality_has(
    priors: tuple[trained.Prior, integer.Prior], quality: int
) -> None:
    found = parallel(priors[1], quality, *draw(quality))
    for g, size in enumerate(SIZES):
        used = g < USED[quality]
        assert (found[:, g].sum(-1) == TOTAL * used).all()
        assert (found[:, g, :, :size] >= used).all()


@pytest.mark.parametrize("quality", USED)
def test_the_wavefront_asks_for_the_same_frequencies(
    priors: tuple[trained.Prior, integer.Prior], quality: int
) -> None:
    prior = priors[1]
    coarser, own = draw(quality)
    expected = parallel(prior, quality, coarser, own)
    of_each = torch.full((len(own),), quality - 1)
    state = prior.start([coarser], of_each, torch.zeros_like(of_each), *own.shape[2:])
    asked = []

    def tell(state: State, number: int, group: int) -> npt.NDArray[np.int32]:
        step, books = state.steps[number], state.groups[group].books
        logits = state.logits(number, group)
        asked.append(books.start)
        wanted = expected[:, books, step, : logits.shape[2]].flatten(1, 2)
        assert torch.equal(prior.frequencies(logits).int(), wanted)
        return own.flatten(2)[:, books, step].flatten(1, 2).int().numpy()

    assert torch.equal(payload.find(state, tell), own)
    groups = {2: [0, 1], 4: [0, 1, 2], 6: [0, 1, 2, 4]}[USED[quality]]
    assert asked == groups * len(steps(*own.shape[2:]))


def test_a_codebook_sees_those_of_earlier_groups_alone(
    priors: tuple[trained.Prior, integer.Prior],
) -> None:
    coarser, own = draw(10, count=1)
    usual = parallel(priors[1], 10, coarser, own)
    last = own.shape[2] * own.shape[3] - 1  # its index changes no other position's frequencies
    for g, size in enumerate(SIZES):
        other = own.clone()
        other[0, g, -1, -1] = (other[0, g, -1, -1] + 1) % size
        changed = (parallel(priors[1], 10, coarser, other) != usual).any(-1)[0]
        assert not changed[:, :last].any()
        first_later = {0: 1, 1: 2, 2: 4, 3: 4, 4: 6, 5: 6}[g]
        assert changed[:, last].tolist() == [book >= first_later for book in range(6)]


@pytest.mark.parametrize("quality", USED)
def test_float_and_integer_priors_agree(
    priors: tuple[trained.Prior, integer.Prior], quality: int
) -> None:
    coarser, own = draw(quality)
    with torch.no_grad():
        bits = priors[0].bits(own, [coarser], torch.full((len(own),), quality - 1))
    found = parallel(priors[1], quality, coarser, own)[:, : USED[quality]].double()
    chosen = found.gather(-1, own[:, : USED[quality]].flatten(2)[..., None]).squeeze(-1)
    expected = (24 - chosen.log2()).sum(-1)
    assert torch.allclose(bits[:, : USED[quality]].double(), expected, rtol=0.03)
    assert (bits[:, USED[quality] :] == 0).all()


def test_float_prior_takes_any_mix_of_qualities(
    priors: tuple[trained.Prior, integer.Prior],
) -> None:
    parts = [draw(quality, count=1) for quality in USED]
    coarser, own = (torch.cat(each) for each in zip(*parts, strict=True))
    quality = torch.tensor(list(USED)) - 1
    with torch.no_grad():
        together = priors[0].bits(own, [coarser], quality)
        alone = [
            priors[0].bits(own[n : n + 1], [coarser[n : n + 1]], quality[n : n + 1])
            for n in range(len(own))
        ]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-4)


def test_integer_prior_refuses_maps_of_different_groups(
    priors: tuple[trained.Prior, integer.Prior],
) -> None:
    coarser, own = draw(10)
    with pytest.raises(ValueError, match="same codebooks"):
        priors[1].start([coarser], torch.tensor([0, 9]), torch.tensor([0, 0]), *own.shape[2:])


@pytest.mark.parametrize(
    "groups",
    [
        ((1, 1), (1, 1)),
        ((1, 2), (5, 3)),
        ((3, 1), (1, 5), (2, 4)),
        ((3, 1), (2, 5), (1, 7)),  # sizes 16 and 8 in one group
    ],
)
def test_config_refuses_groups_that_do_not_fit(groups: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="don't fit"):
        PriorConfig(codebooks=tuple((k, 2) for k in SIZES), groups=groups, qualities=10)


def test_interpolated_qualities() -> None:
    config = PriorConfig(codebooks=((4, 2),), qualities=9, quality_knots=3)
    prior = trained.Prior(config, [[torch.randn(4, 2)]])
    table, knots = prior.context.quality_table(), prior.context.quality
    assert table.shape == (9, config.channels)
    assert torch.allclose(table[[0, 4, 8]], knots)
    assert torch.allclose(table[5], 0.75 * knots[1] + 0.25 * knots[2])
    assert PriorConfig.from_dict(config.to_dict()) == config


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grouped") / "grouped.safetensors"
    write_tiny_model(path, GROUPED)
    return path


@pytest.mark.parametrize("quality", USED)
def test_files_of_every_group(model: Path, quality: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    image = Image(pixels, grey=False)
    compressed = codec.compress(image, model=model, quality=quality, tile=32)
    assert compressed.header.quality == quality
    restored = codec.decompress(compressed.data, model=model)
    assert restored.pixels.shape == pixels.shape
    ideal = sum(compressed.ideal_bits)
    sections = codec.inspect(compressed.data).sections
    payload = 8 * sum(len(part) for level in sections for part in level)
    assert ideal <= payload <= ideal + 64 * sum(len(level) for level in sections)
    assert load(model).qualities == 10


def test_a_model_whose_parts_disagree_about_groups_is_refused(tmp_path: Path) -> None:
    autoencoder = tiny_autoencoder(GROUPED)
    priors = tiny_priors(autoencoder)
    config = replace(priors[1].config, groups=((1, 1), (1, 1), (2, 5), (2, 7)))
    other = trained.Prior(config, autoencoder.code_vectors())
    other.load_state_dict(priors[1].state_dict())
    path = tmp_path / "other.safetensors"
    write_weights(path, "other", autoencoder, [priors[0], other])
    with pytest.raises(WeightsError, match="other groups"):
        load(path)


def test_every_last_quality_has_all_codebooks() -> None:
    for knots, qualities in [(2, 42), (9, 100), (17, 255)]:
        lmbdas = tuple(1000.0 / 2**n for n in range(knots))
        last = CodebookConfig(16, 2, 0, 1.0)
        config = AutoencoderConfig(
            (LevelConfig(8, (*books((16, 2)), last), 8, 1, 1, 8),), lmbdas, qualities=qualities
        )
        assert config.groups_of(0) == ((1, 1), (1, qualities))


def test_heads_start_from_the_images_that_have_the_codebook() -> None:
    prior = tiny_priors(tiny_autoencoder(GROUPED))[1]
    own = torch.cat([draw(quality, count=1)[1] for quality in (1, 4, 10)])
    own[2, 5] = 3
    start_from_shares(prior, own, torch.tensor([0, 3, 9]))
    shares = prior.heads[5].bias.detach().exp()
    assert shares.argmax() == 3
    assert shares[0] == pytest.approx(float(shares[1]))


def test_a_prior_starts_from_one_of_the_same_shape_alone(tmp_path: Path) -> None:
    autoencoder = tiny_autoencoder(GROUPED)
    vectors = autoencoder.code_vectors()
    first = tiny_priors(autoencoder)[1]
    averages = {f"average.{name}": each for name, each in first.state_dict().items()}
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, averages, {"config": first.config.to_dict()})
    second = trained.Prior(replace(first.config, dropout=0.1), vectors)
    start_from_checkpoint(second, path)
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(second.parameters(), first.parameters(), strict=True)
    )
    wider = trained.Prior(replace(first.config, head_channels=24), vectors)
    with pytest.raises(CodecError, match="another shape"):
        start_from_checkpoint(wider, path)
