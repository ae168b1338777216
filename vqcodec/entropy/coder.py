"""Symbols and frequencies <-> payload bytes, by a range coder.

It is constriction's, or where that cannot be imported, `range_coder`, which gives the same words.
The environment variable VQCODEC_CODER (constriction or own) asks for one of them.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from vqcodec.entropy import range_coder
from vqcodec.errors import CodecError, SectionError

CHOICE = "VQCODEC_CODER"
WORD_BYTES = 4


class Encoder:
    """Collects symbols; `payload` gives the bytes.

    Raises:
        CodecError: a coder is asked for that there is not.
    """

    def __init__(self) -> None:
        self._coder = chosen(os.environ.get(CHOICE)).RangeEncoder()

    def encode(self, symbols: npt.NDArray[np.int32], above: npt.NDArray[np.float32]) -> None:
        """Codes symbols, int32 [m], with frequencies less 1, float32 [m, K]."""
        self._coder.encode(symbols, above)

    def payload(self) -> bytes:
        """All words so far, little-endian."""
        words: npt.NDArray[np.uint32] = self._coder.words()
        return words.astype("<u4").tobytes()


class Decoder:
    """Reads symbols back from a payload.

    Raises:
        CodecError: a coder is asked for that there is not.
        SectionError: the payload is not whole words.
    """

    def __init__(self, payload: bytes) -> None:
        if len(payload) % WORD_BYTES:
            raise SectionError(
                f"a payload of {len(payload)} bytes is not whole 32-bit words; the file is damaged"
            )
        words = np.frombuffer(payload, "<u4").astype(np.uint32)
        self._coder = chosen(os.environ.get(CHOICE)).RangeDecoder(words)

    def decode(self, above: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """The next m symbols, int32, with frequencies less 1, float32 [m, K]."""
        symbols: npt.NDArray[np.int32] | None = self._coder.decode(above)
        if symbols is None:
            raise SectionError("a payload does not fit its model; the file is damaged")
        return symbols

    def finish(self) -> None:
        """To be called after the last symbol.

        Raises:
            SectionError: words are left over.
        """
        if not self._coder.exhausted():
            raise SectionError("a payload is longer than its symbols; the file is damaged")


@cache
def chosen(wanted: str | None) -> Any:
    """The module of the coder to use, found once for a wish.

    Raises:
        CodecError: it is not there.
    """
    if wanted not in (None, "", "own", "constriction"):
        raise CodecError(f"{CHOICE}={wanted}: must be constriction or own, or not set")
    if wanted == "own":
        return range_coder
    try:
        from vqcodec.entropy import constriction_coder
    except ImportError as error:
        if wanted:
            raise CodecError(
                f"{CHOICE}=constriction: {error}; install constriction, or leave the variable out"
            ) from error
        return range_coder
    return constriction_coder
