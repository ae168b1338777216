"""The benchmark scripts: their pure functions, and quick runs with the tiny model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import bd_rate
import click
import effort
import exactness
import generation
import integer_cost
import memory
import numpy as np
import PIL.Image
import pytest
import rate_model
import same_samples
import synthesis
import torch
from click.testing import CliRunner
from random_dists import write_random_dists
from tiny import GROUPED, tiny_autoencoder, tiny_priors, write_tiny_model
from tiny_classes import write_tiny_class_model

from vqcodec.bench.images import middle
from vqcodec.bench.results import read
from vqcodec.codec import compress
from vqcodec.image import load
from vqcodec.metrics.classifier_training import SmallResNet
from vqcodec.tiling import split
from vqcodec.training import checkpoint
from vqcodec.weights_file import load as load_model

Run = Callable[..., str]


@pytest.fixture
def run(tiny_model: Path) -> Run:
    """Run a script with the tiny model and give what it printed."""

    def invoke(command: click.Command, *arguments: object, model: Path = tiny_model) -> str:
        asked = [*map(str, arguments), "--model", str(model)]
        result = CliRunner().invoke(command, asked)
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


@pytest.fixture
def one_image(tmp_path: Path, astronaut: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "astronaut.png").write_bytes(astronaut.read_bytes())
    return folder


def test_effort(run: Run, one_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "MAX_EFFORT", 2)
    printed = run(effort.main, one_image)
    assert "1 images, qualities [1, 2, 3]" in printed
    assert "BD-rate against effort 1" in printed
    assert "weights tiny-test, SHA-256" in printed


def test_memory(run: Run, astronaut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is told by Linux only")
    monkeypatch.setenv("VQCODEC_KERNELS", "torch")
    printed = run(memory.main, astronaut, "--megapixels", 0.01)
    (row,) = (line.strip("│").split("│") for line in printed.splitlines() if line[:1] == "│")
    size, there, _, back, _ = map(float, row)
    assert size == 0.01
    assert 100 < there < 5000
    assert 100 < back < 5000
    assert "weights tiny-test, SHA-256" in printed


def test_synthesis(run: Run, one_image: Path, tmp_path: Path, tiny_synthesis: Path) -> None:
    measures = ["--synthesis", tiny_synthesis, "--dists", write_random_dists(tmp_path)]
    printed = run(synthesis.main, one_image, "--quality", 2, "--effort", 1, *measures)
    header, faithful, other = (
        [cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")]
        for line in printed.splitlines()
        if line[:1] in "┃│"
    )
    assert header[-2:] == ["DISTS", "decompress, s"]
    assert faithful[:3] == ["2", other[1], "faithful"]
    assert 0 < float(faithful[-2]) < 1


def test_bd_rate_of_stored_results() -> None:
    path = Path(bd_rate.__file__).parent / "results" / "hvq-photo-2" / "results.json"
    result = CliRunner().invoke(bd_rate.main, [str(path), "--below", "0.3"])
    assert result.exit_code == 0, result.output
    avif = next(line for line in result.output.splitlines() if line.startswith("| AVIF |"))
    results = read(path)
    lowest = min(point["bpp"] for point in results["points"] if point["codec"] == "vqcodec")
    assert f"{lowest:.3f} to 0.300" in avif
    assert f"Measured on {results['made']['date']}" in result.output


def test_integer_cost(tiny_model: Path, astronaut: Path) -> None:
    picture = load(astronaut)
    model = load_model(tiny_model)
    bits = integer_cost.bits_of(model, tiny_priors(tiny_autoencoder()), picture.pixels, 2)
    coded = compress(picture, quality=2, effort=1, model=tiny_model).ideal_bits
    assert bits[0].tolist() == pytest.approx(coded)
    assert bits[2].sum() == pytest.approx(sum(coded), rel=0.02)
    rows = integer_cost.summary(2, bits)
    assert [row[1] for row in rows] == [0, 1, 2, "all"]
    assert rows[-1][2] == f"{sum(coded):.0f}"
    assert rows[-1][5] == f"{100 * (bits[0].sum() / bits[1].sum() - 1):+.3f}"


class TestExactness:
    @pytest.mark.parametrize("batch", [1, 16])
    def test_finds_no_difference(self, batch: int, astronaut: Path, tiny_model: Path) -> None:
        model = str(tiny_model)
        files = [exactness.compressed(model, astronaut, 32, None)]
        first = exactness.find(model, files, exactness.Setting("here"), 1)
        found = exactness.find(model, files, exactness.Setting("here", batch=batch), 1)
        assert found.differences(first) == (0, 0, 0)
        assert sum(each.indices for each in found.parts.values()) == 12 * 2 + 48 * 3 + 192 * 2
        assert len(found.parts) == 3 * 12

    def test_counts_differences(self) -> None:
        tiles = split(1, 2, 1)
        alike = exactness.Part(1, 1, "a", "a", "b")
        one = exactness.Found("", "", parts={(0, 0, tile): alike for tile in tiles})

        def changed(count: int, **hashes: str) -> exactness.Found:
            parts = {(0, 0, tile): alike._replace(**hashes) for tile in tiles[:count]}
            return replace(one, parts=one.parts | parts)

        assert one.differences(one) == (0, 0, 0)
        assert changed(1, wavefront="x").differences(one) == (0, 1, 0)
        assert one.differences(changed(2, one_pass="x")) == (2, 2, 0)
        assert one.differences(changed(1, decoded="x")) == (0, 0, 1)

    def test_codebooks_in_groups(self, tmp_path: Path, astronaut: Path) -> None:
        model = tmp_path / "grouped.safetensors"
        write_tiny_model(model, GROUPED)
        files = [exactness.compressed(str(model), astronaut, 64, n) for n in (1, 5, 10)]
        found = exactness.find(str(model), files, exactness.Setting("here"), 1)
        assert found.differences(found) == (0, 0, 0)
        assert sum(each.frequencies for each in found.parts.values()) > 0

    def test_it_runs(self, run: Run, one_image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exactness, "THREADS", (1,))
        monkeypatch.setattr(exactness, "TILES", (64,))
        printed = run(exactness.main, one_image, "--only", "VQCODEC_GEMM=float64")
        assert "float64" in printed
        assert "yes" in printed


def test_an_unknown_model_is_one_line(one_image: Path) -> None:
    result = CliRunner().invoke(effort.main, [str(one_image), "--model", "nonsense"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: model 'nonsense' is not known")
    assert len(result.stderr.splitlines()) == 1


def test_same_samples_are_those_of_the_sampler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "classes.safetensors"
    write_tiny_class_model(model)
    monkeypatch.setattr(same_samples, "CLASSES", (1, 3))
    indices, pixels = same_samples.draw(str(model), 3, 1.5, count=2)
    others, again = same_samples.draw(str(model), 1, 1.5, count=2)
    assert np.array_equal(indices, others)
    assert np.array_equal(pixels, again)
    loaded = load_model(model)
    sides = [64 // stride for stride in loaded.strides]
    shapes = [(len(p.sizes), side, side) for p, side in zip(loaded.priors, sides, strict=True)]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    assert indices.shape == (4, ends[-1])
    maps = [
        torch.from_numpy(part.reshape(1, *shape))
        for part, shape in zip(np.split(indices[2], ends[:-1]), shapes, strict=True)
    ]
    quality = torch.tensor([loaded.checked_quality(None) - 1])
    restored = loaded.autoencoder.synthesize(maps, quality)[0, :40, :40].numpy()
    assert np.array_equal(restored, pixels[2])


class TestGeneration:
    KEYS = ("n01847000", "n02012849")

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        write_tiny_class_model(tmp_path / "classes.safetensors", 32)
        return tmp_path / "classes.safetensors"

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        random = np.random.default_rng(0)
        for key in self.KEYS:
            (tmp_path / "source" / key).mkdir(parents=True)
            for n in range(22):
                picture = PIL.Image.fromarray(random.integers(256, size=(32, 32, 3), dtype="uint8"))
                picture.save(tmp_path / "source" / key / f"{n:02}.png")
        return tmp_path / "source"

    def test_it_runs(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        SmallResNet(2, 32, (8,)).save(tmp_path / "judge.safetensors", self.KEYS)
        asked = ["--out", tmp_path / "out", "--count", 9, "--judged", 8, "--steps", 2]
        asked += ["--features", tmp_path / "judge.safetensors"]
        printed = run(generation.main, source, *asked, model=model)
        assert "40 training and" in printed
        assert "18 samples: " in printed
        assert "top-1 / top-5 on 4 validation images" in printed
        assert "Samples against 4 validation images" in printed
        assert "Distance to the nearest training image" in printed
        with PIL.Image.open(tmp_path / "out" / "nearest.webp") as picture:
            assert picture.size == (16 * 34 + 2, 2 * 34 + 2)
        drawn = sorted((tmp_path / "out").glob("samples-*/*/*.png"))
        assert [path.parent.name for path in drawn[::9]] == list(self.KEYS)
        assert len(drawn) == 18
        copied = sorted((tmp_path / "out").glob("memory-*/*/*.png"))
        assert [path.read_bytes() for path in copied] == [
            path.read_bytes() for n, path in enumerate(drawn) if n % 9 < 8
        ]

        again = run(generation.main, source, *asked, "--part", "keep", model=model)
        assert "18 samples" not in again
        kept = [line for line in again.splitlines() if "0.25" in line]
        assert [line.split("│")[2].strip() for line in kept] == ["classifier", "priors"]
        assert set(kept) <= set(printed.splitlines())

    def test_classes_that_the_model_does_not_know(self, model: Path, source: Path) -> None:
        (source / self.KEYS[0]).rename(source / "unknown")
        done = CliRunner().invoke(generation.main, [str(source), "--model", str(model)])
        assert done.exit_code == 1
        assert "tiny-classes does not know unknown; leave it out" in done.stderr


def test_rate_model_of_a_checkpoint(tmp_path: Path, one_image: Path) -> None:
    autoencoder = tiny_autoencoder(GROUPED)
    averages = {f"average.{name}": each for name, each in autoencoder.state_dict().items()}
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, averages, {"step": 7, "seconds": 3.0, "config": GROUPED.to_dict()})
    options = ["--quality", "2", "--quality", "9"]
    done = CliRunner().invoke(rate_model.main, [str(path), str(one_image), *options])
    assert done.exit_code == 0, done.output
    assert "step 7, 3" in done.stdout
    picture = load(next(one_image.iterdir())).pixels
    for quality in (2, 9):
        found = rate_model.ours(autoencoder, picture, quality)
        assert f"{found['bpp']:.4f}" in done.stdout
        assert f"{found['psnr']:.2f}" in done.stdout
    assert rate_model.theirs("jpeg", picture, 50)["psnr"] > 25


def test_the_middle_of_an_image(astronaut: Path) -> None:
    pixels = load(astronaut).pixels
    assert np.array_equal(middle(pixels, 64), pixels[16:80, 32:96])
    assert np.array_equal(middle(pixels, 1000), pixels)
