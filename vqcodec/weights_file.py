"""A weights file in memory: the autoencoder and its priors, ready to run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from vqcodec import registry
from vqcodec.entropy.frequencies import Tables
from vqcodec.entropy.prior import Prior, under
from vqcodec.errors import CodecError, WeightsError
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.models.family import AnyAutoencoder, from_config

WEIGHTS_FORMAT = "vqcodec-weights-1"


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        model_id: The id that files are marked with.
        sha256: SHA-256 of the weights file, 64 hexadecimal digits.
        autoencoder: Image <-> indices.
        priors: One per level, coarse to fine.
        device: Where its tensors are.
        classes: The classes the priors know; class n is their label n + 1.
        side: Pixels a side of the images the priors were trained on, if their samples should be
            as large.
    """

    model_id: str
    sha256: str
    autoencoder: AnyAutoencoder
    priors: tuple[Prior, ...]
    device: torch.device
    classes: tuple[registry.ClassName, ...] = ()
    side: int | None = None

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per position of every level, coarse to fine."""
        return self.autoencoder.config.strides

    @property
    def qualities(self) -> int:
        """Number of qualities; a file's quality is 1 to this."""
        return self.autoencoder.config.num_qualities

    def checked_quality(self, quality: int | None) -> int:
        """The quality, or the middle one for None.

        Raises:
            CodecError: the model has no such quality.
        """
        if quality is None:
            return (self.qualities + 1) // 2
        if not 1 <= quality <= self.qualities:
            limits = f"1 to {self.qualities}"
            raise CodecError(f"{self.model_id} has no quality {quality}; give one from {limits}")
        return quality


def _unpacked(name: str) -> bool:
    """Whether a tensor of the autoencoder serves training alone and is not in weights files."""
    return name.endswith(".counts")


def load(model: str | Path, device: str = "cpu") -> Model:
    """Loads a model, or gives the one that is loaded already.

    Args:
        model: A model id, or a weights file (see `registry.locate`).
        device: Where to run it, such as "cpu" or "cuda". The files are the same bits.

    Raises:
        CodecError: there is no such device.
        UnknownModelError: no model has this id.
        WeightsError: the weights file is missing, malformed, or not the registered one.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise CodecError(f"there is no device {device!r} here; use cpu")
    return _load(registry.locate(model), device)


@lru_cache(maxsize=2)
def _load(weights: registry.Weights, device: str) -> Model:
    config_text = registry.read_metadata(weights.path).get("config", "")
    try:
        with safe_open(weights.path, "pt", device=device) as opened:
            if (opened.metadata() or {}).get("format") != WEIGHTS_FORMAT:
                raise ValueError(f"its format is not {WEIGHTS_FORMAT}")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        config = json.loads(config_text)
        autoencoder = from_config(config["autoencoder"])
        state = {
            name: tensor for name, tensor in autoencoder.state_dict().items() if _unpacked(name)
        }
        state |= {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in under("autoencoder", tensors).items()
        }
        autoencoder.load_state_dict(state)
        tables = Tables(tensors["tables.gate"], tensors["tables.exponential"])
        priors = tuple(
            Prior(prior, under(f"priors.{n}", tensors), tables)
            for n, prior in enumerate(config["priors"])
        )
        if len(priors) != len(autoencoder.levels):
            raise ValueError("it has not one prior per level")
        if isinstance(autoencoder, Autoencoder):
            for level, prior in enumerate(priors):
                found = tuple((len(each.codebooks), each.first_quality) for each in prior.groups)
                if found != autoencoder.config.groups_of(level):
                    raise ValueError(f"prior {level} has other groups of codebooks than its level")
        classes, side = registry.classes_of(config), config.get("side")
        if any(len(prior.context.classes) != len(classes) + 1 for prior in priors):
            raise ValueError(f"it names {len(classes)} classes, its priors know others")
        if side is not None and (type(side) is not int or side < 1):
            raise ValueError(f"its side is {side!r}, not a number of pixels")
    except (
        SafetensorError,
        OSError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = f"is no usable weights file ({type(error).__name__}: {error})"
        raise WeightsError(f"{reason}; export it again").in_file(weights.path) from error
    # torch's annotations leave memory_format out.
    autoencoder.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Model(
        weights.model_id,
        weights.sha256,
        autoencoder.eval(),
        priors,
        torch.device(device),
        classes,
        side,
    )
