"""The range coder of constriction: 32-bit words and 64-bit state, 24-bit probabilities.

`Categorical(perfect=False)` over frequencies - 1 keeps them unrounded.
"""

from __future__ import annotations

import constriction
import numpy as np
import numpy.typing as npt

_MODEL = constriction.stream.model.Categorical(perfect=False)


class RangeEncoder:
    """Collects symbols; `words` gives what stands for them."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: npt.NDArray[np.int32], above: npt.NDArray[np.float32]) -> None:
        """Codes symbols, int32 [m], with frequencies less 1, float32 [m, K]."""
        self._coder.encode(symbols, _MODEL, above)

    def words(self) -> npt.NDArray[np.uint32]:
        """All words so far, as if no symbol came any more."""
        words: npt.NDArray[np.uint32] = self._coder.get_compressed()
        return words


class RangeDecoder:
    """Reads symbols back.

    Args:
        words: All of them, uint32.
    """

    def __init__(self, words: npt.NDArray[np.uint32]) -> None:
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def decode(self, above: npt.NDArray[np.float32]) -> npt.NDArray[np.int32] | None:
        """The next m symbols, int32, with frequencies less 1, float32 [m, K].

        None if no symbols with these frequencies have these words.
        """
        try:
            return np.asarray(self._coder.decode(_MODEL, above))
        except AssertionError:
            return None

    def exhausted(self) -> bool:
        """Whether the words hold no more than the symbols so far."""
        return bool(self._coder.maybe_exhausted())
