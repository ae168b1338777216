"""Every error vqcodec raises for something its caller can put right."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

_Error = TypeVar("_Error", bound="CodecError")


def one_line(text: str) -> str:
    """Escapes what would break a line or a terminal: file names may hold any character."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


class CodecError(Exception):
    """Base of all errors of vqcodec.

    `str()` of it is one line that names the file when it is known, says what is wrong and what
    to do about it.

    Attributes:
        filename: The file the error is about, or None while no caller has named it.
    """

    filename: str | None = None

    def in_file(self: _Error, name: str | Path) -> _Error:
        """Names the file the error is about, and returns the error itself.

        Code that works on bytes knows no file names, so the code that read the file adds it:
        `raise error.in_file(path)`. A name given earlier, nearer to the fault, stays.

        Args:
            name: The file's name as the user knows it.
        """
        if self.filename is None:
            self.filename = str(name)
        return self

    def __str__(self) -> str:
        message = super().__str__()
        return one_line(message if self.filename is None else f"{self.filename}: {message}")


class ImageError(CodecError):
    """An input image is unreadable, of a kind that is not supported, or too large."""


class LimitError(ImageError):
    """There are more pixels than the limit, or it is no number; see `vqcodec.limits`."""


class OutputError(CodecError):
    """An output exists already, cannot be written, or does not fit on the device."""


class FormatError(CodecError):
    """A `.vqz` file is malformed; each malformation has its own subclass."""


class NotVqzError(FormatError):
    """The data does not begin with the magic of a `.vqz` file."""


class VersionError(FormatError):
    """The file is written in a format version that this release does not know."""


class TruncatedError(FormatError):
    """The data ends before the file does."""


class ChecksumError(FormatError):
    """A checksum does not match the bytes it covers."""


class HeaderError(FormatError):
    """A field of the header is out of its limits."""


class SectionError(FormatError):
    """An extra or a section is malformed, or there are more or fewer than the header says."""


class TrailingDataError(FormatError):
    """There is data after the end of the file."""


class TooGoodError(CodecError):
    """A score is asked for that only a lossless file has."""


class ModelError(CodecError):
    """A model cannot be used."""


class UnknownModelError(ModelError):
    """No model of this id is known."""


class WeightsError(ModelError):
    """A weights file is missing, malformed, or not the one that was asked for."""
