"""Where bits and time go, with the tiny model."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_priors

from vqcodec import image
from vqcodec.bench import profile
from vqcodec.bench.images import Pixels
from vqcodec.choosing.choice import COARSER_WEIGHT
from vqcodec.codec import compress
from vqcodec.entropy import payload
from vqcodec.entropy.coder import Decoder
from vqcodec.entropy.compiled import CompiledState
from vqcodec.image import Image
from vqcodec.models.vqvae import VQVAE, VQVAEConfig, VQVAELevel
from vqcodec.training.export import write_weights
from vqcodec.weights_file import load


def silent(stage: str, done: int, total: int) -> None:
    """Reports nothing."""


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> str:
    return str(tiny_model)


@pytest.fixture(scope="module")
def pictures(astronaut: Path) -> list[Pixels]:
    """One that is padded, and one that is not."""
    pixels = image.load(astronaut).pixels
    return [pixels[:70, :90], pixels]


def row_of(rows: list[dict[str, Any]], **wanted: object) -> dict[str, Any]:
    (row,) = (row for row in rows if wanted.items() <= row.items())
    return row


@pytest.fixture(scope="module")
def rows(model: str, pictures: list[Pixels]) -> list[dict[str, Any]]:
    """Bits at two qualities."""
    return profile.bits(model, pictures, [1, 3], silent)


class TestBits:
    def test_rows_are_all_levels_and_codebooks(self, rows: list[dict[str, Any]]) -> None:
        names = [(row["level"], row["codebook"]) for row in rows if row["quality"] == 3]
        levels = [(n, g) for n, books in enumerate((2, 3, 2)) for g in [*range(books), "all"]]
        assert names == [*levels, ("all", "all")]

    def test_full_bits_are_those_that_files_promise(
        self, rows: list[dict[str, Any]], model: str, pictures: list[Pixels]
    ) -> None:
        files = [
            compress(Image(each, grey=False), quality=3, effort=1, model=model) for each in pictures
        ]
        for level in range(3):
            promised = sum(file.ideal_bits[level] for file in files)
            found = row_of(rows, quality=3, level=level, codebook="all")
            assert found["full"] == pytest.approx(promised, rel=1e-12)

    def test_hierarchical_bits_are_those_of_the_rate_model(
        self, rows: list[dict[str, Any]], model: str, pictures: list[Pixels]
    ) -> None:
        autoencoder = load(model).autoencoder
        rates = torch.zeros(3)
        for each in pictures:
            padded = torch.from_numpy(np.array(profile.pad(each, 32)))[None]
            rates += autoencoder.quantize(padded, torch.tensor([0]), coarser_weight=COARSER_WEIGHT)[
                1
            ][0]
        for level in range(3):
            found = row_of(rows, quality=1, level=level, codebook="all")
            assert found["hierarchical"] == pytest.approx(float(rates[level]), rel=1e-5)

    def test_uniform_and_marginal_bits_of_indices(
        self, rows: list[dict[str, Any]], model: str, pictures: list[Pixels]
    ) -> None:
        counts: Counter[int] = Counter()
        for each in pictures:
            data = compress(Image(each, grey=False), quality=3, model=model).data
            indices = profile.indices_of(*profile.opened(data, model))
            counts.update(indices[0][1].flatten().tolist())
        found = row_of(rows, quality=3, level=0, codebook=1)
        total = sum(counts.values())
        assert found["symbols"] == total == 9 + 12
        assert found["uniform"] == 4 * total
        ideal = -sum(count * math.log2(count / total) for count in counts.values())
        assert found["marginal"] == pytest.approx(ideal)

    def test_sums(self, rows: list[dict[str, Any]]) -> None:
        for quality in (1, 3):
            whole = row_of(rows, quality=quality, level="all")
            parts = [r for r in rows if r["quality"] == quality and r["codebook"] != "all"]
            for name in ("symbols", "uniform", "marginal", "hierarchical", "full"):
                assert whole[name] == pytest.approx(sum(part[name] for part in parts))

    def test_a_picture_of_several_tiles(
        self, model: str, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(profile, "DEFAULT_TILE", 64)
        reports: list[tuple[str, int, int]] = []
        rows = profile.bits(model, pictures[1:], [2], lambda *report: reports.append(report))
        assert row_of(rows, level=2, codebook=0)["symbols"] == 12 * 16
        assert reports == [("bits", 1, 1)]

    def test_a_family_without_rate_model(self, tmp_path: Path, pictures: list[Pixels]) -> None:
        torch.manual_seed(0)
        levels = (VQVAELevel(8, 16, 4), VQVAELevel(4, 8, 3))
        config = VQVAEConfig(levels, channels=16, residual_channels=8, residual_blocks=1)
        autoencoder = VQVAE(config).eval()
        path = tmp_path / "vqvae.safetensors"
        write_weights(path, "vqvae-test", autoencoder, tiny_priors(autoencoder))
        rows = profile.bits(str(path), pictures, [1], silent)
        assert {row["hierarchical"] for row in rows} == {None}
        assert row_of(rows, level="all")["full"] > 0


class TestStages:
    def test_stages_of_both_ways(self, model: str, pictures: list[Pixels]) -> None:
        reports: list[tuple[str, int, int]] = []
        rows = profile.stages(model, pictures, None, 2, lambda *report: reports.append(report))
        assert reports == [("stages", 1, 2), ("stages", 2, 2)]
        levels = [f"level {n}, {part}" for n in range(3) for part in ("frequencies", "coding")]
        both = ["weights", "tiling", "checksum of indices", *levels, "rest", "all"]
        known = {
            "compress": {*both, "analysis", "search", "pack"},
            "decompress": {*both, "unpack", "synthesis"},
        }
        for verb, names in known.items():
            found = {row["stage"]: row["milliseconds"] for row in rows if row["verb"] == verb}
            assert set(found) == names
            assert list(found)[-2:] == ["rest", "all"]
            assert min(found.values()) >= 0
            assert found["all"] == pytest.approx(sum(found.values()) - found["all"])

    def test_the_run_of_the_median_time(self) -> None:
        runs = [{"a": 3.0 * n, "all": 10.0 * n} for n in (5, 1, 2)]
        assert profile.median_run(runs) == {"a": 6.0, "all": 20.0}


class TestRaster:
    def test_finds_the_same_indices_in_more_steps(
        self, model: str, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken: list[int] = []
        decode = Decoder.decode

        def counted(self: Decoder, frequencies: Any) -> Any:
            taken.append(len(frequencies))
            return decode(self, frequencies)

        monkeypatch.setattr(Decoder, "decode", counted)
        rows = profile.raster(model, pictures[1], 2, 2, silent)
        assert [row["level"] for row in rows] == [0, 1, 2]
        assert [row["positions"] for row in rows] == [12, 48, 192]
        assert [row["codebooks"] for row in rows] == [2, 3, 2]
        waves = [row["wavefront_steps"] for row in rows]
        assert waves == [4 + 2 * 2, 8 + 2 * 5, 16 + 2 * 11]
        # Each level is decoded to know it and to warm up, timed twice, and then in raster order.
        calls = [g * (4 * w + p) for g, w, p in zip((2, 3, 2), waves, (12, 48, 192), strict=True)]
        assert len(taken) == sum(calls)
        for row in rows:
            assert row["identical"]
            assert row["full_passes_timed"] == 2
            seconds = row["positions"] * row["full_pass_seconds"]
            assert row["extrapolated_seconds"] == pytest.approx(seconds)
            assert row["raster_seconds"] > 0
            assert row["wavefront_seconds"] > 0

    def test_notices_other_indices(
        self, model: str, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decode = payload.decode
        calls = itertools.count()

        def drifting(*given: Any) -> torch.Tensor:
            return decode(*given) ^ int(next(calls) >= 3)  # not yet where the indices are read

        monkeypatch.setattr(payload, "decode", drifting)
        rows = profile.raster(model, pictures[0], None, 1, silent)
        assert not any(row["identical"] for row in rows)

    def test_notices_other_frequencies(
        self, model: str, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parallel = CompiledState.parallel
        found: list[int] = []

        def drifting(self: CompiledState, indices: torch.Tensor) -> torch.Tensor:
            found.append(1)
            return parallel(self, indices) + len(found)

        data = compress(Image(pictures[0], grey=False), model=model).data
        stages, contents = profile.opened(data, model)
        indices = profile.indices_of(stages, contents)
        assert profile.full_passes(stages, indices[:1], 2)[0]
        monkeypatch.setattr(CompiledState, "parallel", drifting)
        assert not profile.full_passes(stages, indices[:1], 2)[0]


def test_a_profile_is_all_of_it(
    model: str, astronaut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def scaling(*arguments: Any, **options: Any) -> dict[str, Any]:
        given.update(options, picture=arguments[1])
        return {"rows": [], "fit": {}}

    monkeypatch.setattr(profile, "scaling", scaling)
    stages: list[str] = []
    found = profile.profile(
        model, [astronaut], lambda stage, *_: stages.append(stage), quality=1, runs=1
    )
    assert list(found) == ["bits", "stages", "raster", "scaling"]
    assert {row["quality"] for row in found["bits"]} == {1, 2, 3}
    assert list(dict.fromkeys(stages)) == ["bits", "stages", "raster order"]
    assert given == {"picture": astronaut, "quality": 1, "megapixels": profile.MEGAPIXELS}
