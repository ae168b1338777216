"""What is wanted of a file; standard library only, as lossless files are made without torch."""

from __future__ import annotations

from dataclasses import dataclass

from vqcodec.errors import CodecError


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a file: one of these at most, as of `codec.compress`.

    Raises:
        CodecError: more than one is given.
    """

    quality: int | None = None
    bpp: float | None = None
    size: int | None = None
    max_size: int | None = None
    psnr: float | None = None
    ssimulacra2: float | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self).items() if value is not None]
        if given == ["size", "max_size"]:
            raise CodecError("size and max_size exclude each other; give one of them")
        if len(given) > 1:
            raise CodecError(
                "quality, bpp, size, psnr and ssimulacra2 exclude each other; give one of them"
            )
