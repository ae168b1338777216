"""Butteraugli: how visible the difference of two images is to an eye that looks closely.

Measured by the program `butteraugli_main` of libjxl, for a display of 80 candela per square metre.

Source: Alakuijala et al. 2017, "Guetzli: Perceptually Guided JPEG Encoder".
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import PIL.Image

from vqcodec.errors import CodecError

PROGRAM = "butteraugli_main"
SIDE = 8
"""Shortest side, in pixels, of images that it compares: it calls smaller ones equal."""

_OPTIONS = ("--pnorm", "3", "--intensity_target", "80")
_NORM = re.compile(r"^3-norm: (\d+\.\d+)$", re.MULTILINE)


def program() -> Path | None:
    """Where the program is, or None if there is none."""
    found = shutil.which(PROGRAM)
    return None if found is None else Path(found)


def butteraugli(original: npt.NDArray[np.uint8], restored: npt.NDArray[np.uint8]) -> float | None:
    """The 3-norm of the difference that is seen, over all pixels.

    Args:
        original: uint8 [H, W, 3], sRGB.
        restored: uint8 [H, W, 3], sRGB.

    Returns:
        0 for equal images, more the more is seen; None for images with a side below `SIDE`.

    Raises:
        CodecError: the program is missing or fails.
    """
    if min(original.shape[:2]) < SIDE:
        return None
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.png" for name in ("original", "restored")]
        for path, pixels in zip(paths, (original, restored), strict=True):
            PIL.Image.fromarray(pixels).save(path, compress_level=1)
        try:
            done = subprocess.run(
                [PROGRAM, *paths, *_OPTIONS], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise CodecError(f"{PROGRAM} cannot be run ({error.strerror})") from error
    norm = _NORM.search(done.stdout)
    if done.returncode != 0 or norm is None:
        said = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        reason = f"{PROGRAM} failed with exit code {done.returncode}: {said}"
        raise CodecError(f"{reason}; take it off the PATH to measure without it")
    return float(norm[1])
