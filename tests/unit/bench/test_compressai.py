"""CompressAI's models: with a package in its place, and with itself where it is installed."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vqcodec.bench import compressai
from vqcodec.errors import CodecError

PACKAGE = '''
"""Imports what CompressAI imports, and has one model that writes down its calls."""

import torchvision.transforms
import torch_geometric.transforms
from einops import rearrange, repeat
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from tqdm import tqdm
import pandas as pd

NAMES = {k: v for k, v in torchvision.transforms.__dict__.items() if k[0].isupper()}

@functional_transform("moved")
class Moved(BaseTransform):
    def __call__(self, cloud: Data) -> Data:
        return cloud

assert isinstance(Moved, type)
'''

ZOO = """
from pathlib import Path

import torch
from torch import nn

from compressai import Moved


class Bottleneck(nn.Module):
    def __init__(self, channels, init_scale=10.0):
        super().__init__()
        self.channels, self.init_scale = channels, init_scale
        self.biases = nn.ParameterList([nn.Parameter(torch.ones(channels))])


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.g_a = nn.Sequential(nn.Conv2d(3, 8, 5, 16, 2), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.entropy_bottleneck = Bottleneck(8)
        self.updated = 0

    def update(self, force, update_quantiles):
        assert force and update_quantiles and self.entropy_bottleneck.init_scale < 1
        self.updated += 1

    def note(self, call):
        with Path(__file__).with_name("calls").open("a") as calls:
            print(call, file=calls)

    def compress(self, x):
        assert self.updated == 1 and torch.get_num_threads() == 1 and not torch.is_grad_enabled()
        self.note("compress")
        symbols = self.g_a(x).round().to(torch.int8)
        return {"strings": [[symbols.numpy().tobytes()], [b"side"]], "shape": symbols.shape[2:]}

    def decompress(self, strings, shape):
        self.note("decompress")
        assert strings[1] == [b"side"]
        assert len(strings[0][0]) == 8 * shape[0] * shape[1]


def only(quality, pretrained):
    assert quality == 3 and not pretrained
    return Model()


image_models = {"mbt2018": only}
"""


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of CompressAI's name, which the measuring process finds as well."""
    folder = tmp_path / "packages" / "compressai"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "zoo.py").write_text(ZOO)
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def test_measures_the_strings_and_both_ways_warm(package: Path, photograph: Path) -> None:
    assert compressai.available() is None
    found = compressai.measure("mbt2018", photograph, runs=2, threads=1)
    # 40x70 is extended to 64x128: 4x8 positions of 8 channels.
    assert found["bytes"] == 4 * 8 * 8 + len("side")
    for way in ("encode", "decode"):
        seconds, peak = found[f"{way}_seconds"], found[f"{way}_peak"]
        assert seconds is not None
        assert seconds > 0
        assert (peak is not None) == os.path.exists("/proc/self/status")
    # Once each to warm up.
    assert (package / "calls").read_text().split() == ["compress"] * 3 + ["decompress"] * 3
    # The stand-ins are in the measuring process alone.
    assert "torch_geometric" not in sys.modules


def test_package_that_cannot_be_loaded(package: Path, photograph: Path) -> None:
    (package / "zoo.py").write_text("from torch import nothing_like_this")
    with pytest.raises(CodecError, match=r"CompressAI cannot be loaded \(ImportError: .*pip"):
        compressai.measure("mbt2018", photograph, runs=1, threads=1)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert compressai.available() == "compressai is not installed"


class Bottleneck(nn.Module):
    def __init__(self, channels: int, init_scale: float = 10.0) -> None:
        super().__init__()
        self.channels, self.init_scale = channels, init_scale
        self.biases = nn.ParameterList([nn.Parameter(torch.ones(channels))])


@torch.no_grad()
def test_plausible_models_code_a_share_of_symbols_that_are_not_zero() -> None:
    torch.manual_seed(0)
    analysis = nn.Sequential(nn.Conv2d(3, 16, 5, 4, 2), nn.ReLU(), nn.Conv2d(16, 12, 1))
    model = SimpleNamespace(
        g_a=analysis,
        h_a=nn.Sequential(nn.Conv2d(12, 6, 3, 1, 1)),
        entropy_parameters=nn.Sequential(nn.Conv2d(4, 8, 1)),
        entropy_bottleneck=Bottleneck(6),
    )
    means = model.entropy_parameters[-1].bias[4:].clone()
    images = torch.rand(1, 3, 128, 128)
    assert (analysis(images).round() != 0).float().mean() < compressai.NONZERO / 5

    compressai.make_plausible(model, images)
    latents = analysis(images)
    for symbols in (latents.round(), model.h_a(latents).round()):
        share = float((symbols != 0).float().mean())
        assert share == pytest.approx(compressai.NONZERO, rel=0.05)
        assert torch.equal(symbols.median(), torch.tensor(0.0))
    deviations, kept = model.entropy_parameters[-1].bias.chunk(2)
    assert torch.equal(deviations, torch.full((4,), compressai.DEVIATION))
    assert torch.equal(kept, means)
    assert model.entropy_bottleneck.channels == 6
    assert not model.entropy_bottleneck.biases[0].any()


@pytest.mark.skipif(compressai.available() is not None, reason="compressai is not installed")
@pytest.mark.parametrize("name", compressai.MODELS)
def test_compressai_itself(name: str, photograph: Path) -> None:
    found = compressai.measure(name, photograph, runs=1, threads=1)
    assert found["bytes"]
    assert found["decode_seconds"]
