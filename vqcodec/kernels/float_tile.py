"""The innermost product of floats: a few rows of inputs by the filters of a block.

    sums[r, f] = inputs[r, 0] * filters[0, f] + inputs[r, 1] * filters[1, f] + ...

Filters lie in blocks: of `Way.filters` filters the first weight each, then the next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

FLOAT, LONG = ir.FloatType(), ir.IntType(64)
BYTES = 4  # of a float


class Way(NamedTuple):
    """How many sums stay in the processor's registers.

    Attributes:
        lanes: Filters of a vector.
        vectors: Vectors of a block.
        rows: Of inputs.
    """

    lanes: int
    vectors: int
    rows: int

    @property
    def filters(self) -> int:
        """Of a block."""
        return self.lanes * self.vectors


def best_way(features: str) -> Way:
    """The fastest way for a processor with such features, a text such as `+avx2,-avx512f`."""
    has = {each[1:] for each in features.split(",") if each.startswith("+")}
    if "avx512f" in has:
        return Way(16, 2, 12)
    if "avx2" in has:
        return Way(8, 2, 6)
    return Way(4, 2, 4)


def tile(way: Way, rows: int) -> Any:
    """A function that compiled functions call, for so many rows.

    Its arguments are integers: the address of the sums, float32, and of their next row from there;
    the address of the inputs, float32, and of their next row from there; the address of the block
    of filters; and the number of inputs, at least 1.
    """

    @intrinsic
    def of_rows(
        context: Any,
        sums: Any,
        next_sums: Any,
        inputs: Any,
        next_inputs: Any,
        block: Any,
        count: Any,
    ) -> Any:
        signature = types.void(*(types.intp for _ in range(6)))

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            sums, next_sums, inputs, next_inputs, block, count = arguments
            vector = ir.VectorType(FLOAT, way.lanes)
            undefined = ir.Constant(vector, ir.Undefined)
            zero = ir.Constant(vector, [0.0] * way.lanes)
            first = ir.Constant(ir.VectorType(ir.IntType(32), way.lanes), [0] * way.lanes)
            starts = [
                builder.add(inputs, builder.mul(next_inputs, LONG(row))) for row in range(rows)
            ]
            before = builder.block
            loop = builder.append_basic_block("input")
            after = builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            n = builder.phi(LONG)
            n.add_incoming(LONG(0), before)
            totals = [[builder.phi(vector) for _ in range(way.vectors)] for _ in range(rows)]
            here = builder.add(block, builder.mul(n, LONG(BYTES * way.filters)))
            weights = [
                builder.load(
                    builder.inttoptr(
                        builder.add(here, LONG(BYTES * way.lanes * v)), vector.as_pointer()
                    ),
                    align=4,
                )
                for v in range(way.vectors)
            ]
            for row, start in zip(totals, starts, strict=True):
                place = builder.add(start, builder.mul(n, LONG(BYTES)))
                one = builder.load(builder.inttoptr(place, FLOAT.as_pointer()), align=4)
                spread = builder.shuffle_vector(
                    builder.insert_element(undefined, one, ir.IntType(32)(0)), undefined, first
                )
                for total, some in zip(row, weights, strict=True):
                    total.add_incoming(zero, before)
                    product = builder.fmul(spread, some, flags=("fast",))
                    total.add_incoming(builder.fadd(total, product, flags=("fast",)), loop)
            following = builder.add(n, LONG(1))
            n.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
            builder.position_at_end(after)
            for r, row in enumerate(totals):
                start = builder.add(sums, builder.mul(next_sums, LONG(r)))
                for v, total in enumerate(row):
                    place = builder.add(start, LONG(BYTES * way.lanes * v))
                    final = total.incomings[1][0]
                    builder.store(final, builder.inttoptr(place, vector.as_pointer()), align=4)
            return context.get_dummy_value()

        return signature, emit

    return of_rows
