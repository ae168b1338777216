"""Which metrics can be measured, what the results say of them, and that they travel."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from random_dists import write_random_dists
from random_lpips import write_random_lpips

from vqcodec.bench.judges import LEARNT, judges
from vqcodec.errors import WeightsError
from vqcodec.image import load
from vqcodec.metrics.butteraugli import PROGRAM
from vqcodec.metrics.dists import Dists
from vqcodec.metrics.lpips import Lpips


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Butteraugli that always finds the same."""
    path = tmp_path / "bin" / PROGRAM
    path.parent.mkdir()
    path.write_text("#!/bin/sh\necho 3-norm: 1.25\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent))
    return path


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Path]:
    return {"lpips": write_random_lpips(tmp_path)["alex"], "dists": write_random_dists(tmp_path)}


def test_all_are_there(weights: dict[str, Path], program: Path, astronaut: Path) -> None:
    found, missing = judges(weights)
    assert not missing
    assert [(judge.metric["key"], judge.metric["better"]) for judge in found] == [
        ("psnr", "higher"),
        ("ms_ssim", "higher"),
        ("ssimulacra2", "higher"),
        ("lpips", "lower"),
        ("dists", "lower"),
        ("butteraugli", "lower"),
    ]
    sources = {judge.key: judge.source for judge in found if judge.source}
    assert sources.keys() == {"lpips", "dists", "butteraugli"}
    assert sources["dists"] == "random, 0123"
    assert sources["butteraugli"].startswith(f"{PROGRAM}, ")
    original = load(astronaut).pixels
    restored = original ^ np.uint8(8)
    travelled = pickle.loads(pickle.dumps(found))
    values = {judge.key: judge.measure(original, restored) for judge in travelled}
    assert values["lpips"] == Lpips(weights["lpips"]).distance(original, restored)
    assert values["dists"] == Dists(weights["dists"]).distance(original, restored)
    assert values["butteraugli"] == 1.25
    assert values["psnr"] == pytest.approx(20 * np.log10(255 / 8))


def test_what_is_missing_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found, missing = judges({})
    assert [judge.key for judge in found] == ["psnr", "ms_ssim", "ssimulacra2"]
    assert [each.name for each in missing] == ["LPIPS", "DISTS", "Butteraugli (3-norm)"]
    for key, each in zip(LEARNT, missing, strict=False):
        assert f"benchmarks/{key}_weights.py" in each.remedy
        assert f"--{key} FILE" in each.remedy
    assert PROGRAM in missing[-1].reason


@pytest.mark.parametrize("key", LEARNT)
def test_unusable_weights(key: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"no usable weights file of {key.upper()}"):
        judges({key: tmp_path / "none.safetensors"})
