"""Exact int8 matrix products.

Three ways that give the same integers: the processor's int8 product, and float32 or float64
products over integer values, exact because no sum can leave the mantissa (where one could leave
that of float32, float64 is taken). Of those that pass a self-test with extreme values
the first one is used that is not far slower than another: int8 products are the fastest where the
processor has instructions for them, and many times slower than float32 where it has not.

Weights lie in [-63, 63]: processors without VNNI add pairs of products in saturating int16, and
with weights beyond +-64 the int8 product is silently wrong there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.spec.prior import WEIGHT_LIMIT
from vqcodec.threads import single

EXACT_SUM = 2**24  # below it every partial sum is exact in float32, in any order
FAR_SLOWER = 2.0
CUDA_MULTIPLE = 8  # of both sides of the right matrix, says cuBLAS
CUDA_ROWS = 17  # more than 16 of the left one

Product = Callable[[Tensor, Tensor], Tensor]


def _int8(left: Tensor, right: Tensor) -> Tensor:
    if left.is_cuda and any(side % CUDA_MULTIPLE for side in right.shape):
        return _float64(left, right)
    if left.is_cuda and len(left) < CUDA_ROWS:
        padded = torch.zeros(CUDA_ROWS, left.shape[1], dtype=torch.int8, device=left.device)
        padded[: len(left)] = left
        return torch._int_mm(padded, right)[: len(left)]
    return torch._int_mm(left, right)


def _float32(left: Tensor, right: Tensor) -> Tensor:
    # Autocast leaves alone what has a place for its result. Narrower floats, if the caller allows
    # them, hold these integers, and sums are in float32.
    sums = torch.empty(len(left), right.shape[1], dtype=torch.float32, device=left.device)
    return torch.mm(left.float(), right.float(), out=sums).int()


def _float64(left: Tensor, right: Tensor) -> Tensor:
    return (left.double() @ right.double()).int()


PRODUCTS: dict[str, Product] = {"int8": _int8, "float32": _float32, "float64": _float64}


def passes_self_test(product: Product, device: torch.device) -> bool:
    """Whether a product is exact for random and for extreme values.

    The reference is computed in int64 without any matrix routine.
    """
    generator = torch.Generator().manual_seed(0)
    for rows, inner, outputs in ((1, 8, 8), (17, 640, 256), (64, 1408, 64)):
        left = torch.randint(-128, 128, (rows, inner), generator=generator)
        right = torch.randint(
            -WEIGHT_LIMIT, WEIGHT_LIMIT + 1, (inner, outputs), generator=generator
        )
        left[0] = 127  # sums as large as they get
        left[-1, ::2] = -128
        right[:, 0] = WEIGHT_LIMIT
        right[:, 1] = -WEIGHT_LIMIT
        expected = torch.stack([(row[:, None] * right).sum(0) for row in left])
        try:
            found = product(left.to(device, torch.int8), right.to(device, torch.int8))
        except (RuntimeError, AttributeError):
            return False
        if not torch.equal(found.cpu().long(), expected):
            return False
    return True


def seconds(product: Product, device: torch.device) -> float:
    """The least time that a product of the wavefront's typical size took, of a few.

    In one thread: several wait for each other where another program has one of the cores, and then
    it says nothing.
    """
    left = torch.ones(32, 640, dtype=torch.int8, device=device)
    right = torch.ones(640, 256, dtype=torch.int8, device=device)
    taken = []
    with single():
        for _ in range(6):
            start = time.perf_counter()
            product(left, right)
            taken.append(time.perf_counter() - start)
    return min(taken)


@cache
def chosen(device: str, wanted: str | None) -> Product:
    """`matrix_product` for any sum, found once for a device and a wish."""
    names = [wanted] if wanted else list(PRODUCTS)
    place = torch.device(device)
    exact = []
    for name in names:
        if name not in PRODUCTS:
            raise CodecError(f"VQCODEC_GEMM={name}: must be one of {', '.join(PRODUCTS)}")
        if passes_self_test(PRODUCTS[name], place):
            exact.append(PRODUCTS[name])
    if not exact:
        raise CodecError(f"no exact integer matrix product on {device}: tried {', '.join(names)}")
    if len(exact) == 1 or place.type != "cpu":
        return exact[0]
    taken = [seconds(product, place) for product in exact]
    return next(
        product
        for product, each in zip(exact, taken, strict=True)
        if each <= FAR_SLOWER * min(taken)
    )


def matrix_product(device: torch.device, largest_sum: int = 0) -> Product:
    """The product to use on a device: int8 [P, K] x int8 [K, N] -> int32 [P, N].

    The environment variable VQCODEC_GEMM (int8, float32 or float64) asks for one of them.

    Args:
        device: Where the matrices are.
        largest_sum: Largest sum of absolute products that can occur, below 2**31. From `EXACT_SUM`
            on, float64 takes the place of float32.

    Raises:
        CodecError: none is exact there.
    """
    product = chosen(str(device), os.environ.get("VQCODEC_GEMM"))
    return _float64 if product is _float32 and largest_sum >= EXACT_SUM else product
