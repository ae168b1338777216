"""CompressAI's models with random weights: for the time they take, not for what they code.

No weights are downloaded. As drawn, random weights round every symbol to zero, so the last layers
are scaled until as many symbols are not zero, at about the cost in bits, as of trained models; the
strings are real, and so is the way through the range coder. Seconds of the autoregressive models
hardly depend on it: they go into a pass of the networks a position.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqcodec.bench.cost import measured
from vqcodec.bench.images import picture
from vqcodec.bench.processes import fresh
from vqcodec.errors import CodecError

MODELS = ("bmshj2018-factorized", "mbt2018", "cheng2020-anchor")
QUALITY = 3
SETTINGS = f"quality {QUALITY}, random weights"
REMEDY = "pip install --no-deps compressai"

STRIDE = 64  # pixels that sides are extended to a multiple of, for the hyperpriors
NONZERO = 0.05  # share of the symbols
# Standard deviation of a normal distribution that has so many outside of -0.5..0.5.
DEVIATION = 0.5 / 1.96

# CompressAI imports these for point clouds, data sets and downloads. Its pins of them would replace
# numpy by an older one, and torchvision does not load beside every build of torch.
NEVER_USED = frozenset({"einops", "pandas", "requests", "torch_geometric", "torchvision", "tqdm"})


def available() -> str | None:
    """Why the models cannot be run here, or None if they can; `REMEDY` helps."""
    if importlib.util.find_spec("compressai") is None:
        return "compressai is not installed"
    return None


def described(name: str) -> dict[str, str]:
    """How the results list a model."""
    return {"key": name, "name": f"{name} (CompressAI)", "settings": SETTINGS, "measured": "speed"}


def measure(name: str, source: Path, runs: int, threads: int) -> dict[str, float | int | None]:
    """Measures a model on an image, warm, in a process of its own.

    Args:
        name: One of `MODELS`.
        source: Image file.
        runs: How often to compress and to decompress, after once to warm up.
        threads: Of torch.

    Returns:
        `encode_seconds` and `decode_seconds`, medians; `encode_peak` and `decode_peak`, in bytes,
        None where the system does not tell; `bytes` of the strings.

    Raises:
        CodecError: the image is unreadable, or CompressAI cannot be loaded.
    """
    with fresh() as process:
        return process.submit(_measure, name, source, runs, threads).result()


# In the process


class _Unused:
    """Stands for any class, function or decorator."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __call__(self, decorated: object) -> object:
        return decorated


class _StandIn(ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> type[_Unused]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unused


class _StandIns(MetaPathFinder, Loader):
    """Finds stand-ins for the packages that are never used."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in NEVER_USED:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _load(name: str) -> Any:
    """A model with random weights, the same ones each time."""
    sys.meta_path.insert(0, _StandIns())
    try:
        models = importlib.import_module("compressai.zoo").image_models
    except Exception as error:  # a release may want more than it did
        reason = f"cannot be loaded ({type(error).__name__}: {error})"
        raise CodecError(f"CompressAI {reason}; {REMEDY}") from error
    torch.manual_seed(0)
    return models[name](quality=QUALITY, pretrained=False).eval()


def _measure(name: str, source: Path, runs: int, threads: int) -> dict[str, float | int | None]:
    torch.set_num_threads(threads)
    model = _load(name)
    images = torch.from_numpy(picture(source).copy()).permute(2, 0, 1)[None] / 255
    height, width = images.shape[2:]
    images = F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE))
    with torch.no_grad():
        make_plausible(model, images)
        model.update(force=True, update_quantiles=True)
        model.compress(images)
        coded, encode = measured(lambda: model.compress(images), runs)
        model.decompress(**coded)
        _, decode = measured(lambda: model.decompress(**coded), runs)
    return {
        "encode_seconds": encode.seconds,
        "decode_seconds": decode.seconds,
        "encode_peak": encode.peak,
        "decode_peak": decode.peak,
        "bytes": sum(len(string) for strings in coded["strings"] for string in strings),
    }


def make_plausible(model: Any, images: Tensor) -> None:
    """Scales last layers so that a model codes an image as a trained one would, more or less.

    Args:
        model: Changed in place. Its analysis is `g_a`, and `h_a` that of its hyperprior, if any.
        images: float32 [1, 3, H, W] in 0..1.
    """
    latents = _scale_symbols(model.g_a, images)
    if hasattr(model, "h_a"):
        _scale_symbols(model.h_a, latents)
        deviations, _ = model.entropy_parameters[-1].bias.chunk(2)
        deviations.fill_(DEVIATION)
    # A logistic distribution around 0, of the same deviation.
    known = model.entropy_bottleneck
    bottleneck = type(known)(known.channels, init_scale=DEVIATION * math.sqrt(3) / math.pi)
    for bias in bottleneck.biases:
        bias.zero_()
    model.entropy_bottleneck = bottleneck.eval()


def _scale_symbols(analysis: nn.Sequential, images: Tensor) -> Tensor:
    """Centres the channels of an analysis and scales them to the share of symbols; gives them."""
    last: Any = analysis[-1]
    found = analysis(images)
    means = found.mean((0, 2, 3))
    apart = (found - means.view(1, -1, 1, 1)).abs().numpy()
    factor = 0.5 / float(np.quantile(apart, 1 - NONZERO))
    last.bias.copy_(factor * (last.bias - means))
    last.weight.mul_(factor)
    scaled: Tensor = analysis(images)
    return scaled
