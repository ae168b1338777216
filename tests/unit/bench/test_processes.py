"""New processes and their environment."""

from __future__ import annotations

import os

import pytest

from vqcodec.bench.processes import fresh


def test_environment_reaches_the_process_and_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQCODEC_GEMM", "float32")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    variables = {"VQCODEC_GEMM": None, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    with fresh(variables=variables) as process:
        for name, value in variables.items():
            assert process.submit(os.getenv, name).result() == value
    assert os.environ["VQCODEC_GEMM"] == "float32"
    assert "ONEDNN_MAX_CPU_ISA" not in os.environ
