"""The innermost product: a few rows of int8 inputs by sixteen filters, in the processor's words.

    sums[r, f] = inputs[r, 0] * filters[0, f] + inputs[r, 1] * filters[1, f] + ...

Inputs come as bytes from 0 to 255, 128 above their values, and filters lie in [-63, 63] and in
blocks: of sixteen filters four weights each, then the next four. That is what the processors' dot
products of four bytes take (VNNI), and what the older multiplication of unsigned by signed bytes
takes, whose sums of two are at most 255 * 63 * 2, so that they never saturate its 16 bits. What the
128 add to a sum is taken off afterwards.

Where a processor has neither, vectors in LLVM's general terms do the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

FILTERS = 16  # of a block
QUAD = 4  # weights of a filter that lie together

BYTE, SHORT, WORD, LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))


class Way(NamedTuple):
    """A way to multiply.

    Attributes:
        name: What to call it.
        features: What the processor must have, in LLVM's names.
        lanes: Filters of a vector.
        rows: As many as keep their sums in registers.
    """

    name: str
    features: frozenset[str]
    lanes: int
    rows: int


WAYS = (
    Way("AVX-512 VNNI", frozenset({"avx512f", "avx512bw", "avx512vnni"}), 16, 8),
    Way("AVX-VNNI", frozenset({"avx2", "avxvnni"}), 8, 6),
    Way("AVX2", frozenset({"avx2"}), 8, 6),
    Way("SSSE3", frozenset({"ssse3"}), 4, 2),
    Way("portable", frozenset(), 4, 3),
)


def processor() -> tuple[str, str]:
    """Name and features that code is compiled for: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES, if set.

    Features are a text such as `+avx2,-avx512f`.
    """
    _, name, features = cpu_target.target_context.codegen().magic_tuple()
    return name, features


def best_way(features: str) -> Way:
    """The fastest way for a processor."""
    has = {each[1:] for each in features.split(",") if each.startswith("+")}
    return next(way for way in WAYS if way.features <= has)


def _dot(builder: ir.IRBuilder, way: Way) -> Callable[[ir.Value, ir.Value, ir.Value], ir.Value]:
    """What adds to sums, of a vector's filters, the products of four inputs and weights each."""
    sums = ir.VectorType(WORD, way.lanes)
    pairs = ir.VectorType(SHORT, 2 * way.lanes)
    quads = ir.VectorType(BYTE, 4 * way.lanes)

    def declared(name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
        module = builder.module
        return module.globals.get(name) or ir.Function(
            module, ir.FunctionType(result, arguments), name
        )

    def neighbours(values: ir.Value, wide: ir.VectorType) -> ir.Value:
        """Sums of neighbours."""
        halves = (
            builder.shuffle_vector(
                values,
                ir.Constant(values.type, ir.Undefined),
                ir.Constant(ir.VectorType(WORD, wide.count), list(range(odd, 2 * wide.count, 2))),
            )
            for odd in (0, 1)
        )
        first, second = (half if half.type == wide else builder.sext(half, wide) for half in halves)
        return builder.add(first, second)

    if "VNNI" in way.name:
        # LLVM 20 knows it of words alone; later ones, of bytes, read that as well.
        vnni = declared(f"llvm.x86.avx512.vpdpbusd.{32 * way.lanes}", sums, [sums, sums, sums])

        def at_once(total: ir.Value, *operands: ir.Value) -> ir.Value:
            words = [builder.bitcast(operand, sums) for operand in operands]
            return builder.call(vnni, [total, *words])

        return at_once
    if way.name == "portable":

        def portable(total: ir.Value, inputs: ir.Value, weights: ir.Value) -> ir.Value:
            wide = ir.VectorType(SHORT, 4 * way.lanes)
            products = builder.mul(builder.zext(inputs, wide), builder.sext(weights, wide))
            return builder.add(total, neighbours(neighbours(products, pairs), sums))

        return portable
    of_bytes, of_shorts = {
        "AVX2": ("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd"),
        "SSSE3": ("llvm.x86.ssse3.pmadd.ub.sw.128", "llvm.x86.sse2.pmadd.wd"),
    }[way.name]
    two = declared(of_bytes, pairs, [quads, quads])
    four = declared(of_shorts, sums, [pairs, pairs])
    ones = ir.Constant(pairs, [1] * pairs.count)

    def in_two_steps(total: ir.Value, inputs: ir.Value, weights: ir.Value) -> ir.Value:
        found = builder.call(two, [inputs, weights])
        return builder.add(total, builder.call(four, [found, ones]))

    return in_two_steps


def tile(way: Way, rows: int) -> Any:
    """A function that compiled functions call, for so many rows.

    Its arguments are integers: the address of the sums, int32, and of their next row from there;
    the address of the inputs, uint8, and of their next row from there; the address of the block of
    filters; and the number of quads, at least 1.
    """

    @intrinsic
    def of_rows(
        context: Any,
        sums: Any,
        next_sums: Any,
        inputs: Any,
        next_inputs: Any,
        block: Any,
        quads: Any,
    ) -> Any:
        signature = types.void(*(types.intp for _ in range(6)))

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            sums, next_sums, inputs, next_inputs, block, quads = arguments
            vectors = FILTERS // way.lanes
            vector = ir.VectorType(WORD, way.lanes)
            weights = ir.VectorType(BYTE, 4 * way.lanes)
            undefined = ir.Constant(vector, ir.Undefined)
            dot = _dot(builder, way)
            starts = [
                builder.add(inputs, builder.mul(next_inputs, LONG(row))) for row in range(rows)
            ]
            before = builder.block
            loop = builder.append_basic_block("quad")
            after = builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            quad = builder.phi(LONG)
            quad.add_incoming(LONG(0), before)
            totals = [[builder.phi(vector) for _ in range(vectors)] for _ in range(rows)]
            here = builder.add(block, builder.mul(quad, LONG(FILTERS * QUAD)))
            loaded = [
                builder.load(
                    builder.inttoptr(
                        builder.add(here, LONG(QUAD * way.lanes * n)), weights.as_pointer()
                    ),
                    align=1,
                )
                for n in range(vectors)
            ]
            for row, start in zip(totals, starts, strict=True):
                place = builder.add(start, builder.mul(quad, LONG(QUAD)))
                four = builder.load(builder.inttoptr(place, WORD.as_pointer()), align=1)
                spread = builder.shuffle_vector(
                    builder.insert_element(undefined, four, WORD(0)),
                    undefined,
                    ir.Constant(vector, [0] * way.lanes),
                )
                spread = builder.bitcast(spread, weights)
                for total, some in zip(row, loaded, strict=True):
                    total.add_incoming(ir.Constant(vector, [0] * way.lanes), before)
                    total.add_incoming(dot(total, spread, some), loop)
            following = builder.add(quad, LONG(1))
            quad.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, quads), loop, after)
            builder.position_at_end(after)
            for n, row in enumerate(totals):
                start = builder.add(sums, builder.mul(next_sums, LONG(n)))
                for m, total in enumerate(row):
                    place = builder.add(start, LONG(4 * way.lanes * m))
                    final = total.incomings[1][0]
                    builder.store(final, builder.inttoptr(place, vector.as_pointer()), align=1)
            return context.get_dummy_value()

        return signature, emit

    return of_rows
