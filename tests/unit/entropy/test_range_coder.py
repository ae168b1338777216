"""Which range coder is used, and whether its compiled form may be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vqcodec import codec
from vqcodec.entropy import coder, range_coder
from vqcodec.errors import CodecError
from vqcodec.kernels import range_coder as compiled
from vqcodec.spec.prior import TOTAL

GOLDEN = Path(__file__).parents[2] / "golden"
PROGRAM = """
import sys

sys.modules |= dict.fromkeys({missing})

from pathlib import Path

import vqcodec

model, file = map(Path, sys.argv[1:])
restored = vqcodec.decompress(file.read_bytes(), model=model)
compressed = vqcodec.compress(restored, lossless="never", model=model)
again = vqcodec.decompress(compressed.data, model=model)
assert restored.pixels.shape == again.pixels.shape
sys.stdout.buffer.write(compressed.data + again.pixels.tobytes())
"""


@pytest.fixture
def without_constriction(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that cannot import it."""
    monkeypatch.setitem(sys.modules, "constriction", None)
    monkeypatch.delitem(sys.modules, "vqcodec.entropy.constriction_coder", raising=False)
    monkeypatch.delattr("vqcodec.entropy.constriction_coder", raising=False)
    coder.chosen.cache_clear()
    yield
    coder.chosen.cache_clear()


def test_constriction_codes_where_it_is() -> None:
    pytest.importorskip("constriction", reason="constriction is not made for this machine")
    assert coder.chosen(None).__name__ == "vqcodec.entropy.constriction_coder"


@pytest.mark.usefixtures("without_constriction")
def test_our_own_codes_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(coder.CHOICE, raising=False)
    assert isinstance(coder.Encoder()._coder, range_coder.RangeEncoder)
    assert isinstance(coder.Decoder(b"")._coder, range_coder.RangeDecoder)


@pytest.mark.usefixtures("without_constriction")
def test_constriction_cannot_be_asked_for_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(coder.CHOICE, "constriction")
    for start in (coder.Encoder, lambda: coder.Decoder(b"")):
        with pytest.raises(CodecError, match=r"=constriction: import of .*; install constriction"):
            start()


def test_a_coder_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(coder.CHOICE, "huffman")
    with pytest.raises(CodecError, match="VQCODEC_CODER=huffman: must be constriction or own"):
        coder.Encoder()


@pytest.mark.parametrize("missing", [["constriction"], ["constriction", "numba", "llvmlite"]])
def test_processes_without_libraries_read_and_write_the_same_files(
    missing: list[str], environment: dict[str, str]
) -> None:
    if "numba" in missing:
        environment = {**environment, "VQCODEC_KERNELS": ""}
    model, file = GOLDEN / "tiny.safetensors", GOLDEN / "rgb-33x31-tile32-q3.vqz"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(missing=missing), model, file],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    size = 3 * 33 * 31
    compressed, pixels = result.stdout[:-size], result.stdout[-size:]
    restored = codec.decompress(compressed, model=model).pixels
    expected = np.frombuffer(pixels, np.uint8).reshape(31, 33, 3).astype(int)
    assert np.abs(restored - expected).max() <= 1


def test_compiled_code_is_right() -> None:
    assert range_coder.fault() is None


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_compiled_code_that_is_wrong_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(compiled, name)

    def wrong(*arrays: Any) -> bool:
        fit: bool = right(*arrays)
        arrays[-1][-1] ^= arrays[-1].dtype.type(1)
        return fit

    monkeypatch.setattr(compiled, name, wrong)
    assert range_coder.fault() == "the compiled range coder does not find what the plain one finds"


def test_the_test_of_compiled_code_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    over_full: set[bool] = set()
    carry = range_coder._carry

    def counted(words: range_coder.Words, count: int) -> None:
        over_full.add(bool(words[count - 1] == range_coder.LAST_WORD))
        carry(words, count)

    monkeypatch.setattr(range_coder, "_carry", counted)
    assert range_coder.fault() is None
    assert over_full == {False, True}


def test_more_words_than_there_is_room_for() -> None:
    above = np.full((1500, 256), TOTAL // 256 - 1, np.float32)
    symbols = (np.arange(1500) % 256).astype(np.int32)
    for compiled_too in (False, True):
        encoder = range_coder.RangeEncoder(compiled_too)
        for part in np.split(np.arange(1500), 50):
            encoder.encode(symbols[part], above[part])
        words = encoder.words()
        assert len(words) > 256
        found = range_coder.RangeDecoder(words, compiled_too).decode(above)
        assert found is not None
        assert found.tolist() == symbols.tolist()
