from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vqcodec.entropy import gemm
from vqcodec.errors import CodecError

CPU = torch.device("cpu")


@pytest.fixture
def nothing_chosen() -> Iterator[None]:
    """Forgets the products chosen before, and those that the test makes it choose."""
    gemm.chosen.cache_clear()
    yield
    gemm.chosen.cache_clear()


def operands(rows: int, inner: int, outputs: int, fill: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows + inner)
    left = torch.randint(-128, 128, (rows, inner), generator=generator)
    right = torch.randint(-63, 64, (inner, outputs), generator=generator)
    match fill:
        case "largest":
            left, right = left * 0 + 127, right * 0 + 63
        case "smallest":
            left, right = left * 0 - 128, right * 0 + 63
        case "alternating":
            left = torch.tensor([127, -128]).repeat(inner)[:inner].expand(rows, -1)
            right = torch.tensor([63, -63]).repeat(inner)[:inner, None].expand(-1, outputs)
    return left.to(torch.int8).contiguous(), right.to(torch.int8).contiguous()


@pytest.mark.parametrize("fill", ["random", "largest", "smallest", "alternating"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 80, 24), (65, 1408, 256), (17, 2, 3)])
@pytest.mark.parametrize("name", gemm.PRODUCTS)
def test_products_are_exact(name: str, shape: tuple[int, int, int], fill: str) -> None:
    left, right = operands(*shape, fill)
    expected = torch.stack([(row[:, None] * right.int()).sum(0) for row in left.int()])
    found = gemm.PRODUCTS[name](left, right)
    assert found.dtype == torch.int32
    assert torch.equal(found.long(), expected)


@pytest.mark.parametrize("name", gemm.PRODUCTS)
def test_self_test_passes_the_products(name: str) -> None:
    assert gemm.passes_self_test(gemm.PRODUCTS[name], CPU)


def one_off(left: Tensor, right: Tensor) -> Tensor:
    product = gemm.PRODUCTS["float64"](left, right)
    product[-1, -1] += 1
    return product


def saturating(left: Tensor, right: Tensor) -> Tensor:
    """Partial sums that stop at the ends of int16."""
    sums = torch.zeros(len(left), right.shape[1])
    for k in range(left.shape[1]):
        sums = (sums + left[:, k : k + 1].float() * right[k].float()).clamp(-(2**15), 2**15 - 1)
    return sums.int()


def rounding(left: Tensor, right: Tensor) -> Tensor:
    return (left.bfloat16() @ right.bfloat16()).int()


def missing(left: Tensor, right: Tensor) -> Tensor:
    raise RuntimeError("not implemented for this device")


WRONG = [one_off, saturating, rounding, missing]


@pytest.mark.parametrize("product", WRONG)
def test_self_test_catches_a_wrong_product(product: gemm.Product) -> None:
    assert not gemm.passes_self_test(product, CPU)


@pytest.mark.parametrize("product", WRONG)
def test_a_wrong_product_is_passed_over(
    product: gemm.Product, monkeypatch: pytest.MonkeyPatch, nothing_chosen: None
) -> None:
    monkeypatch.delenv("VQCODEC_GEMM", raising=False)
    monkeypatch.setitem(gemm.PRODUCTS, "int8", product)
    monkeypatch.setattr(gemm, "seconds", lambda product, device: 1.0)
    assert gemm.matrix_product(CPU) is gemm.PRODUCTS["float32"]


def test_a_far_slower_product_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, nothing_chosen: None
) -> None:
    monkeypatch.delenv("VQCODEC_GEMM", raising=False)
    taken = dict(zip(gemm.PRODUCTS.values(), (3.0, 1.0, 2.0), strict=True))
    monkeypatch.setattr(gemm, "seconds", lambda product, device: taken[product])
    assert gemm.matrix_product(CPU) is gemm.PRODUCTS["float32"]


def test_the_first_of_products_that_are_about_as_fast(
    monkeypatch: pytest.MonkeyPatch, nothing_chosen: None
) -> None:
    monkeypatch.delenv("VQCODEC_GEMM", raising=False)
    taken = dict(zip(gemm.PRODUCTS.values(), (1.9, 1.0, 2.0), strict=True))
    monkeypatch.setattr(gemm, "seconds", lambda product, device: taken[product])
    assert gemm.matrix_product(CPU) is gemm.PRODUCTS["int8"]


def test_no_exact_product(monkeypatch: pytest.MonkeyPatch, nothing_chosen: None) -> None:
    monkeypatch.setenv("VQCODEC_GEMM", "int8")
    monkeypatch.setitem(gemm.PRODUCTS, "int8", one_off)
    with pytest.raises(CodecError, match="no exact integer matrix product on cpu: tried int8"):
        gemm.matrix_product(CPU)


@pytest.mark.parametrize("name", gemm.PRODUCTS)
def test_the_environment_chooses(
    name: str, monkeypatch: pytest.MonkeyPatch, nothing_chosen: None
) -> None:
    monkeypatch.setenv("VQCODEC_GEMM", name)
    assert gemm.matrix_product(CPU) is gemm.PRODUCTS[name]


def test_the_environment_asks_for_the_impossible(
    monkeypatch: pytest.MonkeyPatch, nothing_chosen: None
) -> None:
    monkeypatch.setenv("VQCODEC_GEMM", "int4")
    with pytest.raises(CodecError, match="VQCODEC_GEMM=int4: must be one of int8, float32"):
        gemm.matrix_product(CPU)


def test_sums_beyond_float32_take_float64(
    monkeypatch: pytest.MonkeyPatch, nothing_chosen: None
) -> None:
    monkeypatch.setenv("VQCODEC_GEMM", "float32")
    left = torch.full((1, 5632), 127, dtype=torch.int8)
    left[0, 0] = 1
    right = torch.full((5632, 8), 63, dtype=torch.int8)
    largest = 5632 * 63 * 128
    assert largest > gemm.EXACT_SUM
    product = gemm.matrix_product(CPU, largest)
    assert product(left, right).tolist() == [[(5631 * 127 + 1) * 63] * 8]
    assert gemm.matrix_product(CPU, gemm.EXACT_SUM - 1) is gemm.PRODUCTS["float32"]
