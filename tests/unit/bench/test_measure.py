"""Measuring: rows that tell what is on the disk, and when a peer's curve is long enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vqcodec.bench import codecs
from vqcodec.bench.judges import ALWAYS
from vqcodec.bench.measure import Measuring, covered, runs_for
from vqcodec.image import load
from vqcodec.metrics import distortion


@pytest.fixture
def measuring(tmp_path: Path, astronaut: Path) -> Measuring:
    def silent(stage: str, done: int, total: int) -> None:
        assert done <= total, stage

    return Measuring([astronaut], tmp_path / "files", 1, ALWAYS, 1, silent)


@pytest.mark.slow
def test_rows_of_vqcodec(measuring: Measuring, tiny_model: Path, astronaut: Path) -> None:
    ours = codecs.vqcodec(str(tiny_model), [1, 3], 1)
    rows = measuring.measure(ours)
    assert [row["quality"] for row in rows] == [1, 3]
    original = load(astronaut).pixels
    for row in rows:
        stem = Path(row["image"]).stem
        file = measuring.folder / "vqcodec" / f"{stem}-{row['quality']}.vqz"
        data = file.read_bytes()
        assert row["bytes"] == len(data)
        assert row["bpp"] == 8 * len(data) / (original.shape[0] * original.shape[1])
        assert row["psnr"] == distortion.psnr(original, ours.decode(data))
        assert row["ssimulacra2"] == distortion.ssimulacra2(original, ours.decode(data))
        assert row["ms_ssim"] is None  # 128 x 96 pixels are too few
        assert row["encode_seconds"] > 0
        assert row["decode_seconds"] > 0
        assert len(row["level_bits"]) == 3
    assert {path.suffix for path in (measuring.folder / "vqcodec").iterdir()} == {".vqz"}


def test_a_peer_is_measured_until_that_is_enough(measuring: Measuring) -> None:
    jpeg = codecs.PEERS["jpeg"]
    rows = measuring.measure(jpeg, enough=lambda rows: len(rows) == 3)
    assert [row["quality"] for row in rows] == list(jpeg.qualities[:3])
    assert [row["level_bits"] for row in rows] == [None] * 3
    rates = [row["bpp"] for row in rows]
    assert rates == sorted(rates)


def point(quality: int, bpp: float, psnr: float) -> dict[str, Any]:
    return {"codec": "x", "quality": quality, "bpp": bpp, "psnr": psnr}


@pytest.mark.parametrize(
    ("theirs", "enough"),
    [
        ([point(1, 0.5, 29), point(2, 0.6, 31)], True),
        ([point(1, 0.5, 29), point(2, 0.6, 29.5)], False),
        ([point(1, 0.1, 29), point(2, 0.2, 31)], False),
        ([point(1, 0.2, 40), point(1, 0.8, 23)], True),  # means of 0.5 bpp and 31.5 dB
        ([point(1, 0.2, 40), point(1, 0.8, 19)], False),
    ],
)
def test_a_curve_is_long_enough_when_it_ends_above(
    theirs: list[dict[str, Any]], enough: bool
) -> None:
    ours = [point(1, 0.1, 27), point(2, 0.4, 30), point(2, 0.2, 30)]
    assert covered(theirs, ours) is enough


def test_few_images_are_run_more_often() -> None:
    assert [runs_for(count) for count in (1, 2, 5, 24)] == [5, 3, 1, 1]
