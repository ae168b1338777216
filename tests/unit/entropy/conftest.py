"""All ways of computing a prior, and of coding, are held to the same tests."""

from __future__ import annotations

import pytest
import torch

from vqcodec import compiling, kernels


@pytest.fixture(params=["torch", "numba"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Priors computed by PyTorch, then by compiled code."""
    way: str = request.param
    monkeypatch.setenv("VQCODEC_KERNELS", way)
    compiling.look()
    assert kernels.usable(torch.device("cpu")) == (way == "numba")
    return way


@pytest.fixture(params=["constriction", "own, plain", "own, compiled"])
def each_coder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Payloads coded by constriction, then by code of our own."""
    coder, _, way = request.param.partition(", ")
    if coder == "constriction":
        pytest.importorskip("constriction", reason="constriction is not made for this machine")
    monkeypatch.setenv("VQCODEC_CODER", coder)
    monkeypatch.setenv("VQCODEC_KERNELS", "torch" if way == "plain" else "numba")
    compiling.look()
    return coder
