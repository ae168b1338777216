"""The benchmark scripts: their pure functions, and quick runs with the tiny model."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # as for a script that is run

import common
import exactness
import hostile
import integer_cost
import rate_model
from click.testing import CliRunner

from vqcodec import container
from vqcodec.bench.codecs import PEERS
from vqcodec.codec import compress, decompress
from vqcodec.errors import CodecError
from vqcodec.image import Image, load
from vqcodec.training import checkpoint

BENCHMARKS = Path(common.__file__).parent

Script = Callable[..., dict[str, Any]]


@pytest.fixture
def script(tmp_path: Path, environment: dict[str, str], tiny_model: Path) -> Script:
    """Run a script with the tiny model, and give the results it stored."""

    def run(name: str, *arguments: str | Path) -> dict[str, Any]:
        results = tmp_path / f"{name}.json"
        options = ["--model", tiny_model, "--json", results]
        finished = subprocess.run(
            [sys.executable, BENCHMARKS / f"{name}.py", *map(str, [*arguments, *options])],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        stored: dict[str, Any] = json.loads(results.read_text())
        assert stored["benchmark"] == name
        assert stored["model_id"] == "tiny-test"
        return stored

    return run


@pytest.fixture
def one_image(tmp_path: Path, astronaut: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "astronaut.png").write_bytes(astronaut.read_bytes())
    return folder


@pytest.fixture(scope="module")
def small_file(tiny_model: Path) -> bytes:
    pixels = common.tiled_photograph(40, 40).pixels
    return compress(Image(pixels, grey=False), model=tiny_model).data


# What the scripts share


def test_tiled_photograph_fills_any_size() -> None:
    tiled = common.tiled_photograph(700, 1300).pixels
    assert tiled.shape == (700, 1300, 3)
    assert np.array_equal(common.tiled_photograph(50, 60).pixels, tiled[:50, :60])


def test_results_hold_no_nan() -> None:
    assert common.without_nan({"a": [1.0, math.nan, (math.inf,)]}) == {"a": [1.0, None, [None]]}


def test_recording_leaves_the_corridor_as_it_was(astronaut: Path, tiny_model: Path) -> None:
    picture = load(astronaut)
    plain = compress(picture, model=tiny_model)
    with common.recorded("encode") as coded:
        assert compress(picture, model=tiny_model) == plain
    with common.recorded("synthesize") as decoded:
        decompress(plain.data, model=tiny_model)
    assert len(coded[-1]) == 3
    assert all(map(np.array_equal, coded[-1], decoded[-1]))


def test_environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQCODEC_GEMM", "float32")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    with common.environment({"VQCODEC_GEMM": None, "ONEDNN_MAX_CPU_ISA": "AVX2"}):
        assert common.os.environ.get("VQCODEC_GEMM") is None
        assert common.os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert common.os.environ["VQCODEC_GEMM"] == "float32"
    assert "ONEDNN_MAX_CPU_ISA" not in common.os.environ


# The scripts


def test_integer_cost(tiny_model: Path, astronaut: Path) -> None:
    from tiny import tiny_autoencoder, tiny_priors

    from vqcodec.weights_file import load as load_model

    picture = load(astronaut)
    model = load_model(tiny_model)
    priors = tiny_priors(tiny_autoencoder())
    bits = integer_cost.bits_of(model, priors, picture.pixels, 2)
    coded = compress(picture, quality=2, effort=1, model=tiny_model).ideal_bits
    assert bits["integer"].tolist() == pytest.approx(coded)
    rows = integer_cost.summary(2, bits)
    assert [row["level"] for row in rows] == [0, 1, 2, "all"]
    assert rows[-1]["bits"]["integer"] == pytest.approx(sum(coded))
    assert set(rows[-1]["bits"]) == {"integer", "float", "quantized"}
    assert rows[-1]["bits"]["quantized"] == pytest.approx(sum(coded), rel=0.02)
    assert integer_cost.centre(picture.pixels, 64).shape == (64, 64, 3)


@pytest.mark.parametrize("batch", [1, 16])
def test_exactness_finds_no_difference(
    batch: int, tmp_path: Path, astronaut: Path, tiny_model: Path
) -> None:
    stem = tmp_path / "reference"
    exactness.make_reference(str(tiny_model), astronaut, 32, None, stem)
    setting = exactness.Setting("here", batch=batch)
    found = exactness.compare(str(tiny_model), [stem], setting, torch.get_num_threads())
    assert found.none
    assert found.indices_compared == 12 * 2 + 48 * 3 + 192 * 2


def test_exactness_counts_a_difference(tmp_path: Path, astronaut: Path, tiny_model: Path) -> None:
    stem = tmp_path / "reference"
    exactness.make_reference(str(tiny_model), astronaut, 128, None, stem)
    path = tmp_path / "reference-frequencies-1.npy"
    frequencies = np.load(path)
    frequencies[0, 0, 0, :2] += 1
    np.save(path, frequencies)
    setting = exactness.Setting("here")
    found = exactness.compare(str(tiny_model), [stem], setting, torch.get_num_threads())
    assert (found.parallel, found.wavefront, found.indices) == (2, 2, 0)


def test_exactness_runs(script: Script, one_image: Path) -> None:
    options = ["--threads", "1", "--tile", "64", "--only", "VQCODEC_GEMM=float64"]
    found = script("exactness", one_image, *options)
    assert found["exact"]
    assert [row["product"] for row in found["rows"]] == ["float64"]


def test_damage_is_what_it_says(small_file: bytes) -> None:
    length = hostile.header_length(small_file)
    container.peek(small_file[:length])
    assert len(list(hostile.truncations(small_file))) == len(small_file)
    changes = [changed for _, changed in hostile.header_changes(small_file)]
    assert len(set(changes)) == 255 * length
    mutated = [changed for _, changed in hostile.mutations(small_file, 50, seed=3)]
    assert len(mutated) == 50
    assert small_file not in mutated
    assert mutated == [changed for _, changed in hostile.mutations(small_file, 50, seed=3)]


def test_forgeries_pass_every_checksum_of_the_container(small_file: bytes) -> None:
    forged = [changed for _, changed in hostile.forgeries(small_file, 10, seed=0)]
    assert len(forged) == 10
    for each in forged:
        assert container.unpack(each).complete


def test_outcomes(small_file: bytes, tiny_model: Path) -> None:
    model = str(tiny_model)
    expected = decompress(small_file, model=model).pixels
    assert hostile.decode(small_file, model, expected) == (hostile.RIGHT, "")
    assert hostile.decode(small_file, model, 255 - expected) == (hostile.OTHER, "another image")
    assert hostile.decode(small_file[:20], model, expected) == (hostile.REFUSED, "TruncatedError")


def test_hostile_runs(script: Script, astronaut: Path) -> None:
    found = script("hostile", astronaut, "--mutations", "20", "--forgeries", "2")
    assert found["harmless"]
    assert found["kinds"]["random mutations, seed 0"]["files"] == 20


def test_an_unknown_model_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, BENCHMARKS / "hostile.py", "--model", "nonsense"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("Error: model 'nonsense' is not known")
    assert len(finished.stderr.splitlines()) == 1


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(common.click.ClickException, match="holds no images"):
        common.find_images(tmp_path)


def test_codec_errors_become_click_errors() -> None:
    @common.click.command(cls=common.Benchmark)
    def failing() -> None:
        raise CodecError("nothing works")

    with pytest.raises(common.click.ClickException, match="nothing works"):
        failing.main([], standalone_mode=False)


def test_exactness_of_codebooks_in_groups(tmp_path: Path, astronaut: Path) -> None:
    from tiny import GROUPED, write_tiny_model

    model = tmp_path / "grouped.safetensors"
    write_tiny_model(model, GROUPED)
    for quality in (1, 5, 10):
        stem = tmp_path / f"reference-{quality}"
        exactness.make_reference(str(model), astronaut, 64, quality, stem)
        found = exactness.compare(str(model), [stem], exactness.Setting("here"), 1)
        assert found.none
        assert found.frequencies_compared > 0


def test_rate_model_of_a_checkpoint(tmp_path: Path, one_image: Path) -> None:
    from tiny import GROUPED, tiny_autoencoder

    autoencoder = tiny_autoencoder(GROUPED)
    averages = {f"average.{name}": each for name, each in autoencoder.state_dict().items()}
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, averages, {"step": 7, "seconds": 3.0, "config": GROUPED.to_dict()})
    stored = tmp_path / "rate_model.json"
    options = ["--quality", "2", "--quality", "9", "--json", str(stored)]
    done = CliRunner().invoke(rate_model.main, [str(path), str(one_image), *options])
    assert done.exit_code == 0, done.output
    results = json.loads(stored.read_text())
    points = {p["quality"]: p for p in results["points"] if p["codec"] == "vqcodec"}
    picture = load(next(one_image.iterdir())).pixels
    assert results["step"] == 7
    assert set(points) == {2, 9}
    for quality, point in points.items():
        expected = rate_model.ours(autoencoder, picture, quality)
        assert point["bpp"] == pytest.approx(expected["bpp"], rel=1e-5)
        assert point["bpp"] == pytest.approx(sum(expected["levels"]), rel=1e-5)
        assert point["psnr"] == pytest.approx(expected["psnr"], abs=1e-3)
    assert sum(p["codec"] == "jpeg" for p in results["points"]) == len(PEERS["jpeg"].qualities)
