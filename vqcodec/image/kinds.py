"""Kinds of files by their first bytes: what an extra reads, and words for what nothing reads.

Pillow knows a hundred kinds by itself. Its plugins and imageio know more, where they are installed
(`pip install vqcodec[formats]`).
"""

from __future__ import annotations

import codecs
import contextlib
import importlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vqcodec import container
from vqcodec.errors import ImageError
from vqcodec.image import png
from vqcodec.image.picture import check_shape, check_size, turned

EXTRA = "vqcodec[formats]"
"""What is installed to read more kinds."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BRANDS = {
    "HEIC": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"},
    "AVIF": {b"avif", b"avis"},
    "camera RAW": {b"crx "},
}
_RAW = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM")
_CANON_RAW = slice(8, 10), b"CR"  # after a TIFF's head
_KINDS = {
    png.SIGNATURE[:4]: "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"BM": "BMP",
    **dict.fromkeys(TIFF, "TIFF"),
}
_NO_PICTURES = {
    b"%PDF": "a PDF document; save its page as PNG first",
    b"%!PS": "a PostScript document; render it to PNG first",
    b"PK\3\4": "a ZIP archive; unpack it first",
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"\x1aE\xdf\xa3": "a video; save its frames as PNG first",
}
_BEGINNING = 1024
_MOSAICS = (32803, 34892)  # photometric interpretations of what a sensor saw


Read = Callable[[bytes, int], tuple[npt.NDArray[Any], "bytes | None"]]
"""Bytes and frame to an array, [H,W] or [H,W,C], of integers or linear light, and its profile."""


@dataclass(frozen=True)
class Reader:
    """How a kind that Pillow does not know by itself is read.

    Attributes:
        package: The module whose import makes it possible.
        register: Name of the function that tells Pillow of it, "" if the import does; None if it
            is no plugin of Pillow but gives an array.
        read: None for Pillow's plugins.
    """

    package: str
    register: str | None = None
    read: Read | None = None


def kind_of(encoded: bytes) -> str | None:
    """The kind, if it is one of `READERS`."""
    if encoded.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JPEG XL"
    if encoded[4:8] == b"ftyp":
        length = min(int.from_bytes(encoded[:4], "big"), 256)
        brands = [encoded[8:12], *(encoded[n : n + 4] for n in range(16, length, 4))]
        for brand in brands:  # the major one first
            for kind, known in _BRANDS.items():
                if brand in known:
                    return kind if kind in READERS else None
    if encoded.startswith(_RAW) or (
        encoded.startswith(TIFF) and encoded[_CANON_RAW[0]] == _CANON_RAW[1]
    ):
        return "camera RAW"
    if encoded.startswith((b"#?RADIANCE", b"#?RGBE")):
        return "Radiance HDR"
    return "OpenEXR" if encoded.startswith(b"v/1\x01") else None


def reader_of(kind: str) -> Reader:
    """The reader of a kind of `READERS`, its package imported and Pillow told.

    Raises:
        ImageError: it is not installed.
    """
    reader = READERS[kind]
    try:
        module = importlib.import_module(reader.package)
    except ImportError as error:
        reason = f"is of the kind {kind}, which needs {package_of(reader)}"
        raise ImageError(f"{reason}; pip install {EXTRA}, or convert it to PNG") from error
    if reader.register:
        getattr(module, reader.register)()
    return reader


def package_of(reader: Reader) -> str:
    """What is installed to have a reader's module."""
    return _PACKAGES.get(reader.package, reader.package)


def unknown(encoded: bytes) -> ImageError:
    """The error for bytes that nothing reads, in words that fit them."""
    if not encoded:
        return ImageError("is empty; name a picture")
    if encoded.startswith(container.MAGIC):
        return ImageError("is a .vqz file already; vqcodec decompress makes a picture of it")
    if encoded.startswith(png.SIGNATURE) and (wrong := png.first_wrong(encoded)):
        reason = f"is a PNG with a wrong checksum of its {wrong}; the file is damaged"
        return ImageError(f"{reason}: --allow-damaged takes what can be read")
    kind = kind_of(encoded) or next(
        (kind for magic, kind in _KINDS.items() if encoded.startswith(magic)), None
    )
    if kind is not None:
        reason = f"cannot be read as {kind}, which it begins as; the file may be damaged"
        return ImageError(f"{reason}: --allow-damaged takes what can be read")
    for magic, kind in _NO_PICTURES.items():
        if encoded.startswith(magic):
            return ImageError(f"is {kind}")
    if encoded[4:8] == b"ftyp":
        return ImageError("is a video or of an unknown kind; convert it to PNG")
    text = _text_of(encoded)
    if text is not None and re.search(r"<svg[\s>]", text):
        return ImageError("is an SVG drawing, which has no pixels; render it to PNG first")
    if text is not None:
        return ImageError("is text, no picture; name a picture")
    reason = "the image is of no known kind"
    return ImageError(f"{reason}; convert it to PNG, JPEG or another common kind")


