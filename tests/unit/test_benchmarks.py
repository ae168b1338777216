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
import prior_savings
import speed

from vqcodec import container
from vqcodec.codec import compress, decompress
from vqcodec.errors import CodecError
from vqcodec.image import Image, load

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


def test_psnr() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert common.psnr(black, black) == math.inf
    assert common.psnr(black, black + 255) == 0
    assert common.psnr(black, black + 1) == pytest.approx(48.1308, abs=1e-4)


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


# Rate and distortion


@pytest.fixture
def rate_distortion() -> Any:
    reason = "bjontegaard belongs to the extra `benchmarks`, which the tests do without"
    pytest.importorskip("bjontegaard", reason=reason)
    import rate_distortion

    return rate_distortion


def curve(module: Any, rates: list[float], gain: float) -> list[Any]:
    return [
        module.Point(n, rate, 30 + gain + 5 * math.log2(rate)) for n, rate in enumerate(rates, 1)
    ]


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_bjontegaard_deltas_of_curves_that_are_known(rate_distortion: Any, method: str) -> None:
    anchor = curve(rate_distortion, [0.1, 0.2, 0.4, 0.8, 1.6], 0)
    better = curve(rate_distortion, [0.15, 0.3, 0.6], 5)
    rate, distortion = rate_distortion.bjontegaard_deltas(anchor, better, method)
    assert rate == pytest.approx(-50)  # 5 dB are a factor of two in rate here
    assert distortion == pytest.approx(5)


def test_no_deltas_of_one_point_or_apart(rate_distortion: Any) -> None:
    anchor = curve(rate_distortion, [0.1, 0.2, 0.4], 0)
    one = curve(rate_distortion, [0.2], 3)
    assert all(map(math.isnan, rate_distortion.bjontegaard_deltas(anchor, one, "pchip")))
    apart = curve(rate_distortion, [4, 8], 30)
    assert all(map(math.isnan, rate_distortion.bjontegaard_deltas(anchor, apart, "pchip")))
    assert rate_distortion.overlap(anchor, apart, "bpp") is None


def test_gap_to_an_anchor(rate_distortion: Any) -> None:
    anchor = curve(rate_distortion, [0.1, 0.2, 0.4, 0.8], 0)
    inside, outside = curve(rate_distortion, [0.3, 1.0], 2)
    assert rate_distortion.gap(anchor, inside) == pytest.approx(2)
    assert math.isnan(rate_distortion.gap(anchor, outside))


def test_rate_distortion_runs(rate_distortion: Any, script: Script, one_image: Path) -> None:
    found = script("rate_distortion", one_image, "--quality", "1", "--anchor", "jpeg")
    assert found["all_indices_identical"]
    assert found["all_sizes_inside"]
    assert [point["quality"] for point in found["points"]] == [1]
    assert [each["quality"] for each in found["anchors"]["jpeg"]["curve"]][:12] == [
        *range(5, 65, 5)
    ]


# The other scripts


def test_prior_savings_against_the_bits_of_the_codec(tiny_model: Path, astronaut: Path) -> None:
    from vqcodec.model import load as load_model

    picture = load(astronaut)
    compressed = compress(picture, quality=2, model=tiny_model)
    bits = prior_savings.bits_of(load_model(tiny_model), [], picture.pixels, 2)
    assert bits["integer"].tolist() == pytest.approx(compressed.ideal_bits)
    rows = prior_savings.summary(2, bits)
    assert [row["level"] for row in rows] == [0, 1, 2, "all"]
    assert rows[-1]["bits"]["integer"] == pytest.approx(sum(compressed.ideal_bits))


def test_prior_savings_with_float_priors(tiny_model: Path, astronaut: Path) -> None:
    from tiny import tiny_autoencoder, tiny_priors

    from vqcodec.model import load as load_model

    pixels = prior_savings.centre(load(astronaut).pixels, 64)
    assert pixels.shape == (64, 64, 3)
    priors = tiny_priors(tiny_autoencoder())
    bits = prior_savings.bits_of(load_model(tiny_model), priors, pixels, 1)
    last = prior_savings.summary(1, bits)[-1]
    assert set(last["bits"]) == {"non-spatial", "integer", "float", "quantized"}
    assert last["bits"]["quantized"] == pytest.approx(last["bits"]["integer"], rel=0.02)


def test_prior_savings_runs(script: Script, one_image: Path) -> None:
    found = script("prior_savings", one_image, "--quality", "2")
    assert [row["quality"] for row in found["rows"]] == [2] * 4 + ["all"] * 4


def test_stage_clock_adds_up() -> None:
    def run(clock: speed.StageClock) -> str:
        clock("one", 1, 2)
        clock("one", 2, 2)
        clock("two", 1, 1)
        return "result"

    result, seconds = speed.timed(run)
    assert result == "result"
    assert list(seconds) == ["one", "two", "rest", "all"]
    parts = [seconds[name] for name in ("one", "two", "rest")]
    assert seconds["all"] == pytest.approx(sum(parts))


def test_positions_are_spread() -> None:
    assert speed.some_of(100, 3) == [16, 50, 83]
    assert speed.some_of(2, 5) == [0, 1]


def test_speed_runs(script: Script, astronaut: Path) -> None:
    found = script("speed", astronaut, "--runs", "1", "--positions", "1", "--threads", "1")
    assert found["size"] == [96, 128]
    assert {"analysis", "encode level 2", "all"} <= set(found["seconds"]["compress"])
    assert {"decode level 0", "synthesis", "all"} <= set(found["seconds"]["decompress"])
    levels = found["usual_way_extrapolated"]["levels"]
    assert [level["positions"] for level in levels] == [12, 48, 192]
    assert all(level["exact"] for level in levels)


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


def test_memory_runs(script: Script) -> None:
    found = script("memory", "--megapixels", "0.01", "--tile", "64")
    assert found["side"] == 100
    assert [run["command"] for run in found["runs"]] == ["compress", "decompress"]
    assert all(run["peak"] > 0 for run in found["runs"])


def test_an_unknown_model_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, BENCHMARKS / "speed.py", "--model", "nonsense"],
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
