"""Symbols and frequencies <-> payload bytes, by constriction's range coder.

Source: the coder is `constriction.stream.queue`, 32-bit words and 64-bit state, probabilities in
24-bit fixed point. `Categorical(perfect=False)` over frequencies - 1 keeps them unrounded.
"""

from __future__ import annotations

import constriction
import numpy as np
import numpy.typing as npt

from vqcodec.errors import SectionError

_MODEL = constriction.stream.model.Categorical(perfect=False)
WORD_BYTES = 4


class Encoder:
    """Collects symbols; `payload` gives the bytes."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: npt.NDArray[np.int32], above: npt.NDArray[np.float32]) -> None:
        """Codes symbols, int32 [m], with frequencies less 1, float32 [m, K]."""
        self._coder.encode(symbols, _MODEL, above)

    def payload(self) -> bytes:
        """All words so far, little-endian."""
        words: npt.NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype("<u4").tobytes()


class Decoder:
    """Reads symbols back from a payload.

    Raises:
        SectionError: the payload is not whole words.
    """

    def __init__(self, payload: bytes) -> None:
        if len(payload) % WORD_BYTES:
            raise SectionError(
                f"a payload of {len(payload)} bytes is not whole 32-bit words; the file is damaged"
            )
        words = np.frombuffer(payload, "<u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def decode(self, above: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """The next m symbols, int32, with frequencies less 1, float32 [m, K]."""
        try:
            return np.asarray(self._coder.decode(_MODEL, above))
        except AssertionError as error:
            raise SectionError("a payload does not fit its model; the file is damaged") from error

    def finish(self) -> None:
        """To be called after the last symbol.

        Raises:
            SectionError: words are left over.
        """
        if not self._coder.maybe_exhausted():
            raise SectionError("a payload is longer than its symbols; the file is damaged")
