"""`import vqcodec.pillow`: Pillow opens and saves .vqz files.

    picture = PIL.Image.open("photo.vqz")  # size, mode and info; torch is not loaded
    picture.thumbnail((256, 256))          # decodes the levels that are seen at that size
    picture.save("smaller.vqz", quality=30)

`save` takes what `vqcodec.compress` takes, such as `quality`, `size` or `effort`, and
`icc_profile` and `exif`. A profile that the picture has is kept, but for plain sRGB;
EXIF is when it is given, as with Pillow's own formats. Pixels are stored upright.

Attributes:
    MODEL: What files are decoded with, as `model` of `vqcodec.decompress`.
    SYNTHESIS: The same for `synthesis`.
    DEVICE: The same for `device`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from PIL import ExifTags, Image, ImageFile

import vqcodec
from vqcodec import container
from vqcodec.errors import CodecError, FormatError
from vqcodec.lazy import metadata
from vqcodec.piece import Piece, fitted
from vqcodec.tiling import Window

FORMAT = "VQZ"
EXTENSION = ".vqz"

MODEL: str | Path | None = None
SYNTHESIS: str | Path | None = None
DEVICE = "cpu"

_OPTIONS = (
    *("quality", "bpp", "size", "max_size", "psnr", "ssimulacra2"),
    *("effort", "tune", "synthesis", "lossless", "model", "tile", "device", "max_pixels"),
)
_PROFILED_MODES = ("L", "LA", "P", "RGB", "RGBA")  # what becomes of others has another profile
_EXIF_PREFIX = b"Exif\0\0"


class VqzImageFile(ImageFile.ImageFile):
    """A .vqz file that Pillow has opened."""

    format = FORMAT
    format_description = "vqcodec"

    _data: bytes | None = None  # until it is decoded
    _max_side: int | None = None

    def _open(self) -> None:
        assert self.fp is not None
        data = self.fp.read()
        try:
            contents = container.beginning(data)
            info = metadata(contents)
        except FormatError as error:
            raise SyntaxError(str(error)) from error
        self._data = data
        self._header = contents.header
        self._mode = contents.mode
        self._size = contents.header.width, contents.header.height
        self.info.update(info)

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Has `load` decode the smallest power of two of the size that is no smaller than asked.

        The mode stays.
        """
        if self._data is None or size is None:
            return None
        width, height = self._header.width, self._header.height
        reduction = Piece(Window(0, 0, height, width), size).reduction
        self._max_side = -(-max(width, height) // reduction)
        self._size = fitted((width, height), self._max_side)
        return self.mode, (0, 0, *self._size)

    def thumbnail(
        self,
        size: tuple[float, float],
        resample: Image.Resampling = Image.Resampling.BICUBIC,
        reducing_gap: float | None = 2.0,
    ) -> None:
        """As of Pillow, with as little to decode as there can be.

        `draft` is asked for the size in the box and not for the box, and for no more: it reduces
        by means of squares, which need no gap to be fair.
        """
        scale = min(size[0] / self.width, size[1] / self.height)
        box = (
            min(size[0], math.ceil(self.width * scale)),
            min(size[1], math.ceil(self.height * scale)),
        )
        super().thumbnail(box, resample, None if reducing_gap is None else 1.0)

    def load(self) -> Any:
        """Decodes the picture, or of a file cut short what its complete levels hold.

        Raises:
            OSError: It is damaged; cut short, unless `ImageFile.LOAD_TRUNCATED_IMAGES` is set or
                not one level is there; or its model is missing.
        """
        if self._data is not None:
            from vqcodec.codec import decompress

            try:
                image = decompress(
                    self._data,
                    model=MODEL,
                    synthesis=SYNTHESIS,
                    device=DEVICE,
                    partial=ImageFile.LOAD_TRUNCATED_IMAGES,
                    max_side=self._max_side,
                )
            except CodecError as error:
                raise self._described(error) from error
            self.im = image.to_pil().im
            self._data = None
            if self._exclusive_fp and self._close_exclusive_fp_after_loading and self.fp:
                self.fp.close()
            self.fp = None
        return super().load()

    def verify(self) -> None:
        """Checks every checksum without decoding. The file has to be opened again afterwards.

        Raises:
            OSError: It is damaged or cut short.
        """
        if self._data is None:
            raise RuntimeError("verify must be called directly after open")
        try:
            container.unpack(self._data)
        except CodecError as error:
            raise self._described(error) from error
        finally:
            self._data = None
            super().verify()

    def _described(self, error: CodecError) -> OSError:
        if self.filename:
            error.in_file(str(self.filename))
        return OSError(str(error))


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(container.MAGIC)


def _save(picture: Image.Image, stream: IO[bytes], filename: str | bytes) -> None:
    from vqcodec.codec import compress

    given = picture.encoderinfo
    options = {name: given[name] for name in _OPTIONS if name in given}
    try:
        compressed = compress(_with_metadata(picture, given), **options)
    except CodecError as error:
        raise OSError(str(error)) from error
    stream.write(bytes(compressed))


def _with_metadata(picture: Image.Image, given: dict[str, Any]) -> vqcodec.Image:
    """The upright image of a picture, with the profile and EXIF that `save` is to keep."""
    from vqcodec.image import as_image

    own = as_image(picture).icc if picture.mode in _PROFILED_MODES else None
    profile = given.get("icc_profile", own) or None
    exif = given.get("exif")
    if not exif:
        return replace(as_image(picture), icc=profile)
    picture = picture.copy()
    picture.info["exif"] = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    return replace(as_image(picture), icc=profile, exif=_without_orientation(picture.info["exif"]))


def _without_orientation(block: bytes) -> bytes:
    """An EXIF block, prefix or not, to one with the prefix for upright pixels."""
    exif = Image.Exif()
    exif.load(block)
    if exif.pop(ExifTags.Base.Orientation, 1) != 1:
        return exif.tobytes()
    return _EXIF_PREFIX + block.removeprefix(_EXIF_PREFIX)


Image.register_open(FORMAT, VqzImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, EXTENSION)
Image.register_mime(FORMAT, "image/x-vqz")