def _text_of(encoded: bytes) -> str | None:
    """The beginning, if it is text."""
    beginning = encoded[:_BEGINNING]
    if b"\0" in beginning:
        return None
    try:
        # A character may be cut in two at the end.
        text = codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError:
        return None
    return text if all(each.isprintable() or each.isspace() for each in text) else None


def read_tiff(encoded: bytes, frame: int) -> tuple[npt.NDArray[Any], bytes | None]:
    """A page of a TIFF of a kind that Pillow does not know or misreads.

    Returns:
        [H,W] or [H,W,C], upright, and the colour profile.

    Raises:
        ImageError: what reads it is not installed.
    """
    import imageio.v3

    tifffile: dict[str, Any] = {"plugin": "tifffile", "extension": ".tif", "page": frame}
    flat: dict[str, Any] = {"index": ...}  # pages are counted through the whole file
    try:
        about = imageio.v3.immeta(encoded, **flat, **tifffile)
    except ImportError as error:
        reason = "is a TIFF of a kind that only tifffile reads"
        raise ImageError(f"{reason}; pip install {EXTRA}, or convert it to PNG") from error
    if "DNGVersion" in about or int(about.get("PhotometricInterpretation", 1)) in _MOSAICS:
        reader_of("camera RAW")
        return _read_raw(encoded, frame)
    planar = int(about.get("planar_configuration") or 1) == 2
    shape = imageio.v3.improps(encoded, **flat, **tifffile).shape
    check_shape((*shape[1:], shape[0]) if planar and len(shape) == 3 else shape)
    check_size(int(about.get("TileWidth", 1)), int(about.get("TileLength", 1)))
    pixels = np.asarray(imageio.v3.imread(encoded, **tifffile))
    if planar and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    if int(about.get("PhotometricInterpretation", 1)) == 0 and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    return turned(pixels, int(about.get("orientation") or 1)), about.get("InterColorProfile")


def _read_hdr(encoded: bytes, frame: int) -> tuple[npt.NDArray[Any], bytes | None]:
    import cv2
    import imageio.v3

    size = re.search(rb"\n[-+][YX] (\d{1,9}) [-+][YX] (\d{1,9})\n", encoded[: 64 << 10])
    if size is None:
        raise ImageError("is a Radiance HDR picture without a size; the file is damaged")
    check_size(int(size[2]), int(size[1]))
    light = imageio.v3.imread(
        encoded,
        plugin="opencv",
        extension=".hdr",
        flags=cv2.IMREAD_UNCHANGED,
        colorspace="RGB",
    )
    return np.asarray(light), None


def _read_exr(encoded: bytes, frame: int) -> tuple[npt.NDArray[Any], bytes | None]:
    import OpenEXR

    said = io.StringIO()  # the library prints what is wrong, and gives what there is
    with contextlib.redirect_stdout(said):
        window = OpenEXR.File(io.BytesIO(encoded), header_only=True).header()["dataWindow"]
        check_size(*(int(last - first) + 1 for first, last in zip(*window, strict=True)))
        channels = OpenEXR.File(io.BytesIO(encoded)).channels()
    if said.getvalue():
        raise ImageError("cannot be decoded; the file may be damaged, get it again")
    for name in ("RGBA", "RGB", "Y"):
        if name in channels:
            return np.asarray(channels[name].pixels), None
    raise ImageError(f"has the channels {', '.join(channels)}, not RGB or Y; convert it to PNG")


def _read_raw(encoded: bytes, frame: int) -> tuple[npt.NDArray[Any], bytes | None]:
    import imageio.v3

    developed = imageio.v3.imread(encoded, plugin="rawpy", extension=".dng", use_camera_wb=True)
    return np.asarray(developed), None


READERS = {
    "HEIC": Reader("pillow_heif", "register_heif_opener"),
    "JPEG XL": Reader("pillow_jxl", ""),
    "Radiance HDR": Reader("cv2", read=_read_hdr),
    "OpenEXR": Reader("OpenEXR", read=_read_exr),
    "camera RAW": Reader("rawpy", read=_read_raw),
}
_PACKAGES = {
    "cv2": "opencv-python-headless",
    "pillow_heif": "pillow-heif",
    "pillow_jxl": "pillow-jxl-plugin",
}
PLUGIN_ENDINGS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    ".jxl": "JPEG XL",
}
_RAW_ENDINGS = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos"),
    *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw"),
)
ENDINGS = {*PLUGIN_ENDINGS, *_RAW_ENDINGS, ".exr", ".hdr"}
"""Of names of files of all kinds of `READERS`."""
