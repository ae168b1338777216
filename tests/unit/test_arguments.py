from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vqcodec.arguments import real, whole
from vqcodec.errors import CodecError


@pytest.mark.parametrize("value", [5, np.int64(5), np.uint8(5)])
def test_whole_numbers_of_any_kind(value: Any) -> None:
    found = whole(value, "quality")
    assert found == 5
    assert type(found) is int


@pytest.mark.parametrize("value", [50.5, 5.0, "50", True, None, np.float32(5), [5]])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(CodecError, match=r"quality .* is no whole number; give one"):
        whole(value, "quality")


@pytest.mark.parametrize("value", [5, 5.0, np.float32(5), np.int64(5)])
def test_numbers_of_any_kind(value: Any) -> None:
    assert real(value, "size") == 5.0


@pytest.mark.parametrize("value", ["40kB", b"5", True, None, [5], 10**400])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(CodecError, match=r"size .* is no number; give one"):
        real(value, "size")
