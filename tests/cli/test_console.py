"""What commands tell: numbers as people write them, JSON for scripts, more and less words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import Run

from vqcodec.cli import console
from vqcodec.errors import CodecError


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9994, "9.99 kB"),
        (9996, "10.0 kB"),
        (38_412, "38.4 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (123_456_789, "123 MB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert console.size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0042, "0.004 s"),
        (0.35, "0.35 s"),
        (1.23, "1.2 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (125, "2 min 5 s"),
        (3600, "1 h 0 min"),
        (7325, "2 h 2 min"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert console.seconds_text(seconds) == text


def test_rates() -> None:
    assert console.rate_text(38_412, 0.1254) == "38.4 kB (0.125 bpp)"
    assert console.rate_text(200, 1600.0) == "200 B (1600 bpp)"


def test_infinity_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"psnr": float("inf"), "rows": [1.5, float("-inf")]})
    assert json.loads(capsys.readouterr().out) == {"psnr": None, "rows": [1.5, None]}


def test_a_missing_package_is_named() -> None:
    reason = "gallery needs jinja2, which is not installed; pip install 'vqcodec\\[bench\\]'"
    with pytest.raises(CodecError, match=reason), console.extra_for("gallery"):
        raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")


@pytest.fixture
def animation(tmp_path: Path) -> Path:
    """Two frames, of which one is left out."""
    frames = [PIL.Image.fromarray(np.full((24, 32), 80 * n, np.uint8)) for n in (1, 2)]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


@pytest.mark.parametrize("before", [True, False])
def test_quiet_says_nothing(run: Run, tiny_model: Path, animation: Path, before: bool) -> None:
    words = ["compress", animation, "a.vqz", "--model", tiny_model]
    assert b"left out: " in run(*words).stderr
    words = ["-q", *words] if before else [*words, "-q"]
    assert run(*words, "--force").stderr == b""


@pytest.mark.parametrize("before", [True, False])
def test_verbose_tells_stages(run: Run, tiny_model: Path, astronaut: Path, before: bool) -> None:
    words = ["compress", astronaut, "a.vqz", "--model", tiny_model]
    told = run(*(["-v", *words] if before else [*words, "-v"])).stderr.decode().splitlines()
    assert re.fullmatch(r"vqcodec: compress: [0-9.]+ s", told[0])
    stages = [re.fullmatch(r"  (\D.*?) +[0-9.]+ s", line) for line in told[1:]]
    assert all(stages)
    names = [stage[1] for stage in stages if stage]
    assert {"weights", "analysis", "search", "pack", "other"} <= {*names}
    assert len(names) == len({*names})
    assert run("decompress", "a.vqz", "a.png", "--model", tiny_model).stderr == b""


def test_json_of_every_step(
    run: Run, tiny_model: Path, class_model: Path, animation: Path, tmp_path: Path
) -> None:
    model = ["--model", tiny_model]
    options = [*model, "--lossless", "never", "--json", "--report"]
    found = json.loads(run("compress", animation, "a.vqz", *options).stdout)
    size = (tmp_path / "a.vqz").stat().st_size
    assert (found["file"], found["bytes"], found["width"], found["height"]) == (
        "a.vqz",
        size,
        32,
        24,
    )
    assert found["bpp"] == 8 * size / (32 * 24)
    assert len(found["levels"]) == 3
    assert found["levels"][0].keys() == {"bits", "ideal_bits"}
    assert found["psnr"] > 0
    assert found["left_out"] == ["1 other frame (--frame)"]

    back = json.loads(run("decompress", "a.vqz", "a.ppm", *model, "--json").stdout)
    size = (tmp_path / "a.ppm").stat().st_size
    assert (back["file"], back["format"], back["bytes"]) == ("a.ppm", "PPM", size)
    assert (back["width"], back["height"], back["left_out"]) == (32, 24, [])

    (tmp_path / "bad.vqz").write_bytes(b"no file")
    checked = run("verify", "a.vqz", "bad.vqz", *model, "--json")
    assert checked.returncode == 1
    good, bad = json.loads(checked.stdout)
    assert good == {"file": "a.vqz", "ok": True, "checked": "checksums and indices"}
    assert (bad["file"], bad["ok"]) == ("bad.vqz", False)
    assert "not a .vqz file" in bad["error"]

    drawn = json.loads(run("sample", "s.png", "--count", "2", *model, "--json").stdout)
    assert drawn["files"] == ["s-0.png", "s-1.png"]
    assert all((tmp_path / name).is_file() for name in drawn["files"])

    whole = json.loads(run("complete", "a.vqz", "w.png", *model, "--json").stdout)
    assert whole == {"file": "w.png", "mask": None, "invented": "nothing"}


def test_json_leaves_standard_output_to_the_file(
    run: Run, tiny_model: Path, astronaut: Path
) -> None:
    result = run("compress", astronaut, "-", "--model", tiny_model, "--json")
    assert json.loads(result.stderr)["bytes"] == len(result.stdout)
