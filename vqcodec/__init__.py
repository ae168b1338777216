"""vqcodec: a learned image codec.

A hierarchical VQ-VAE turns an image into index maps, coarse to fine; integer PixelSNAIL priors
give the probability of every index; an arithmetic coder turns the indices into a `.vqz` file.

Importing this package loads neither torch nor numpy: each name is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqcodec.codec import compress, decompress, inspect, verify
    from vqcodec.drawing.sampling import sample
    from vqcodec.errors import CodecError
    from vqcodec.image import Image
    from vqcodec.lazy import open
    from vqcodec.tokens import Tokenizer

__version__ = "0.1.0"

__all__ = [
    "CodecError",
    "Image",
    "Tokenizer",
    "__version__",
    "compress",
    "decompress",
    "inspect",
    "open",
    "sample",
    "verify",
]

_HOMES = {
    "CodecError": "vqcodec.errors",
    "Image": "vqcodec.image",
    "Tokenizer": "vqcodec.tokens",
    "compress": "vqcodec.codec",
    "decompress": "vqcodec.codec",
    "inspect": "vqcodec.codec",
    "open": "vqcodec.lazy",
    "sample": "vqcodec.drawing.sampling",
    "verify": "vqcodec.codec",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
