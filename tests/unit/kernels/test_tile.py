"""The innermost product, every way that this processor knows, against sums in int64."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import binding, ir
from numba import njit

from vqcodec.kernels.tile import FILTERS, QUAD, WAYS, Way, _dot, best_way, processor, tile
from vqcodec.spec.prior import WEIGHT_LIMIT

HERE = {each[1:] for each in processor()[1].split(",") if each.startswith("+")}


@pytest.mark.parametrize("way", [way for way in WAYS if way.features <= HERE], ids=lambda w: w.name)
@pytest.mark.parametrize("whole", [True, False])
def test_sums_are_exact(way: Way, whole: bool) -> None:
    rows, quads = way.rows if whole else 1, 37
    of_rows = tile(way, rows)
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, 256, (rows, QUAD * quads)).astype(np.uint8)
    weights = generator.integers(-WEIGHT_LIMIT, WEIGHT_LIMIT + 1, (QUAD * quads, FILTERS))
    inputs[0] = 255  # the largest sums there are
    weights[:, 0], weights[:, 1] = WEIGHT_LIMIT, -WEIGHT_LIMIT
    blocked = weights.reshape(quads, QUAD, FILTERS).transpose(0, 2, 1).astype(np.int8).copy()
    sums = np.zeros((rows, FILTERS), np.int32)

    @njit
    def run(sums, inputs, blocked, quads):  # type: ignore[no-untyped-def]
        of_rows(
            sums.ctypes.data,
            4 * sums.shape[1],
            inputs.ctypes.data,
            inputs.shape[1],
            blocked.ctypes.data,
            quads,
        )

    run(sums, inputs, blocked, quads)
    assert np.array_equal(sums, inputs.astype(np.int64) @ weights)


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ("", "portable"),
        ("+sse2,+ssse3", "SSSE3"),
        ("+ssse3,+avx2,-avx512f", "AVX2"),
        ("+ssse3,+avx2,+avxvnni", "AVX-VNNI"),
        ("+avx2,+avx512f,+avx512bw,-avx512vnni", "AVX2"),
        ("+avx2,+avx512f,+avx512bw,+avx512vnni", "AVX-512 VNNI"),
        ("+neon,+dotprod", "portable"),
    ],
)
def test_the_best_way_of_a_processor(features: str, name: str) -> None:
    assert best_way(features).name == name


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_llvm_knows_the_words_of_every_way(way: Way) -> None:
    """Also those that this processor lacks: their types have changed between releases."""
    module = ir.Module()
    sums, quads = (
        ir.VectorType(ir.IntType(32), way.lanes),
        ir.VectorType(ir.IntType(8), 4 * way.lanes),
    )
    function = ir.Function(module, ir.FunctionType(sums, [sums, quads, quads]), "add")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(_dot(builder, way)(*function.args))
    binding.parse_assembly(str(module)).verify()
