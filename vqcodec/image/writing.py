"""An image -> a file of a common kind, and what the kind cannot hold of it.

What a format keeps is found by reading back what was written: Pillow's writers drop what they have
no place for without a word.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageColor
import PIL.PngImagePlugin

from vqcodec import container, files
from vqcodec.errors import ImageError, OutputError
from vqcodec.image import kinds, png
from vqcodec.image.guard import pillow_limits, silent_libraries
from vqcodec.image.metadata import ORIENTATION
from vqcodec.image.picture import Image, luma, replicated
from vqcodec.image.reading import load
from vqcodec.image.strips import strips

_ALIASES = {"JPG": "JPEG", "TIF": "TIFF", "JP2": "JPEG2000", "HEIC": "HEIF"}
# The file is a restored image: writing it must not cost it a second time.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "MPO": {"quality": 95},
    "WEBP": {"lossless": True, "exact": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "HEIF": {"quality": -1, "chroma": 444, "matrix_coefficients": 0},
    "JXL": {"lossless": True},
}
_FORMATS_WITH_ALPHA = {"PNG", "WEBP", "TIFF", "TGA", "JXL"}
_CLOSE = 8  # an alpha channel of a lossy format may be off by so much
_TIFF_XMP, _TIFF_RESOURCES = 700, 34377
_ICO_SIDE = 256
_MAX_SEGMENT = 65000  # bytes of a JPEG's metadata, somewhat less than a segment has
_RESOURCES_HEAD = b"Photoshop 3.0\0"
_APP13 = b"\xff\xed"


def dump(image: Image, format: str = "PNG") -> bytes:
    """Encodes an image as a file; grey images as one channel.

    Lossless where the format can be. What it has no place for is left out, see `losses`; but
    transparency never is.

    Args:
        image: The image.
        format: Pillow's name of the file format, see `format_for`, or an ending such as JPG.

    Raises:
        OutputError: The format is not known, or cannot hold such an image.
    """
    name = _ALIASES.get(format.upper(), format.upper())
    if name == "ICO" and max(image.pixels.shape) > _ICO_SIDE:
        raise OutputError(
            f"is larger than {_ICO_SIDE} pixels a side, the most of an ICO; write a .png file"
        )
    if image.alpha is None or name in _FORMATS_WITH_ALPHA:
        return _encoded(image, name)
    if image.alpha.min() == 255:
        return _encoded(replace(image, alpha=None), name)
    refusal = OutputError(
        f"has transparency, which {name} cannot hold; give --background, or write a .png file"
    )
    try:
        encoded = _encoded(image, name)
    except OutputError as error:
        if name not in PIL.Image.SAVE:
            raise
        raise refusal from error
    found = _read_back(encoded)
    if found is None or found.alpha is None or not _alike(found.alpha, image.alpha):
        raise refusal
    return encoded


def flattened(image: Image, background: str) -> Image:
    """An image on a colour, without transparency; a grey one on the colour's grey.

    Args:
        image: The image.
        background: As CSS names colours, such as "white" or "#ff8000".

    Raises:
        OutputError: it is no colour.
    """
    try:
        behind = np.array(PIL.ImageColor.getrgb(background)[:3], np.uint32)
    except ValueError as error:
        reason = f"{background!r} is no colour"
        raise OutputError(f"{reason}; give one such as white or #ff8000") from error
    if image.alpha is None:
        return image
    if image.grey:
        behind[:] = (behind.sum() + 1) // 3
    mixed = np.empty_like(image.pixels)
    for rows in strips(*image.alpha.shape):
        share = image.alpha[rows].astype(np.uint32)[:, :, np.newaxis]
        mixed[rows] = (image.pixels[rows] * share + behind * (255 - share) + 127) // 255
    return replace(image, pixels=mixed, alpha=None)


def losses(image: Image, encoded: bytes) -> tuple[str, ...]:
    """What a file of `dump` lacks of its image, in a few words each; () if that cannot be told.

    Args:
        image: What was written.
        encoded: The file.
    """
    if encoded.startswith(png.SIGNATURE):
        return ("IPTC",) if image.iptc else ()
    found = _read_back(encoded)
    if found is None:
        return ()
    lost = []
    wanted = replicated(luma(image.pixels)) if image.grey else image.pixels
    if not _is_lossy(encoded):
        if found.pixels.shape != image.pixels.shape:
            lost.append("its size")
        elif error := _squared_error(found.pixels, wanted):
            psnr = 10 * math.log10(255**2 * wanted.size / error)
            lost.append(f"exact colours ({psnr:.1f} dB)")
    lost += [
        name
        for name, before, after in (
            ("colour profile", image.icc, found.icc),
            ("EXIF", image.exif, found.exif and not _tags(image.exif) - _tags(found.exif)),
            ("XMP", image.xmp, found.xmp),
            ("IPTC", image.iptc, found.iptc),
            ("texts", image.texts, found.texts),
        )
        if before and not after
    ]
    return tuple(lost)


def format_for(path: str | Path) -> str:
    """Finds the file format that a file name asks for by its extension.

    Args:
        path: A file name, or `-` for standard output, which gets a PNG.

    Returns:
        A `format` for `dump`.

    Raises:
        OutputError: The extension is not one of an image format that can be written.
    """
    if files.is_standard_stream(path):
        return "PNG"
    extension = Path(path).suffix.lower()
    try:
        _register(extension)
        format = PIL.Image.registered_extensions().get(extension)
        # Of `vqcodec.pillow`, if that is loaded.
        if extension == ".vqz" or format is None or format not in PIL.Image.SAVE:
            reason = f"has the extension {extension!r}" if extension else "has no extension"
            raise OutputError(f"{reason}, not one of an image; write a .png file")
    except OutputError as error:
        raise error.in_file(path) from None
    return format


def names_a_picture(path: str | Path) -> bool:
    """Whether a file name has the ending of a common kind of picture."""
    extension = Path(path).suffix.lower()
    known = extension in PIL.Image.registered_extensions() or extension in kinds.PLUGIN_ENDINGS
    return known and extension != container.ENDING


def check_format(format: str) -> str:
    """Pillow's name of a format that can be written.

    Args:
        format: As Pillow or an ending has it: JPEG, jpg, .jpg.

    Raises:
        OutputError: it is none.
    """
    name = format.upper().removeprefix(".")
    _register(f".{name.lower()}")
    by_ending = PIL.Image.registered_extensions().get(f".{name.lower()}", "")
    for known in (_ALIASES.get(name, name), by_ending):
        if known in PIL.Image.SAVE:
            return known
    raise OutputError(f"{format!r} is no format that can be written; give PNG, JPEG or another")


def ending_of(format: str) -> str:
    """The ending of names of files of a format, such as ".jpg" for jpg and ".jp2" for JPEG2000.

    Raises:
        OutputError: it is no format that can be written.
    """
    name = check_format(format)
    asked = f".{format.lower().removeprefix('.')}"
    known = PIL.Image.registered_extensions()
    if known.get(asked) == name:
        return asked
    return next((each for each, of in known.items() if of == name), asked)


def _register(extension: str) -> None:
    """Tells Pillow of the plugin that writes files of an ending, if it is one of the extra's."""
    kind = kinds.PLUGIN_ENDINGS.get(extension)
    if kind is None:
        return
    try:
        kinds.reader_of(kind)
    except ImageError as error:
        reason = f"a {kind} file needs pip install {kinds.EXTRA}"
        raise OutputError(f"{reason}; or write a .png file") from error


