"""The same frequencies and samples from every instruction set, thread count and matrix product."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[2]
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VQCODEC_GEMM",
    "VQCODEC_KERNELS",
)
PLAIN = {"OMP_NUM_THREADS": "1", "VQCODEC_KERNELS": "torch"}
# Every value of every variable once, in as few processes as that takes. oneDNN ignores what a
# processor lacks; torch does not, so it is not asked for it: the matrix is as wide as the machine.
AVX512 = "avx512" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "avx2"
MATRIX = [
    {"OMP_NUM_THREADS": "2"},
    {"VQCODEC_KERNELS": "numba"},
    {"VQCODEC_KERNELS": "numba", "OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "default"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "VQCODEC_GEMM": "int8"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": AVX512},
    {"VQCODEC_GEMM": "int8", "ATEN_CPU_CAPABILITY": "avx2"},
    {"VQCODEC_GEMM": "float32", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "2"},
    {"VQCODEC_GEMM": "float64", "ATEN_CPU_CAPABILITY": "default"},
]

PROGRAM = """
import hashlib
import sys

import numpy as np
import torch
from corridor import random_indices

from vqcodec.drawing.shaping import Shaping, draw_with
from vqcodec.entropy import payload
from vqcodec.weights_file import load

model = load(sys.argv[1] + ".safetensors")
digest = hashlib.sha256()
# More rows than one call of a product takes, so that the last one is a short one.
for count, height, width in ((2, 64, 96), (5, 32, 32), (1, 512, 640)):
    indices = random_indices(model, count, height, width)
    quality = torch.arange(count) % model.qualities
    for level, prior in enumerate(model.priors):
        own, before = indices[level], indices[:level]
        label = torch.zeros_like(quality)
        state = prior.start(before, quality, label, *own.shape[2:])
        digest.update(state.parallel(own).numpy().tobytes())
        if count == 2:
            state = prior.start(before, quality, label, *own.shape[2:])
            best = lambda state, *at: state.read(*at).argmax(-1).astype(np.int32)
            likeliest = payload.find(state, best)
            digest.update(likeliest.numpy().tobytes())
            state = prior.start(before, quality, label, *own.shape[2:])
            shaping = Shaping(temperature=0.9, top_k=12, top_p=0.95)
            bits = [np.random.PCG64([level, n]) for n in range(count)]
            drawn = payload.find(state, draw_with(prior, bits, shaping))
            digest.update(drawn.numpy().tobytes())
print(torch.get_num_threads(), digest.hexdigest())
"""


def frequencies_hash(model: Path, variables: dict[str, str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    package = TESTS.parent
    environment |= {**PLAIN, **variables, "PYTHONPATH": f"{package}{os.pathsep}{TESTS}"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model.with_suffix(""))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    threads, digest = result.stdout.split()
    assert threads == environment["OMP_NUM_THREADS"]
    return digest


@pytest.fixture(scope="module")
def expected(tiny_model: Path) -> str:
    return frequencies_hash(tiny_model, {})


@pytest.mark.slow
@pytest.mark.parametrize("variables", MATRIX, ids=lambda v: "-".join(v.values()))
def test_frequencies_are_the_same(
    tiny_model: Path, expected: str, variables: dict[str, str]
) -> None:
    assert frequencies_hash(tiny_model, variables) == expected
