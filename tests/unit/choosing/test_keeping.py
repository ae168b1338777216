from __future__ import annotations

from dataclasses import dataclass

import pytest

from vqcodec.choosing.keeping import (
    FLOOR_BYTES,
    NEAR,
    PLAIN_BPP,
    check_no_target,
    checked_lossless,
    kept,
)
from vqcodec.errors import CodecError, TooGoodError

PIXELS = 8000


@dataclass(frozen=True)
class File:
    data: bytes
    name: str


class Ways:
    """Files of given sizes, and which were made."""

    def __init__(self, quick: int, thorough: int, lossy: int) -> None:
        self.sizes = {"quick": quick, "thorough": thorough, "lossy": lossy}
        self.made: list[str] = []
        self.plain: bool | None = None

    def make(self, name: str) -> File:
        self.made.append(name)
        return File(bytes(self.sizes[name]), name)

    def lossless(self, quick: bool) -> File:
        return self.make("quick" if quick else "thorough")

    def lossy(self, plain: bool) -> File:
        self.plain = plain
        return self.make("lossy")

    def kept(self, limit: float | None = None) -> str:
        return kept(self.lossless, self.lossy, PIXELS, limit).name


@pytest.mark.parametrize(
    ("quick", "thorough", "lossy", "expected"),
    [
        (2000, 1900, 1900, "thorough"),
        (2000, 1901, 1900, "lossy"),
        (2000, 2100, 2000, "quick"),
        (1001, 900, 1000, "thorough"),
        (20000, 900, 1000, "lossy"),  # which is not tried: nothing saves as much
    ],
)
def test_the_smaller_one_is_kept(quick: int, thorough: int, lossy: int, expected: str) -> None:
    assert Ways(quick, thorough, lossy).kept() == expected


def test_photographs_cost_the_quick_one_alone() -> None:
    ways = Ways(round(NEAR * 1000) + 1, 0, 1000)
    assert ways.kept() == "lossy"
    assert ways.made == ["quick", "lossy"]


def test_the_lossy_one_is_not_made_of_what_is_tiny() -> None:
    ways = Ways(FLOOR_BYTES, FLOOR_BYTES - 5, 1)
    assert ways.kept() == "thorough"
    assert ways.made == ["quick", "thorough"]


@pytest.mark.parametrize(
    ("limit", "expected"), [(5000, "thorough"), (1900, "thorough"), (1899, "lossy")]
)
def test_what_fits_a_size_is_kept(limit: int, expected: str) -> None:
    ways = Ways(2000, 1900, 10)
    assert ways.kept(limit) == expected
    assert ("lossy" in ways.made) == (expected == "lossy")


@pytest.mark.parametrize(("thorough", "expected"), [(18000, "thorough"), (21000, "quick")])
def test_what_no_lossy_one_reaches(thorough: int, expected: str) -> None:
    class Poor(Ways):
        def lossy(self, plain: bool) -> File:
            raise TooGoodError("out of reach")

    assert Poor(20000, thorough, 0).kept() == expected


@pytest.mark.parametrize(("bpp", "plain"), [(PLAIN_BPP - 1, True), (PLAIN_BPP + 1, False)])
def test_plain_images_are_told_apart(bpp: float, plain: bool) -> None:
    ways = Ways(round(bpp * PIXELS / 8), 10**6, 100)
    ways.kept()
    assert ways.plain is plain


def test_other_words() -> None:
    assert checked_lossless("never") == "never"
    with pytest.raises(CodecError, match="no lossless 'sometimes'; give auto, always or never"):
        checked_lossless("sometimes")


def test_what_has_no_target() -> None:
    check_no_target(quality=None, size=None)
    with pytest.raises(CodecError, match=r"size has no meaning .*; leave one of them out"):
        check_no_target(quality=None, size=5)
