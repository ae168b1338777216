"""Weights of LPIPS that are random, the archive they would come from, and damaged images."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save_file

from vqcodec.metrics.lpips import FORMAT, KINDS, Network

Pixels = npt.NDArray[np.uint8]


def random_tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Tensors of a network whose convolutions keep the size of features."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, own in network.state_dict().items():
        fan_in = max(1, own.shape[1:].numel()) if own.ndim == 4 else 1
        found[name] = torch.randn(own.shape, generator=generator) * (2 / fan_in) ** 0.5
    return found


def random_weights(kind: str) -> dict[str, torch.Tensor]:
    """Tensors of one network, with heads above 0."""
    found = random_tensors(Network(KINDS[kind]))
    return {name: each.abs() if name.startswith("heads") else each for name, each in found.items()}


def write_random_lpips(folder: Path) -> dict[str, Path]:
    """A file of each network."""
    for kind in KINDS:
        metadata = {"format": FORMAT, "kind": kind, "source": "random", "of": "0123"}
        save_file(random_weights(kind), folder / f"{kind}.safetensors", metadata)
    return {kind: folder / f"{kind}.safetensors" for kind in KINDS}


def pickled(kind: str, network: str) -> bytes:
    """The tree of the archive, of arrays [side, side, in, out]."""
    weights = random_weights(kind)
    convolutions = [name for name in weights if name.endswith(".weight")]
    layers = {
        f"Conv_{n}": {
            "kernel": weights[name].permute(2, 3, 1, 0).numpy().copy(),
            "bias": weights[name.replace("weight", "bias")].numpy(),
        }
        for n, name in enumerate(convolutions)
    }
    heads = {
        f"NetLinLayer_{n}": {
            "Conv_0": {"kernel": weights[f"heads.{n}"].numpy()[None, None, :, None]}
        }
        for n in range(5)
    }
    written = pickle.dumps({network: layers, **heads}, protocol=3)
    # NumPy 1 wrote the archive.
    return written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def archive_of(path: Path, member: str, content: bytes) -> Path:
    """A tar archive of one file."""
    with tarfile.open(path, "w") as archive:
        information = tarfile.TarInfo(member)
        information.size = len(content)
        archive.addfile(information, io.BytesIO(content))
    return path


def damaged(pixels: Pixels, quality: int) -> Pixels:
    """An image as JPEG restores it."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))
