"""Both ways of computing a prior are held to the same tests."""

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