def _encoded(image: Image, name: str) -> bytes:
    stream = io.BytesIO()
    try:
        with pillow_limits(), silent_libraries():
            picture = PIL.Image.fromarray(np.ascontiguousarray(image.channels))
            picture.save(stream, format=name, **_options(image, name))
    except MemoryError:
        raise
    # Pillow's plugins raise nearly anything: SyntaxError for odd EXIF, struct.error for long sides.
    except Exception as error:
        reason = f"cannot be written as {name} ({error})"
        raise OutputError(f"{reason}; write a .png file instead") from error
    return stream.getvalue()


def _options(image: Image, name: str) -> dict[str, Any]:
    """Arguments of Pillow's `save`, metadata as the format takes it."""
    options = dict(_SAVE_OPTIONS.get(name, {}))
    metadata = {"icc_profile": image.icc, "exif": image.exif, "xmp": image.xmp}
    if name in {"JPEG", "MPO"}:
        metadata = {
            key: value if key == "icc_profile" or len(value or b"") < _MAX_SEGMENT else None
            for key, value in metadata.items()
        }
        comment = dict(image.texts).get("Comment", "").encode()
        options |= {"comment": comment} if 0 < len(comment) < _MAX_SEGMENT else {}
        if image.iptc and len(image.iptc) < _MAX_SEGMENT:
            segment = _RESOURCES_HEAD + image.iptc
            options["extra"] = _APP13 + struct.pack(">H", 2 + len(segment)) + segment
    elif name == "PNG":
        about = PIL.PngImagePlugin.PngInfo()
        if image.xmp:
            about.add_itxt("XML:com.adobe.xmp", image.xmp.decode("utf-8", "replace"))
        for key, text in image.texts:
            about.add_text(key[:79], text)
        options["pnginfo"] = about
    elif name == "TIFF":
        tags = PIL.Image.Exif()
        tags.load(image.exif or b"")
        for tag, content in ((_TIFF_XMP, image.xmp), (_TIFF_RESOURCES, image.iptc)):
            if content:
                tags[tag] = content
        del metadata["exif"], metadata["xmp"]
        options["exif"] = tags
    elif name == "ICO":
        options["sizes"] = [image.pixels.shape[1::-1]]
    return options | {key: value for key, value in metadata.items() if value is not None}


def _read_back(encoded: bytes) -> Image | None:
    try:
        return load(encoded, keep="all", max_pixels=container.MAX_PIXELS)
    except ImageError:
        return None


def _tags(exif: bytes | None) -> set[int]:
    """The tags of a block's first directory that describe the picture."""
    found = PIL.Image.Exif()
    found.load(exif or b"")
    return set(found) - {ORIENTATION}


def _alike(found: npt.NDArray[np.uint8], wanted: npt.NDArray[np.uint8]) -> bool:
    if found.shape != wanted.shape:
        return False
    return all(
        int(np.abs(found[rows].astype(np.int16) - wanted[rows]).max()) <= _CLOSE
        for rows in strips(*wanted.shape)
    )


def _is_lossy(encoded: bytes) -> bool:
    return encoded.startswith(b"\xff\xd8\xff")  # a JPEG, as everyone knows who asks for one


def _squared_error(found: npt.NDArray[np.uint8], wanted: npt.NDArray[np.uint8]) -> int:
    """The sum over all samples of two arrays [H,W,3]."""
    return sum(
        int(np.square(found[rows].astype(np.int32) - wanted[rows]).sum(dtype=np.int64))
        for rows in strips(*wanted.shape[:2])
    )
