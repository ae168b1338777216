"""Seconds and memory against size, with tiny pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vqcodec import image
from vqcodec.bench.images import fill
from vqcodec.bench.scaling import COLUMNS, line, scaling
from vqcodec.codec import compress
from vqcodec.errors import CodecError
from vqcodec.image import Image


class TestFill:
    def test_mirrors_the_picture(self) -> None:
        picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
        found = fill(picture, 7, 8)
        assert found.shape == (7, 8, 3)
        columns, rows = [0, 1, 2, 2, 1, 0, 0, 1], [0, 1, 1, 0, 0, 1, 1]
        assert np.array_equal(found, picture[rows][:, columns])

    def test_takes_a_corner_of_a_larger_picture(self) -> None:
        picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
        assert np.array_equal(fill(picture, 2, 3), picture[:2, :3])
        assert fill(picture, 6, 2).shape == (6, 2, 3)


class TestLine:
    def rows(self, values: list[float | None]) -> list[dict[str, Any]]:
        return [{"megapixels": 2.0**n, "seconds": value} for n, value in enumerate(values)]

    def test_finds_a_line(self) -> None:
        fit = line(self.rows([5 + 3 * 2.0**n for n in range(4)]), "seconds")
        assert fit == pytest.approx({"intercept": 5, "slope": 3, "r2": 1})

    def test_tells_what_is_no_line(self) -> None:
        fit = line(self.rows([0.0, 1.0, 0.0, 1.0]), "seconds")
        assert fit is not None
        assert 0 < fit["r2"] < 0.5

    @pytest.mark.parametrize("values", [[1.0], [1.0, None], [2.0, 2.0]])
    def test_needs_values_that_differ(self, values: list[float | None]) -> None:
        assert line(self.rows(values), "seconds") is None


@pytest.mark.slow
def test_a_row_a_size(tiny_model: Path, astronaut: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    found = scaling(
        str(tiny_model),
        astronaut,
        lambda *report: reports.append(report),
        quality=3,
        megapixels=[0.024],
    )
    assert reports == [("scaling", 1, 1)]
    assert found["fit"] == dict.fromkeys(COLUMNS)
    (row,) = found["rows"]
    assert (row["width"], row["height"], row["megapixels"]) == (190, 126, 0.02394)
    assert row["compress_seconds"] > 0
    assert row["decompress_seconds"] > 0
    for verb in ("compress", "decompress"):
        peak = row[f"{verb}_peak"]
        assert peak > 1e8 if sys.platform == "linux" else peak is None  # torch alone is more
    picture = Image(fill(image.load(astronaut).pixels, 126, 190), grey=False)
    coded = compress(picture, quality=3, model=tiny_model).data
    assert row["bpp"] == pytest.approx(8 * len(coded) / (126 * 190), rel=0.01)


def test_no_such_quality(tiny_model: Path, astronaut: Path) -> None:
    with pytest.raises(CodecError, match="no quality 9"):
        scaling(str(tiny_model), astronaut, lambda *report: None, quality=9)
