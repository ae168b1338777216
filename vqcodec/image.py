"""Image files <-> 8-bit RGB arrays."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from vqcodec import container, files
from vqcodec.errors import CodecError, FormatError, ImageError, OutputError

MAX_SIDE: Final = container.MAX_SIDE
MAX_PIXELS: Final = container.MAX_PIXELS

# Pillow renders these by running other programs.
_REFUSED_FORMATS = {"EPS", "WMF"}
_GREY_MODES = {"1", "L", "LA", "La"}
_DEEP_GREY_MODES = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
_FLOAT_MODE = "F"
_EXIF_PREFIX = b"Exif\x00\x00"
_ICC_COLOUR_SPACE = slice(16, 20)
# The file is a restored image: writing it must not cost it a second time.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "WEBP": {"lossless": True, "exact": True},
}

_pillow_lock = threading.Lock()


@dataclass(frozen=True)
class Image:
    """An upright image in memory.

    Attributes:
        pixels: uint8 [H,W,3], RGB; the three are equal when `grey`.
        grey: Whether the image has one channel only.
        alpha: uint8 [H,W], 0 transparent to 255 opaque, or None.
        icc: Colour profile of the pixels, or None.
        exif: EXIF block, prefix included, that says upright or nothing of orientation; or None.
    """

    pixels: npt.NDArray[np.uint8]
    grey: bool = False
    alpha: npt.NDArray[np.uint8] | None = None
    icc: bytes | None = None
    exif: bytes | None = None

    @property
    def channels(self) -> npt.NDArray[np.uint8]:
        """The image as one array: uint8 [H,W] if grey, else [H,W,3]; with alpha [H,W,2 or 4]."""
        colours = _luma(self.pixels) if self.grey else self.pixels
        if self.alpha is None:
            return colours
        return np.dstack([colours, self.alpha])

    def to_pil(self) -> PIL.Image.Image:
        """The image as Pillow has it: mode L, LA, RGB or RGBA, with ICC profile and EXIF."""
        picture = PIL.Image.fromarray(np.ascontiguousarray(self.channels))
        metadata = {"icc_profile": self.icc, "exif": self.exif}
        picture.info.update({name: each for name, each in metadata.items() if each is not None})
        return picture

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """`channels`, for numpy."""
        found = self.channels
        return found.astype(dtype or found.dtype, copy=bool(copy))

    def check(self) -> None:
        """Checks the arrays' shapes and types.

        Raises:
            ImageError: They are not as documented, empty, or too large.
        """
        shape = self.pixels.shape
        if len(shape) != 3 or shape[2] != 3 or self.pixels.dtype != np.uint8:
            reason = f"pixels are {self.pixels.dtype} {list(shape)}"
            raise ImageError(f"{reason}; give uint8 [height, width, 3]")
        if not (
            min(shape[:2]) >= 1
            and max(shape[:2]) <= MAX_SIDE
            and self.pixels[..., 0].size <= MAX_PIXELS
        ):
            reason = (
                f"is {shape[1]} x {shape[0]}; the most is {MAX_PIXELS} pixels, {MAX_SIDE} a side"
            )
            raise ImageError(f"{reason}, the least is 1 x 1; resize it")
        if self.alpha is not None and (
            self.alpha.shape != shape[:2] or self.alpha.dtype != np.uint8
        ):
            reason = f"alpha is {self.alpha.dtype} {list(self.alpha.shape)}"
            raise ImageError(f"{reason}; give uint8 [height, width] of the pixels")


def load(source: bytes | str | Path, *, keep_metadata: bool = False) -> Image:
    """Reads an image of any kind Pillow reads.

    The EXIF orientation is applied. Of an animation the first frame is taken, 16-bit grey is
    scaled to 8 bits, CMYK and palettes become RGB. An alpha channel is kept even when it is opaque
    everywhere.

    Args:
        source: The bytes of an image file, or its name, `-` for standard input.
        keep_metadata: Whether to keep EXIF, and the ICC profile if it fits the pixels' channels.

    Raises:
        ImageError: The image is unreadable, of a kind that is not supported, or too large.
        CodecError: The file cannot be read.
    """
    if isinstance(source, bytes):
        return _load(source, keep_metadata)
    encoded = files.read_bytes(source)
    try:
        return _load(encoded, keep_metadata)
    except CodecError as error:
        error.in_file(files.input_name(source))
        raise


def size_of(encoded: bytes) -> tuple[int, int]:
    """Reads an image's size without decoding it.

    Args:
        encoded: The bytes of an image file; the first ones do where its header comes first.

    Returns:
        Height and width in pixels as they are stored, the EXIF orientation not applied.

    Raises:
        ImageError: The header is unreadable, of a kind that is not supported, or of too large an
            image.
    """
    with _untrusted("the image"), _pillow_limits(), _opened(encoded) as picture:
        return picture.height, picture.width


@contextlib.contextmanager
def _opened(encoded: bytes) -> Iterator[PIL.Image.Image]:
    PIL.Image.init()
    formats = [name for name in PIL.Image.OPEN if name not in _REFUSED_FORMATS]
    with PIL.Image.open(io.BytesIO(encoded), formats=formats) as picture:
        _check_size(picture)
        yield picture


def _load(encoded: bytes, keep_metadata: bool) -> Image:
    with _untrusted("the image"), _pillow_limits(), _opened(encoded) as picture:
        picture.load()
        # A container such as ICO learns the size of what it holds only now.
        _check_size(picture)
        _make_upright(picture)
        pixels, grey, alpha = _arrays(picture)
        if not keep_metadata:
            return Image(pixels, grey, alpha)
        icc, exif = picture.info.get("icc_profile"), picture.info.get("exif")
    # A profile of the file's CMYK inks, say, would be wrong for the pixels.
    if icc and icc[_ICC_COLOUR_SPACE] != (b"GRAY" if grey else b"RGB "):
        icc = None
    if exif and not exif.startswith(_EXIF_PREFIX):
        exif = _EXIF_PREFIX + exif
    return Image(pixels, grey, alpha, icc or None, exif or None)


Pictures = Image | npt.NDArray[Any] | PIL.Image.Image
"""What people have: an `Image`; a uint8 array, grey [H,W] or [H,W,2] with alpha, RGB [H,W,3] or
[H,W,4] with alpha, laid out in memory in any way; or a Pillow image, whose orientation is
applied."""


def as_image(picture: Pictures) -> Image:
    """The image of what people have.

    Raises:
        ImageError: it is no image, or of a kind or size that is not supported.
    """
    if isinstance(picture, Image):
        picture.check()
        return picture
    if isinstance(picture, PIL.Image.Image):
        with _untrusted("the image"), _pillow_limits():
            _check_size(picture)
            upright = picture.copy()
            _make_upright(upright)
            return Image(*_arrays(upright))
    if not isinstance(picture, np.ndarray):
        reason = f"a {type(picture).__name__} is no image"
        raise ImageError(f"{reason}; give an Image, a uint8 array or a Pillow image")
    array = picture[:, :, np.newaxis] if picture.ndim == 2 else picture
    if picture.dtype != np.uint8 or array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        reason = f"an array of {picture.dtype} {list(picture.shape)} is no image"
        raise ImageError(f"{reason}; give uint8 [height, width] or [height, width, 1 to 4]")
    grey, transparent = array.shape[2] < 3, array.shape[2] % 2 == 0
    image = Image(
        _replicated(array[:, :, 0]) if grey else np.ascontiguousarray(array[:, :, :3]),
        grey,
        np.ascontiguousarray(array[:, :, -1]) if transparent else None,
    )
    image.check()
    return image


def dump(image: Image, format: str = "PNG") -> bytes:
    """Encodes an image as a file; grey images as one channel.

    Args:
        image: The image.
        format: Pillow's name of the file format, see `format_for`.

    Raises:
        OutputError: The format is not known, or cannot hold such an image.
    """
    metadata = {"icc_profile": image.icc, "exif": image.exif}
    options = {name: value for name, value in metadata.items() if value is not None}
    stream = io.BytesIO()
    try:
        picture = PIL.Image.fromarray(np.ascontiguousarray(image.channels))
        picture.save(stream, format=format, **options, **_SAVE_OPTIONS.get(format.upper(), {}))
    except MemoryError:
        raise
    # Pillow's plugins raise nearly anything: SyntaxError for odd EXIF, struct.error for long sides.
    except Exception as error:
        reason = f"cannot be written as {format} ({error})"
        raise OutputError(f"{reason}; write a .png file instead") from error
    return stream.getvalue()


def format_for(path: str | Path) -> str:
    """Finds the file format that a file name asks for by its extension.

    Args:
        path: A file name, or `-` for standard output, which gets a PNG.

    Returns:
        A `format` for `dump`.

    Raises:
        OutputError: The extension is not one of an image format that can be written.
    """
    if str(path) == files.STANDARD_STREAM:
        return "PNG"
    extension = Path(path).suffix.lower()
    format = PIL.Image.registered_extensions().get(extension)
    if format is None or format not in PIL.Image.SAVE:
        reason = f"has the extension {extension!r}" if extension else "has no extension"
        raise OutputError(f"{reason}, not one of an image; write a .png file").in_file(path)
    return format


def extras_of(image: Image) -> dict[int, bytes]:
    """What a `.vqz` file keeps of an image besides its colours, by the container's kinds."""
    extras = {
        container.EXTRA_ALPHA: None if image.alpha is None else dump_alpha(image.alpha),
        container.EXTRA_ICC: image.icc,
        container.EXTRA_EXIF: image.exif,
    }
    return {kind: content for kind, content in extras.items() if content is not None}


