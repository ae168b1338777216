"""The syntheses of a model: its own, which is faithful, and natural ones, in files of their own.

Files coded with the model know nothing of them: the indices are the same. A natural synthesis is a
safetensors file whose metadata hold the format, id and hash of the model, and the shape as JSON;
its tensors are the tuned weights and those of the texture, in float16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vqcodec import files, registry
from vqcodec.ambient import shared_lock
from vqcodec.container import EXTRA_SYNTHESIS
from vqcodec.errors import CodecError, WeightsError
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.models.natural import Natural, NaturalConfig
from vqcodec.weights_file import Model, packed, undrawn

FORMAT = "vqcodec-synthesis-1"
FAITHFUL, NATURAL = "faithful", "natural"
NAMES = (FAITHFUL, NATURAL)


_reading = shared_lock()


class Synthesis(Protocol):
    """What restores pixels."""

    def synthesize(self, indices: Sequence[Tensor], quality: Tensor) -> Tensor:
        """As `Family.synthesize`."""


def synthesis_of(model: Model, name: str | Path | None) -> Synthesis:
    """A synthesis of a model.

    Args:
        model: The model.
        name: "faithful", "natural", or a file that `write` wrote: any Path, or a text ending in
            `.safetensors`; None for the faithful one.

    Raises:
        CodecError: there is no such synthesis.
        WeightsError: its file is missing, malformed, of another model, or not the registered one.
    """
    if name is None or name == FAITHFUL:
        return model.autoencoder
    if name != NATURAL:
        if isinstance(name, str) and not name.endswith(registry.WEIGHTS_SUFFIX):
            known = " or ".join(NAMES)
            raise CodecError(f"there is no synthesis {name!r}; give {known}, or a weights file")
        with _reading:
            return _read(Path(name), registry.sha256_of(name), model)
    if model.model_id not in registry.SYNTHESES:
        raise CodecError(f"{model.model_id} has no natural synthesis; use the faithful one")
    location = registry.packaged(registry.SYNTHESES[model.model_id])
    with _reading:
        return _read(location.path, location.sha256, model)


def extras_for(name: str | None) -> dict[int, bytes]:
    """What a file keeps of the synthesis that it is made for.

    Raises:
        CodecError: it is none of `NAMES`.
    """
    if name is None:
        return {}
    if name not in NAMES:
        raise CodecError(f"there is no synthesis {name!r}; give {' or '.join(NAMES)}")
    return {EXTRA_SYNTHESIS: bytes([NAMES.index(name)])}


def chosen(model: Model, name: str | Path | None, extras: Mapping[int, bytes]) -> Synthesis:
    """What to restore a file with: what is asked for, or else what it is made for and there is.

    Raises:
        CodecError, WeightsError: as of `synthesis_of`.
    """
    natural = extras.get(EXTRA_SYNTHESIS) == bytes([NAMES.index(NATURAL)])
    if name is None and natural and model.model_id in registry.SYNTHESES:
        name = NATURAL
    return synthesis_of(model, name)


def write(path: Path, model: Model, natural: Natural) -> str:
    """Writes a natural synthesis of a model and returns the file's SHA-256.

    Args:
        path: Of the .safetensors file; written to a temporary name and renamed.
        model: Whose it is.
        natural: Trained; stored in float16.

    Raises:
        CodecError: float16 cannot hold it.
    """
    tensors = {f"trunk.{name}": tensor for name, tensor in natural.tuned.items()}
    tensors |= {f"texture.{name}": each for name, each in natural.texture.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "model_id": model.model_id,
        "model_sha256": model.sha256,
        "config": json.dumps(natural.config.to_dict()),
    }
    files.make_folder(path.parent)
    files.write_atomically(path, packed(tensors, metadata), force=True)
    return registry.sha256_of(path)


@lru_cache(maxsize=2)
def _read(path: Path, sha256: str, model: Model) -> Natural:
    """Reads a natural synthesis of a model; its hash is there for the cache alone."""
    metadata = registry.read_metadata(path)
    if metadata.get("model_sha256", model.sha256) != model.sha256:
        of = f"{metadata.get('model_id')} with SHA-256 {metadata['model_sha256'][:16]}..."
        raise WeightsError(
            f"is a synthesis of {of}, and not of {model.model_id} with {model.sha256[:16]}...; "
            "give that of the file's model"
        ).in_file(path)
    try:
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if not isinstance(model.autoencoder, Autoencoder):
            raise ValueError("its model cannot have one")
        config = NaturalConfig.from_dict(json.loads(metadata["config"]))
        with undrawn():
            natural = Natural(model.autoencoder, config)
        natural.texture.to_empty(device="cpu")
        with safe_open(path, "pt") as opened:
            tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
        wanted = {f"trunk.{name}" for name in natural.tuned}
        wanted |= {f"texture.{name}" for name in natural.texture.state_dict()}
        if tensors.keys() != wanted:
            raise ValueError("it has not the tensors of its shape")
        natural.load_state_dict({**natural.state_dict(), **tensors})
    except (
        SafetensorError,
        OSError,
        ArithmeticError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = f"is no usable synthesis ({type(error).__name__}: {error})"
        raise WeightsError(f"{reason}; export it again").in_file(path) from error
    natural.to(device=model.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return natural.eval().requires_grad_(False)
