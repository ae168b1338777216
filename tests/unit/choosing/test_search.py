from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny import GROUPED, tiny_autoencoder, tiny_priors
from torch import Tensor

from vqcodec import tiles
from vqcodec.choosing import choice, search
from vqcodec.choosing.choice import COARSER_WEIGHT, choose
from vqcodec.choosing.distortion import Distortion
from vqcodec.choosing.effort import SWEEPS
from vqcodec.container import Header
from vqcodec.entropy.compiled import CompiledState
from vqcodec.image import load
from vqcodec.models.autoencoder import PIXEL_SCALE, Autoencoder
from vqcodec.models.vqvae import VQVAE, VQVAEConfig, VQVAELevel
from vqcodec.tiles import Tiles
from vqcodec.training.export import write_weights
from vqcodec.weights_file import load as load_model


@pytest.fixture(scope="module")
def pixels(astronaut: Path) -> npt.NDArray[np.uint8]:
    """uint8 [90, 120, 3], which are padded to [96, 128]."""
    return load(astronaut).pixels[:90, :120]


@pytest.fixture(scope="module")
def grouped_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny model whose low qualities leave codebooks out."""
    autoencoder = tiny_autoencoder(GROUPED)
    path = tmp_path_factory.mktemp("weights") / "grouped.safetensors"
    write_weights(path, "grouped-test", autoencoder, tiny_priors(autoencoder))
    return path


def tiles_of(weights: Path, height: int, width: int, quality: int = 2, tile: int = 64) -> Tiles:
    model = load_model(weights)
    levels = len(model.strides)
    header = Header(width, height, False, model.model_id, bytes(8), tile, quality, levels)
    return Tiles(model, header, 4)


def cost(of: Tiles, indices: list[Tensor], pixels: npt.NDArray[np.uint8]) -> float:
    """Squared error of the image and lmbda times what the files' payloads take."""
    bits = sum(of.encode(indices[: level + 1])[1] for level in range(len(indices)))
    autoencoder = of.model.autoencoder
    assert isinstance(autoencoder, Autoencoder)
    lmbda = float(autoencoder.lmbda(autoencoder.position(torch.tensor([of.header.quality - 1]))))
    error = np.square(of.synthesize(indices).astype(float) - pixels).sum()
    return float(error) / PIXEL_SCALE**2 + 3 * lmbda / PIXEL_SCALE**2 * bits


@pytest.mark.parametrize("quality", [1, 3])
def test_more_effort_costs_less(
    tiny_model: Path, pixels: npt.NDArray[np.uint8], quality: int
) -> None:
    of = tiles_of(tiny_model, 90, 120, quality, tile=1024)
    costs = [cost(of, choose(of, pixels, effort, 1.0), pixels) for effort in (1, 4, 7)]
    assert costs[2] < costs[1] < 0.995 * costs[0]


def test_effort_1_is_the_analysis_alone(tiny_model: Path, pixels: npt.NDArray[np.uint8]) -> None:
    of = tiles_of(tiny_model, 96, 120, tile=1024)
    whole = np.pad(pixels, ((0, 6), (0, 8), (0, 0)), mode="edge")
    autoencoder = of.model.autoencoder
    chosen, _ = autoencoder.quantize(
        torch.from_numpy(whole)[None], torch.tensor([1]), coarser_weight=COARSER_WEIGHT
    )
    for first, second in zip(choose(of, pixels, 1, 1.0), chosen, strict=True):
        assert torch.equal(first, second[0])


def test_coarser_levels_stay_and_finest_changes(
    tiny_model: Path, pixels: npt.NDArray[np.uint8]
) -> None:
    of = tiles_of(tiny_model, 90, 120)
    first, second = choose(of, pixels, 1, 1.0), choose(of, pixels, 5, 1.0)
    assert all(map(torch.equal, first[:-1], second[:-1]))
    assert not torch.equal(first[-1], second[-1])
    assert all(map(torch.equal, choose(of, pixels, 5, 1.0), second))


