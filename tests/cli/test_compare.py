"""`compare`: how near two files are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import Run
from pictures import DISPLAY_P3

from vqcodec.metrics import distortion


def shown(report: bytes) -> dict[str, str]:
    """The two columns of a report as a table."""
    rows = (line.split("  ", 1) for line in report.decode().splitlines())
    return {name: value.strip() for name, value in rows}


@pytest.fixture
def photo(chelsea: Path) -> Path:
    return chelsea


def pixels(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_picture_and_its_file(run: Run, photo: Path, tiny_model: Path, tmp_path: Path) -> None:
    model = ["--model", tiny_model]
    assert run("compress", photo, "a.vqz", *model, "--effort", "1").returncode == 0
    assert run("decompress", "a.vqz", "a.png", *model).returncode == 0
    result = run("compare", photo, "a.vqz", *model, "--json")
    assert (result.returncode, result.stderr) == (0, b"")
    found = json.loads(result.stdout)
    first, second = pixels(photo), pixels(tmp_path / "a.png")
    assert found["psnr"] == pytest.approx(distortion.psnr(first, second))
    assert found["ms_ssim"] == pytest.approx(distortion.ms_ssim(first, second))
    assert found["ssimulacra2"] == pytest.approx(distortion.ssimulacra2(first, second), abs=0.01)
    size = (tmp_path / "a.vqz").stat().st_size
    assert found["a"]["bytes"] == photo.stat().st_size
    assert found["b"] == {"file": "a.vqz", "bytes": size, "bpp": 8 * size / (451 * 300)}
    assert (found["width"], found["height"]) == (451, 300)

    report = shown(run("compare", photo, "a.png").stdout)
    assert report["bytes of A"] == str(photo.stat().st_size)
    assert report["PSNR"] == f"{found['psnr']:.2f} dB"
    assert report["MS-SSIM"] == f"{found['ms_ssim']:.4f}"
    assert report["SSIMULACRA 2"] == f"{found['ssimulacra2']:.2f}"


def test_equal_pictures(run: Run, astronaut: Path) -> None:
    result = run("compare", astronaut, astronaut)
    assert shown(result.stdout)["PSNR"] == "infinite, the colours are equal"
    assert result.stderr == b"vqcodec: MS-SSIM left out: a side is below 161 pixels\n"
    found = json.loads(run("compare", astronaut, astronaut, "--json", "-q").stdout)
    assert found["psnr"] is None
    assert found["ssimulacra2"] == pytest.approx(100, abs=0.01)


def test_sizes_that_differ(run: Run, astronaut: Path, chelsea: Path) -> None:
    result = run("compare", astronaut, chelsea)
    assert result.returncode == 1
    assert result.stderr.decode() == (
        f"vqcodec: error: {chelsea}: is 451 x 300, and what it is compared with is 128 x 96; "
        "give images of equal size\n"
    )


def test_without_the_extra(run: Run, astronaut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vqcodec.metrics.distortion")
    monkeypatch.delattr("vqcodec.metrics.distortion")
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    result = run("compare", astronaut, astronaut)
    assert result.returncode == 0
    assert "MS-SSIM left out: pytorch_msssim is not installed" in result.stderr.decode()
    assert "MS-SSIM" not in shown(result.stdout)


def test_what_no_metric_sees_is_told(run: Run, astronaut: Path, tmp_path: Path) -> None:
    with PIL.Image.open(astronaut) as picture:
        picture.convert("RGB").save(tmp_path / "a.png", icc_profile=DISPLAY_P3)
        alpha = picture.convert("RGBA")
    alpha.putalpha(100)
    alpha.save(tmp_path / "b.png")
    told = run("compare", "a.png", "b.png").stderr.decode()
    assert "b.png: another transparency, which is not compared" in told
    assert "b.png: another colour profile, which is not compared" in told


def test_one_standard_input_is_not_two_images(run: Run) -> None:
    assert run("compare", "-", "-", input=b"").returncode == 2
