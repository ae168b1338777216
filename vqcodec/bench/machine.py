"""What a measurement depends on: commit, weights, versions of libraries, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.features
import torch

import vqcodec
from vqcodec import registry

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


def made(model: str | None) -> dict[str, Any]:
    """All of it.

    Args:
        model: A model id, or the path of a weights file; None if there is none.

    Raises:
        ModelError: there is no such model.
    """
    return {
        **commit(),
        **({} if model is None else weights(model)),
        "versions": versions(),
        "machine": machine(),
    }


def sentence(made: Mapping[str, Any]) -> str:
    """What `made` gave, in one line."""
    on, versions = made["machine"], made["versions"]
    parts = [f"commit {(made['commit'] or 'unknown')[:12]}{', changed' if made['changed'] else ''}"]
    if "model_id" in made:
        parts.append(f"weights {made['model_id']}, SHA-256 {made['weights_sha256'][:16]}")
    parts.append(
        f"{on['processor']}, {on['threads']} threads of {on['processors']} processors, "
        f"{on['cpu_capability']}, {on['platform']}"
    )
    parts.append(", ".join(f"{name} {version}" for name, version in versions.items()))
    return "; ".join(parts)


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


def machine() -> dict[str, Any]:
    """What ran it."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