def image_of(contents: container.Container, pixels: npt.NDArray[np.uint8]) -> Image:
    """The image of a file: its pixels, and what its header and extras say.

    Args:
        contents: The file.
        pixels: What its indices stand for, uint8 [H,W,3].

    Raises:
        FormatError: the alpha channel is damaged.
    """
    header, extras = contents.header, contents.extras
    alpha = extras.get(container.EXTRA_ALPHA)
    return Image(
        pixels=_replicated(_luma(pixels)) if header.grey else pixels,
        grey=header.grey,
        alpha=None if alpha is None else load_alpha(alpha, header.height, header.width),
        icc=extras.get(container.EXTRA_ICC),
        exif=extras.get(container.EXTRA_EXIF),
    )


def dump_alpha(alpha: npt.NDArray[np.uint8]) -> bytes:
    """Encodes an alpha channel, uint8 [H,W], as a PNG, losslessly."""
    stream = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(alpha)).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def load_alpha(data: bytes, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Decodes what `dump_alpha` wrote.

    Args:
        data: A PNG file of one 8-bit channel.
        height: H, the image's.
        width: W, the image's.

    Returns:
        uint8 [H,W].

    Raises:
        FormatError: The PNG is broken, or not one channel of H x W.
    """
    try:
        with (
            _untrusted("the alpha channel"),
            _pillow_limits(),
            PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as picture,
        ):
            if picture.mode == "L" and picture.size == (width, height):
                return np.array(picture)
            kind = f"{picture.mode}, {picture.width} x {picture.height}"
    except ImageError as error:
        raise FormatError(str(error)) from error
    reason = f"has an alpha channel of kind {kind}, not L, {width} x {height}"
    raise FormatError(f"{reason}; the file is damaged, get it again")


@contextlib.contextmanager
def _untrusted(what: str) -> Iterator[None]:
    """Turns whatever Pillow raises for a broken image into an ImageError."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except PIL.Image.DecompressionBombError as error:
        raise ImageError(f"{what} has more than {MAX_PIXELS} pixels; reduce it") from error
    except PIL.UnidentifiedImageError as error:
        reason = f"{what} is of no known kind"
        raise ImageError(f"{reason}; convert it to PNG, JPEG or another common kind") from error
    # Pillow's plugins raise nearly anything for malformed files: SyntaxError, struct.error, ...
    except Exception as error:
        reason = f"{what} cannot be decoded ({error or type(error).__name__})"
        raise ImageError(f"{reason}; the file may be damaged") from error


@contextlib.contextmanager
def _pillow_limits() -> Iterator[None]:
    """Makes Pillow refuse more than MAX_PIXELS, and nothing less, and be silent.

    Pillow's limit and the warnings filter belong to the process, so both are put back, and one
    thread at a time may change them.
    """
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit = PIL.Image.MAX_IMAGE_PIXELS
        # Pillow refuses at twice its limit, and only warns before.
        PIL.Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


def _check_size(picture: PIL.Image.Image) -> None:
    width, height = picture.size
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        reason = f"is {width} x {height}; the most is {MAX_PIXELS} pixels, {MAX_SIDE} a side"
        raise ImageError(f"{reason}: reduce it or cut it up")


def _make_upright(picture: PIL.Image.Image) -> None:
    try:
        PIL.ImageOps.exif_transpose(picture, in_place=True)
    except MemoryError:
        raise
    # A broken EXIF block is no reason to refuse the pixels, but neither is it worth keeping.
    except Exception:
        picture.info.pop("exif", None)


def _arrays(
    picture: PIL.Image.Image,
) -> tuple[npt.NDArray[np.uint8], bool, npt.NDArray[np.uint8] | None]:
    """Returns pixels uint8 [H,W,3], whether they are grey, and alpha uint8 [H,W] or None."""
    if picture.mode == _FLOAT_MODE:
        raise ImageError("has floating-point pixels; convert it to 8 or 16 bits a channel")
    if picture.mode in _DEEP_GREY_MODES:
        luma, alpha = _scaled_to_8_bits(picture)
        return _replicated(luma), True, alpha
    grey, transparent = picture.mode in _GREY_MODES, picture.has_transparency_data
    mode = ("LA" if grey else "RGBA") if transparent else ("L" if grey else "RGB")
    channels = np.asarray(picture.convert(mode))
    alpha = np.ascontiguousarray(channels[:, :, -1]) if transparent else None
    if grey:
        return _replicated(channels[:, :, 0] if transparent else channels), True, alpha
    return np.ascontiguousarray(channels[:, :, :3]), False, alpha


def _scaled_to_8_bits(
    picture: PIL.Image.Image,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """Returns luma uint8 [H,W] of 16-bit grey, rounded, and alpha if one value is transparent."""
    deep = np.asarray(picture)
    if deep.min() < 0 or deep.max() > 65535:
        raise ImageError("has grey values outside 0..65535; convert it to 8 or 16 bits")
    luma = ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if transparent is None:
        return luma, None
    return luma, np.where(deep == transparent, 0, 255).astype(np.uint8)


def _luma(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The rounded mean of the channels: uint8 [H,W]."""
    total = pixels.sum(axis=2, dtype=np.uint16)
    mean: npt.NDArray[np.uint8] = ((total + 1) // 3).astype(np.uint8)
    return mean


def _replicated(luma: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(luma[:, :, np.newaxis], 3, axis=2)
