"""Pillow for files that nobody vouches for: its limits, its silence, and errors for what it raises.

Pillow's limits, the warnings filter and standard error belong to the process. They are changed for
a while and put back, by one thread at a time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from types import ModuleType

import PIL.Image
import PIL.ImageFile
import PIL.PngImagePlugin

from vqcodec import limits
from vqcodec.ambient import shared_lock
from vqcodec.errors import ImageError

MAX_TEXT = 16 << 20  # bytes that a text or a profile of a PNG may have
_STANDARD_ERROR = 2
_MAX_REASON = 120  # characters of what a library says

# What Pillow logs would go to standard error where nobody has set up logging.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_lock = shared_lock()  # a plugin that Pillow loads by may come here again


@contextlib.contextmanager
def untrusted(what: str = "the image") -> Iterator[None]:
    """Turns whatever a library raises for a broken image into an ImageError.

    Raises:
        ImageError: the library raised; but MemoryError and PIL.UnidentifiedImageError pass.
    """
    try:
        yield
    except (ImageError, MemoryError, PIL.UnidentifiedImageError):
        raise
    except PIL.Image.DecompressionBombError as error:
        found = re.search(r"\((\d+) pixels", str(error))
        size = f"{int(found[1]):,} pixels" if found else "too many pixels"
        raise limits.too_large(f"{what} has {size}", limits.max_pixels()) from error
    # Pillow's plugins raise nearly anything for malformed files: SyntaxError, struct.error, ...
    except Exception as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:_MAX_REASON].strip()
        if "MAX_TEXT" in text:
            reason = f"{what} has texts or a profile of more than {MAX_TEXT >> 20} MiB"
            raise ImageError(f"{reason}; --allow-damaged takes it without them") from error
        reason = f"{what} cannot be decoded ({text}); the file may be damaged"
        raise ImageError(f"{reason}: --allow-damaged takes what can be read") from error


@contextlib.contextmanager
def pillow_limits(most: int | None = None, *, damaged: bool = False) -> Iterator[None]:
    """Makes Pillow refuse what has more pixels than the limit, and nothing less, and be silent.

    Args:
        most: Another limit.
        damaged: Whether it is to take what it can read of a damaged file.
    """
    most = limits.max_pixels() if most is None else most
    with _lock, warnings.catch_warnings(), contextlib.ExitStack() as put_back:
        warnings.simplefilter("ignore")
        for module, name, value in (
            # Pillow refuses at twice its limit, and only warns before.
            (PIL.Image, "MAX_IMAGE_PIXELS", -(-most // 2)),
            (PIL.ImageFile, "LOAD_TRUNCATED_IMAGES", damaged),
            (PIL.PngImagePlugin, "MAX_TEXT_CHUNK", MAX_TEXT),
            (PIL.PngImagePlugin, "MAX_TEXT_MEMORY", 4 * MAX_TEXT),
        ):
            put_back.enter_context(_changed(module, name, value))
        yield


@contextlib.contextmanager
def any_size() -> Iterator[None]:
    """Makes Pillow open a picture of any size, whose pixels it reads later."""
    with _lock, _changed(PIL.Image, "MAX_IMAGE_PIXELS", None):
        yield


@contextlib.contextmanager
def _changed(module: ModuleType, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def silent_libraries() -> Iterator[None]:
    """Sends to nowhere what C libraries such as libtiff print on standard error."""
    with _lock:
        try:
            saved = os.dup(_STANDARD_ERROR)
        except OSError:  # it is closed
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, _STANDARD_ERROR)
            yield
        finally:
            os.dup2(saved, _STANDARD_ERROR)
            os.close(null)
            os.close(saved)
