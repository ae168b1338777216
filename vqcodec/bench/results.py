"""The results as they are stored: a JSON file that names what they depend on.

A dict of plain values with the entries

- `format`: 1, raised when an entry changes its meaning;
- `made`: command, date, seconds, commit and whether the sources differ from it, the model with the
  hash and size of its weights, where those of LPIPS are from, versions of libraries, machine;
- `images`, `metrics`, `codecs`, `missing`: what was measured, by what, and what was not there;
- `rows`: a codec, image and quality each: bytes of the file, bpp, distortion, median seconds and
  peak memory of both ways, and of vqcodec the ideal bits of each level;
- `points`: means of the rows of a codec and quality (seconds: medians; peaks: the largest);
- `comparisons`, `above`: see `curves`;
- `speed`: codecs of which the time alone was measured;
- `profile`: see `profile`, and the seconds it took; or null.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.features
import torch

import vqcodec
from vqcodec import files, registry

FORMAT = 1

METRICS = (
    {"key": "psnr", "name": "PSNR", "unit": "dB", "better": "higher"},
    {"key": "ms_ssim", "name": "MS-SSIM", "unit": "", "better": "higher"},
    {"key": "ssimulacra2", "name": "SSIMULACRA 2", "unit": "", "better": "higher"},
)

_PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "constriction",
    "scikit-image",
    "pytorch-msssim",
    "ssimulacra2",
    "bjontegaard",
    "pillow-jxl-plugin",
    "compressai",
)
_PILLOW_PARTS = ("libjpeg_turbo", "webp", "avif", "jpg_2000")
_SIGNIFICANT = 6


def weights(model: str) -> dict[str, Any]:
    """What names a model's weights.

    Raises:
        ModelError: there is no such model.
    """
    located = registry.locate(model)
    return {
        "model_id": located.model_id,
        "weights_sha256": located.sha256,
        "weights_bytes": located.path.stat().st_size,
    }


def commit() -> dict[str, Any]:
    """The commit of the package that runs, and whether it differs from it; null if unknown."""
    here = Path(vqcodec.__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            found = subprocess.run(
                ["git", "-C", here, *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return found.stdout.strip()

    if not git("ls-files", "--", "."):  # an installed copy, in whatever repository
        return {"commit": None, "changed": None}
    changed = git("status", "--porcelain", "--", ".")
    return {"commit": git("rev-parse", "HEAD"), "changed": bool(changed)}


def versions() -> dict[str, str]:
    """Of everything that the numbers may depend on and that is installed."""
    found = {"vqcodec": vqcodec.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    for part in _PILLOW_PARTS:
        version = PIL.features.version(part)
        if version is not None:
            found[f"pillow's {part}"] = version
    return found


def machine(threads: int) -> dict[str, Any]:
    """What ran it."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": threads,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def rounded(value: Any) -> Any:
    """The same with floats to six significant digits, and null for those that are no numbers."""
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.{_SIGNIFICANT}g}") if math.isfinite(value) else None
    return value


def write(path: Path, results: Mapping[str, Any], *, force: bool) -> None:
    """Writes `rounded` results as JSON, a line a row.

    Raises:
        OutputError: the file exists and `force` is false, or it cannot be written.
    """
    lines = []
    for name, value in results.items():
        if isinstance(value, list) and value:
            rows = ",\n  ".join(json.dumps(each, allow_nan=False) for each in value)
            text = f"[\n  {rows}\n ]"
        else:
            text = json.dumps(value, indent=1, allow_nan=False).replace("\n", "\n ")
        lines.append(f" {json.dumps(name)}: {text}")
    encoded = "{\n" + ",\n".join(lines) + "\n}\n"
    files.write_atomically(path, encoded.encode(), force=force)
