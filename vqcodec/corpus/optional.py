"""What only corpora need, imported when it is needed."""

from __future__ import annotations

import importlib
from typing import Any

from vqcodec.errors import CodecError


def needed(module: str, what: str) -> Any:
    """A module of the extra `corpus`.

    Args:
        module: Its name.
        what: Needs it, for the error.

    Raises:
        CodecError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        remedy = "pip install 'vqcodec[corpus]'"
        raise CodecError(f"{what} needs {error.name}, which is not installed; {remedy}") from error
