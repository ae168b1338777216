"""What is asked of the program, and what is made of its answers; programs stand in for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vqcodec.errors import CodecError
from vqcodec.metrics.butteraugli import PROGRAM, SIDE, butteraugli, program

Install = Callable[[str], Path]

MEAN_DIFFERENCE = """
import sys
import numpy as np
import PIL.Image
one, two, *options = sys.argv[1:]
assert options == ["--pnorm", "3", "--intensity_target", "80"], options
apart = np.abs(np.asarray(PIL.Image.open(one)).astype(int) - np.asarray(PIL.Image.open(two)))
print(f"{apart.max():.10f}")
print(f"3-norm: {apart.mean():.6f}")
print("a remark", file=sys.stderr)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a Python program in the place of the real one, which may or may not be there."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(text: str) -> Path:
        path = tmp_path / PROGRAM
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
        return path

    return write


def flat(value: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_the_3_norm_of_the_two_images_as_png_files(install: Install) -> None:
    path = install(MEAN_DIFFERENCE)
    assert program() == path
    before = {*os.listdir()}
    original = np.random.default_rng(0).integers(100, 200, (9, 12, 3), np.uint8)
    assert butteraugli(original, original) == 0
    assert butteraugli(original, original + 7) == 7
    assert {*os.listdir()} == before


def test_images_too_small_have_no_distance(install: Install) -> None:
    install("raise SystemExit(1)")  # is not asked
    assert butteraugli(flat(5, SIDE - 1), flat(9, SIDE - 1)) is None
    assert butteraugli(flat(5, width=SIDE - 1), flat(9, width=SIDE - 1)) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys; print('3-norm: 1.5'); sys.exit('Width mismatch')", "code 1: Width mismatch;"),
        ("print('Usage'); print('help')", "code 0: help;"),
        ("print('3-norm: nan')", "code 0: 3-norm: nan;"),
        ("import os; os.abort()", "code -6: ;"),
    ],
)
def test_a_program_that_fails_is_one_line(install: Install, text: str, reason: str) -> None:
    install(text)
    with pytest.raises(CodecError, match=f"failed with exit {reason}") as caught:
        butteraugli(flat(5), flat(9))
    assert "\n" not in str(caught.value)


def test_no_program(install: Install) -> None:
    assert program() is None
    with pytest.raises(CodecError, match=f"{PROGRAM} cannot be run"):
        butteraugli(flat(5), flat(9))
