"""Weights files: a model's autoencoder and priors <-> one safetensors file.

Metadata hold the format, the model id and the config as JSON; tensors are `autoencoder.*` in
float16, `priors.N.*` in integers, and `tables.*`, which all priors share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vqcodec import compiling, files, registry
from vqcodec.ambient import ordinary_state, shared_lock
from vqcodec.arguments import whole
from vqcodec.container import MAX_LEVELS, MODEL_ID
from vqcodec.entropy.frequencies import Tables
from vqcodec.entropy.layers import under
from vqcodec.entropy.prior import Prior
from vqcodec.errors import CodecError, WeightsError
from vqcodec.models.families import from_config
from vqcodec.models.family import Family
from vqcodec.registry import ClassName
from vqcodec.spec.prior import PriorConfig

FORMAT = "vqcodec-weights-1"
SHAPINGS = ("temperature", "top_p", "guidance")


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
        shapings: How its samples are drawn where nothing else is asked for, fields of
            `vqcodec.drawing.shaping.Shaping` for every level; empty for unshaped ones.
    """

    model_id: str
    sha256: str
    autoencoder: Family
    priors: tuple[Prior, ...]
    device: torch.device
    classes: tuple[ClassName, ...] = ()
    side: int | None = None
    shapings: tuple[Mapping[str, float], ...] = ()

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
        if not 1 <= (quality := whole(quality, "quality")) <= self.qualities:
            limits = f"1 to {self.qualities}"
            raise CodecError(f"{self.model_id} has no quality {quality}; give one from {limits}")
        return quality


class PackedPrior(NamedTuple):
    """A prior as a weights file holds it: its shape, and its integers by name."""

    config: PriorConfig
    tensors: dict[str, Tensor]


def _unpacked(name: str) -> bool:
    """Whether a tensor of the autoencoder serves training alone and is not in weights files."""
    return name.endswith(".counts")


def write(
    path: Path,
    model_id: str,
    autoencoder: Family,
    priors: Sequence[PackedPrior],
    tables: Tables,
    classes: Sequence[ClassName] = (),
    side: int | None = None,
    shapings: Sequence[Mapping[str, float]] = (),
) -> str:
    """Writes a weights file and returns its SHA-256.

    Args:
        path: Of the .safetensors file; written to a temporary name and renamed.
        model_id: What files coded with it will name.
        autoencoder: Trained; stored in float16.
        priors: One per level, coarse to fine.
        tables: The tables all priors share.
        classes: What the priors' labels 1, 2, ... mean.
        side: Pixels a side of the images the priors were trained on, for a model of classes.
        shapings: As of `Model`.

    Raises:
        CodecError: not a model id, or an autoencoder that float16 cannot hold.
    """
    check_model_id(model_id)
    tensors = {f"tables.{name}": table for name, table in tables._asdict().items()}
    for name, tensor in autoencoder.state_dict().items():
        if not _unpacked(name):
            tensors[f"autoencoder.{name}"] = tensor
    for n, prior in enumerate(priors):
        tensors |= {f"priors.{n}.{name}": tensor for name, tensor in prior.tensors.items()}
    config: dict[str, Any] = {
        "autoencoder": autoencoder.config.to_dict(),
        "priors": [prior.config.to_dict() for prior in priors],
    }
    if classes:
        config |= {"classes": classes, "side": side}
    if shapings:
        config["shapings"] = list(shapings)
    metadata = {"format": FORMAT, "model_id": model_id, "config": json.dumps(config)}
    files.make_folder(path.parent)
    files.write_atomically(path, packed(tensors, metadata), force=True)
    return registry.sha256_of(path)


