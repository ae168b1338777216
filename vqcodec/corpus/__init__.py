"""Sets of images, as many as there are: to `.vqz` files or tokens and back.

    SRC  ->  plan: shards of images  ->  parts of shards, by many workers  ->  shards, manifests

The plan is written first and never changes; all else follows from it, whoever does the work and
however often it is killed. `Work` is what is done with one picture, for engines of one's own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqcodec.corpus.work import Work

__all__ = ["Work"]


def __getattr__(name: str) -> Any:
    if name != "Work":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("vqcodec.corpus.work").Work