def test_windows_see_each_other(
    tiny_model: Path, pixels: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = tiles_of(tiny_model, 90, 120, tile=1024)
    start = cost(of, choose(of, pixels, 1, 1.0), pixels)
    whole = cost(of, choose(of, pixels, 5, 1.0), pixels)
    monkeypatch.setattr(choice, "BATCH_TILE", 32)
    monkeypatch.setattr(tiles, "HALO", 32)
    of = tiles_of(tiny_model, 90, 120, tile=1024)
    in_windows = cost(of, choose(of, pixels, 5, 1.0), pixels)
    assert in_windows < start - 0.7 * (start - whole)


@pytest.mark.parametrize(("quality", "used"), [(1, 2), (5, 4), (10, 6)])
def test_codebooks_left_out_stay_so(
    grouped_model: Path, pixels: npt.NDArray[np.uint8], quality: int, used: int
) -> None:
    of = tiles_of(grouped_model, 90, 120, quality, tile=1024)
    indices = choose(of, pixels, 7, 1.0)
    assert (indices[1][used:] == 0).all()
    assert (indices[1][:used] > 0).flatten(1).any(1).all()
    assert cost(of, indices, pixels) < cost(of, choose(of, pixels, 1, 1.0), pixels)


def searched(
    weights: Path,
    pixels: npt.NDArray[np.uint8],
    *,
    real: int = 96,
    free: Tensor | None = None,
    rate_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Indices of the finest level before and after a search over [96, 96] pixels."""
    of = tiles_of(weights, 96, 96, tile=1024)
    indices = [level[None].long() for level in choose(of, pixels, 1, 1.0)]
    autoencoder = of.model.autoencoder
    assert isinstance(autoencoder, Autoencoder)
    coarser = [level[0] for level in indices[:-1]]
    found = search.search(
        autoencoder,
        indices,
        torch.tensor([1]),
        lambda own: of.start(coarser, of.windows).code_lengths(own),
        Distortion(torch.from_numpy(pixels)[None], (real, real)),
        free=torch.ones(12, 12, dtype=torch.bool) if free is None else free,
        sweeps=4,
        rate_weight=rate_weight,
    )
    return indices[-1], found


@pytest.fixture(scope="module")
def square(astronaut: Path) -> npt.NDArray[np.uint8]:
    return load(astronaut).pixels[:, :96].copy()


def test_only_free_positions_change(tiny_model: Path, square: npt.NDArray[np.uint8]) -> None:
    free = torch.zeros(12, 12, dtype=torch.bool)
    free[3:9, 2:7] = True
    before, after = searched(tiny_model, square, free=free)
    changed = (before != after).any(1)[0]
    assert changed.any()
    assert not (changed & ~free).any()


def test_what_padding_looks_like_is_nothing_to_pay_for(
    tiny_model: Path, square: npt.NDArray[np.uint8]
) -> None:
    """At zero weight of bits every change repairs an error, and padding has none."""
    before, after = searched(tiny_model, square, real=0, rate_weight=1e-9)
    assert torch.equal(before, after)
    before, after = searched(tiny_model, square, rate_weight=1e-9)
    assert not torch.equal(before, after)


def test_rate_weight_trades_bits_for_error(tiny_model: Path, pixels: npt.NDArray[np.uint8]) -> None:
    of = tiles_of(tiny_model, 90, 120, tile=1024)
    sizes, expected = [], []
    crop = torch.from_numpy(pixels[:64, :64].copy())[None]
    for weight in (0.3, 1.0, 3.0):
        indices = choose(of, pixels, 5, weight)
        sizes.append(sum(of.encode(indices[: n + 1])[1] for n in range(len(indices))))
        autoencoder = of.model.autoencoder
        assert isinstance(autoencoder, Autoencoder)
        _, bits = autoencoder.quantize(crop, torch.tensor([1]), rate_weight=weight)
        expected.append(float(bits.sum()))
    assert sizes[0] > sizes[1] > sizes[2]
    assert expected[0] > expected[1] > expected[2]


def test_curvature_is_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    moved = torch.rand(1, 9, 9, generator=generator) + 0.5
    true = torch.linspace(0.3, 0.9, 9).expand(1, 9, 9)
    curvature = torch.full_like(moved, search.CURVATURE)
    for _ in range(60):
        curvature = search.measured_curvature(curvature, true * moved, moved)
    torch.testing.assert_close(curvature, true, rtol=1e-3, atol=1e-3)
    still = torch.zeros_like(moved)
    torch.testing.assert_close(search.measured_curvature(curvature, still, still), curvature)
    wild = search.measured_curvature(curvature, -1e6 * moved, moved)
    assert (wild == search.CURVATURE_LIMITS[0]).all()


def test_the_curvature_of_each_latent_is_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    step = torch.randn(1, 40, 40, 6, generator=generator)
    true = torch.tensor([0.5, 0.5, 1.0, 1.0, 1.5, 1.5])
    found = search.measured_ratio(step, 0.7 * true * step)
    torch.testing.assert_close(found, true, atol=0.1, rtol=0)
    still = torch.zeros_like(step)
    torch.testing.assert_close(search.measured_ratio(still, still), torch.ones(6))
    wild = search.measured_ratio(step, torch.tensor([1e6, 1, 1, 1, 1, 1]) * step)
    assert wild[0] == search.RATIO_LIMITS[1]
    assert (wild[1:] == search.RATIO_LIMITS[0]).all()


def test_later_sweeps_share_passes_of_the_prior(
    tiny_model: Path, square: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[None] = []
    lengths = CompiledState.code_lengths

    def counted(self: CompiledState, *of: Any) -> Tensor:
        passes.append(None)
        return lengths(self, *of)

    monkeypatch.setattr(CompiledState, "code_lengths", counted)
    searched(tiny_model, square)  # four sweeps
    assert len(passes) == search.ALL_ASK


def test_levels_decode_after_others_as_all_at_once(tiny_model: Path) -> None:
    autoencoder = load_model(tiny_model).autoencoder
    assert isinstance(autoencoder, Autoencoder)
    position = torch.tensor([1.0])
    sizes = [level.quantizer.latent_size for level in autoencoder.levels]
    sides = [64 // stride for stride in autoencoder.config.strides]
    vectors = [torch.randn(1, n, n, size) for n, size in zip(sides, sizes, strict=True)]
    with torch.no_grad():
        first = autoencoder.decode(vectors[:-1], position)
        found = autoencoder.decode(vectors[-1:], position, first)
        whole = autoencoder.decode(vectors, position)
    assert torch.equal(found.pixels, whole.pixels)
    assert not torch.equal(first.pixels, whole.pixels)
    assert found.levels == whole.levels == len(vectors)


def test_sweeps_grow_with_effort() -> None:
    assert len(SWEEPS) == 9
    assert SWEEPS[0] == 0
    assert list(SWEEPS) == sorted(set(SWEEPS))


def test_a_model_without_a_rate_model_takes_effort_1(
    tmp_path: Path, pixels: npt.NDArray[np.uint8]
) -> None:
    torch.manual_seed(0)
    config = VQVAEConfig(
        tuple(VQVAELevel(stride, 8, 4) for stride in (32, 16, 8)),
        channels=8,
        residual_blocks=1,
        residual_channels=8,
    )
    autoencoder = VQVAE(config).eval()
    weights = tmp_path / "plain.safetensors"
    write_weights(weights, "plain-test", autoencoder, tiny_priors(autoencoder))
    of = tiles_of(weights, 90, 120, quality=1)
    first, second = choose(of, pixels, 1, 1.0), choose(of, pixels, 9, 2.0)
    assert all(map(torch.equal, first, second))