def read(location: registry.Location, device: str = "cpu") -> Model:
    """Reads a weights file.

    Args:
        location: The file.
        device: Where to run the model.

    Raises:
        WeightsError: it is missing or malformed.
    """
    config_text = registry.read_metadata(location.path).get("config", "")
    try:
        with safe_open(location.path, "pt", device=device) as opened:
            if (opened.metadata() or {}).get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        config = json.loads(config_text)
        count = len(config["priors"])
        if not count == len(config["autoencoder"]["levels"]) <= MAX_LEVELS:
            raise ValueError(f"it has not one prior per level, or more than {MAX_LEVELS}")
        with undrawn():
            autoencoder = from_config(config["autoencoder"])
        absent = {name: each for name, each in autoencoder.state_dict().items() if _unpacked(name)}
        state = {name: tensor.float() for name, tensor in under("autoencoder", tensors).items()}
        autoencoder.load_state_dict(absent | state, assign=True)
        # Only now it is known that they are no larger than what the file holds.
        ones = {
            name: torch.ones(each.shape, dtype=each.dtype, device=device)
            for name, each in absent.items()
        }
        autoencoder.load_state_dict(ones, strict=False, assign=True)
        tables = Tables(tensors["tables.gate"], tensors["tables.exponential"])
        priors = tuple(
            Prior(PriorConfig.from_dict(prior), under(f"priors.{n}", tensors), tables)
            for n, prior in enumerate(config["priors"])
        )
        for level, prior in enumerate(priors):
            found = tuple((len(each.codebooks), each.first_quality) for each in prior.groups)
            if found != autoencoder.config.groups_of(level):
                raise ValueError(f"prior {level} has other groups of codebooks than its level")
        classes, side = registry.classes_of(config), config.get("side")
        if any(len(prior.context.classes) != len(classes) + 1 for prior in priors):
            raise ValueError(f"it names {len(classes)} classes, its priors know others")
        if side is not None and (type(side) is not int or side < 1):
            raise ValueError(f"its side is {side!r}, not a number of pixels")
        shapings = _checked(config.get("shapings", []), len(priors))
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
        raise WeightsError(f"{reason}; export it again").in_file(location.path) from error
    # torch's annotations leave memory_format out.
    autoencoder.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Model(
        location.model_id,
        location.sha256,
        autoencoder.eval().requires_grad_(False),
        priors,
        torch.device(device),
        classes,
        side,
        shapings,
    )


def _checked(shapings: Any, levels: int) -> tuple[Mapping[str, float], ...]:
    """The shapings of a config.

    Raises:
        AttributeError, TypeError, ValueError: they are malformed.
    """
    if len(shapings) not in (0, levels):
        raise ValueError(f"it says how to draw {len(shapings)} levels, and has {levels}")
    for name, value in [item for fields in shapings for item in fields.items()]:
        if name not in SHAPINGS or type(value) not in (int, float):
            raise ValueError(f"it draws with {name} {value!r}")
    return tuple(dict(fields) for fields in shapings)


class _Undrawn(TorchFunctionMode):
    """Draws no random numbers: torch would load its compiler to draw them on no device."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return kwargs.get("tensor", *args[:1])
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


@contextmanager
def undrawn() -> Iterator[None]:
    """Has modules made in the block be without weights, for those that will be read."""
    with torch.device("meta"), _Undrawn():
        yield


@ordinary_state()
def load(model: str | Path, device: str = "cpu") -> Model:
    """Finds and reads a model, or gives the one that is loaded already.

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
    compiling.look()
    with _loading:  # one thread, and others take what it has read
        return _loaded(registry.locate(model), device)


_loaded = lru_cache(maxsize=2)(read)
_loading = shared_lock()


def check_model_id(model_id: str) -> None:
    """Does nothing for a model id.

    Raises:
        CodecError: it is none.
    """
    if not MODEL_ID.fullmatch(model_id):
        raise CodecError(f"{model_id!r} is no model id; give 1 to 32 of a-z, 0-9, '.' and '-'")


def packed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file, floating-point tensors in float16; equal ones make equal files.

    Raises:
        CodecError: float16 cannot hold a tensor.
    """
    halves = {}
    for name, tensor in tensors.items():
        half = tensor.detach().half() if tensor.is_floating_point() else tensor
        if not torch.isfinite(half).all():
            raise CodecError(f"{name}: not finite in float16; these weights cannot be packed")
        halves[name] = half.contiguous()
    return _in_order(serialize(halves, dict(metadata)))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with sorted metadata: equal weights make equal files."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
