"""Pictures of any kind -> an image: files through Pillow and imageio, arrays, Pillow's images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import PIL.Image

from vqcodec import container, files, limits
from vqcodec.errors import CodecError, ImageError
from vqcodec.image import colour, depth, kinds, png
from vqcodec.image.guard import any_size, pillow_limits, silent_libraries, untrusted
from vqcodec.image.metadata import Keep, metadata, orientation
from vqcodec.image.picture import Image, check_shape, check_size, replicated, turned
from vqcodec.image.strips import pictures, strips

# Pillow renders these by running other programs.
_REFUSED_FORMATS = {"EPS", "WMF"}
_UNREAD_FORMATS = {"BUFR", "GRIB", "HDF5", "MPEG"}  # which it knows by name alone
_GREY_MODES = {"1", "L", "LA", "La"}
_DEEP_GREY_MODES = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
_FLOAT_MODE = "F"
_INK_MODES = {"CMYK", "LAB"}
_PROFILES_BY_FORMAT = {
    "PNG": colour.png_profile,
    "AVIF": colour.nclx_profile,
    "HEIF": colour.nclx_profile,
}
_LAYERED_FORMATS = {"PSD"}  # its layers are no frames
# Tags of TIFF.
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _MAX_SAMPLE = 254, 258, 262, 281
_PLANAR, _SUB_IFDS, _DNG_VERSION = 284, 330, 50706
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_REDUCED, _WHITE_IS_ZERO, _SEPARATE = 1, 0, 2

_FLOAT_REFUSED = (
    "has floating-point pixels, light without an upper end; "
    "--tone-map makes a picture of it, or convert it to 8 or 16 bits"
)


@dataclass(frozen=True)
class _Wish:
    """What is wanted of a file; see `load`."""

    keep: Keep = "common"
    frame: int = 0
    tone_map: bool = False


@dataclass(frozen=True)
class _Samples:
    """Pixels uint8 [H,W,3], whether they are grey, alpha uint8 [H,W] or None, and what is lost."""

    pixels: npt.NDArray[np.uint8]
    grey: bool
    alpha: npt.NDArray[np.uint8] | None
    left_out: tuple[str, ...] = ()


def load(
    source: bytes | bytearray | memoryview | str | Path | BinaryIO,
    *,
    keep: Keep = "common",
    frame: int = 0,
    tone_map: bool = False,
    allow_damaged: bool = False,
    max_pixels: int | None = None,
) -> Image:
    """Reads an image of any kind that Pillow, its plugins or imageio read.

    The EXIF orientation is applied. 16 bits a channel are scaled to 8, inks become sRGB by their
    profile, palettes RGB. An alpha channel is kept even when it is opaque everywhere. What is lost
    is in `left_out`.

    Args:
        source: The bytes of an image file, an open one, or its name, `-` for standard input.
        keep: Which metadata: "none", "common" or "all"; see `Keep`.
        frame: Of an animation or of several pages, from 0.
        tone_map: Whether to make a picture of floating-point light instead of refusing it.
        allow_damaged: Whether to take of a damaged file what can be read.
        max_pixels: The most there may be, which is known before any is decoded; None for what the
            environment variable VQCODEC_MAX_PIXELS says, or 128 million.

    Raises:
        ImageError: The image is unreadable, of a kind that is not supported, or too large.
        CodecError: The file cannot be read.
    """
    wish = _Wish(keep, frame, tone_map)
    with limits.at_most(max_pixels):
        return _loaded(source, wish, allow_damaged)


def _loaded(
    source: bytes | bytearray | memoryview | str | Path | BinaryIO, wish: _Wish, allow_damaged: bool
) -> Image:
    if isinstance(source, str | Path):
        try:
            return _load(files.read_bytes(source), wish, allow_damaged)
        except CodecError as error:
            error.in_file(files.input_name(source))
            raise
    if isinstance(source, bytes | bytearray | memoryview):
        return _load(bytes(source), wish, allow_damaged)
    if not hasattr(source, "read"):
        reason = f"a {type(source).__name__} is no file"
        raise ImageError(f"{reason}; give its name, its bytes or an open one")
    content = source.read()
    if not isinstance(content, bytes):
        raise ImageError("the file is open as text; open it with mode 'rb'")
    return _load(content, wish, allow_damaged)


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
    with _identified(encoded), pillow_limits(), _opened(encoded) as picture:
        return picture.height, picture.width


def count_frames(encoded: bytes) -> int:
    """Frames of an animation, or pages.

    Raises:
        ImageError: It is no image.
    """
    kind = kinds.kind_of(encoded)
    if kind and kinds.reader_of(kind).read:
        return 1
    with _identified(encoded), pillow_limits(), _opened(encoded) as picture:
        return _frames(picture)


def endings() -> frozenset[str]:
    """Endings of the names of pictures, such as ".png": of all kinds, installed or not."""
    known = PIL.Image.registered_extensions()
    read = PIL.Image.OPEN.keys() - _REFUSED_FORMATS - _UNREAD_FORMATS
    by_pillow = {ending for ending, format in known.items() if format in read}
    return frozenset(by_pillow - {container.ENDING} | kinds.ENDINGS)


Pictures = Image | npt.NDArray[Any] | PIL.Image.Image
"""What people have: an `Image`; a uint8 array, grey [H,W] or [H,W,2] with alpha, RGB [H,W,3] or
[H,W,4] with alpha, laid out in memory in any way; or a Pillow image, whose orientation is
applied."""


def as_image(picture: Pictures) -> Image:
    """The image of what people have; of a Pillow image, with its profile and common EXIF.

    Raises:
        ImageError: it is no image, or of a kind or size that is not supported.
    """
    if isinstance(picture, Image):
        picture.check()
        return picture
    if isinstance(picture, PIL.Image.Image):
        with untrusted(), pillow_limits():
            check_size(*picture.size)
            picture.load()
            return _image(picture, None, _samples(picture), _Wish())
    if not isinstance(picture, np.ndarray):
        reason = f"a {type(picture).__name__} is no image"
        raise ImageError(f"{reason}; give an Image, a uint8 array or a Pillow image")
    array = picture[:, :, np.newaxis] if picture.ndim == 2 else picture
    if picture.dtype != np.uint8 or array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        reason = f"an array of {picture.dtype} {list(picture.shape)} is no image"
        raise ImageError(f"{reason}; give uint8 [height, width] or [height, width, 1 to 4]")
    samples = _of_channels(array)
    image = Image(samples.pixels, samples.grey, samples.alpha)
    image.check()
    return image


def _load(encoded: bytes, wish: _Wish, allow_damaged: bool) -> Image:
    try:
        return _read(encoded, wish, damaged=False)
    except ImageError as error:
        if not allow_damaged:
            raise
        try:
            image = _read(encoded, wish, damaged=True)
        except ImageError:
            raise error from None
        return replace(image, left_out=("what is damaged of it", *image.left_out))


def _read(encoded: bytes, wish: _Wish, *, damaged: bool) -> Image:
    if encoded.startswith(container.MAGIC):  # whatever plugin Pillow has for it
        raise kinds.unknown(encoded)
    kind = kinds.kind_of(encoded)
    if kind and (read := kinds.reader_of(kind).read):
        return _read_array(read, encoded, wish)
    is_tiff = encoded.startswith(kinds.TIFF)
    silence = silent_libraries() if is_tiff else contextlib.nullcontext()
    other: kinds.Read | None
    with _identified(encoded), pillow_limits(damaged=damaged), silence:
        try:
            with _opened(encoded) as picture:
                if picture.format == "PNG" and not damaged:
                    png.check_checksums(encoded)
                other = _reader_of_tiff(picture) if is_tiff else None
                if other is None:
                    return _of_file(picture, encoded, wish)
        except PIL.UnidentifiedImageError:
            if not is_tiff:
                raise
            other = kinds.read_tiff
    return _read_array(other, encoded, wish)


@contextlib.contextmanager
def _identified(encoded: bytes) -> Iterator[None]:
    """As `untrusted`; for bytes of an unknown kind, words that fit them."""
    try:
        with untrusted():
            yield
    except PIL.UnidentifiedImageError as error:
        raise kinds.unknown(encoded) from error


@contextlib.contextmanager
def _opened(encoded: bytes) -> Iterator[PIL.Image.Image]:
    PIL.Image.init()
    formats = [name for name in PIL.Image.OPEN if name not in _REFUSED_FORMATS]
    with any_size():  # what Pillow says of one that is too large has not its sides
        picture = PIL.Image.open(io.BytesIO(encoded), formats=formats)
    with picture:
        check_size(*picture.size)
        yield picture


def _frames(picture: PIL.Image.Image) -> int:
    if picture.format in _LAYERED_FORMATS:
        return 1
    try:
        return int(getattr(picture, "n_frames", 1))
    except MemoryError:
        raise
    except Exception:  # a later frame is damaged; the first may be whole
        picture.seek(0)
        return 1


def _reader_of_tiff(picture: PIL.Image.Image) -> kinds.Read | None:
    """What has to read a TIFF that Pillow would give wrong pixels of, without a word."""
    tags: Any = picture.tag_v2  # type: ignore[attr-defined]
    preview = tags.get(_SUBFILE_TYPE) == _REDUCED and _SUB_IFDS in tags
    if preview or _DNG_VERSION in tags:
        return kinds.reader_of("camera RAW").read
    check_size(tags.get(_TILE_WIDTH, 1), tags.get(_TILE_LENGTH, 1))
    deep = max(tags.get(_BITS, (1,))) > 8
    return kinds.read_tiff if deep and tags.get(_PLANAR) == _SEPARATE else None


def _of_file(picture: PIL.Image.Image, encoded: bytes, wish: _Wish) -> Image:
    frames = _frames(picture)
    if not 0 <= wish.frame < frames:
        raise ImageError(f"has no frame {wish.frame}; give one from 0 to {frames - 1}")
    if frames > 1:
        picture.seek(wish.frame)
    deep, mode = None, depth.raw_mode(picture)
    # An APNG's frames are drawn over each other in 8 bits.
    if depth.has_lower_bytes(mode) and not (picture.format == "PNG" and frames > 1):
        with _opened(encoded) as again:
            again.seek(wish.frame)
            deep = depth.read_both_bytes(picture, again)
    picture.load()
    # A container such as ICO learns the size of what it holds only now.
    check_size(*picture.size)
    samples = _samples(picture, deep, tone_map=wish.tone_map)
    if depth.is_deep(mode) and not samples.left_out:
        samples = replace(samples, left_out=_depth_lost(depth.MAX_SAMPLE, False))
    image = _image(picture, encoded, samples, wish)
    if frames == 1:
        return image
    what = "page" if picture.format in {"TIFF", "DCX"} else "frame"
    others = f"{frames - 1} other {what}{'s' if frames > 2 else ''}"
    return replace(image, left_out=(f"{others} (--frame)", *image.left_out))


def _read_array(read: kinds.Read, encoded: bytes, wish: _Wish) -> Image:
    """The image of a file that another library than Pillow reads."""
    with untrusted(), silent_libraries():
        array, icc = read(encoded, wish.frame)
        check_shape(array.shape)
        channels = array if array.ndim == 3 else array[:, :, np.newaxis]
        samples = _shallow(channels, wish.tone_map)
    found, misfit = colour.checked_profile(icc, samples.grey)
    left_out = samples.left_out
    if wish.keep == "none":
        misfit = None
    return Image(
        samples.pixels,
        samples.grey,
        samples.alpha,
        _kept_profile(found, wish.keep),
        left_out=left_out if misfit is None else (*left_out, misfit),
    )


def _kept_profile(icc: bytes | None, keep: Keep) -> bytes | None:
    """What is kept of a profile: one that says what is meant without it takes bytes for nothing."""
    plain = keep == "none" or (keep == "common" and icc is not None and colour.is_srgb(icc))
    return None if plain else icc


def _shallow(channels: npt.NDArray[Any], tone_map: bool) -> _Samples:
    """8 bits of what another library gave: [H,W,1 to 4]."""
    if channels.dtype.kind == "f":
        if not tone_map:
            raise ImageError(_FLOAT_REFUSED)
        colours = channels[:, :, : 3 if channels.shape[2] > 2 else 1]
        light = colours if colours.shape[2] == 3 else colours[:, :, 0]
        mapped = depth.tone_mapped(light).reshape(colours.shape)
        if channels.shape[2] % 2 == 0:
            alpha = np.rint(255 * np.nan_to_num(channels[:, :, -1:]).clip(0, 1)).astype(np.uint8)
            mapped = np.concatenate([mapped, alpha], axis=2)
        return replace(_of_channels(mapped), left_out=("its range of light (tone-mapped)",))
    if channels.dtype == np.uint8:
        return _of_channels(channels)
    if channels.dtype.kind not in "ui":
        raise ImageError(f"has samples of {channels.dtype}; convert it to 8 or 16 bits")
    depth.check_range(channels)
    most = depth.likely_most(channels)
    return replace(_of_channels(depth.scaled(channels, most)), left_out=_depth_lost(most, True))


def _of_channels(channels: npt.NDArray[np.uint8]) -> _Samples:
    """Samples of uint8 [H,W,1 to 4]."""
    grey, transparent = channels.shape[2] < 3, channels.shape[2] % 2 == 0
    return _Samples(
        replicated(channels[:, :, 0]) if grey else np.ascontiguousarray(channels[:, :, :3]),
        grey,
        np.ascontiguousarray(channels[:, :, -1]) if transparent else None,
    )


def _image(
    picture: PIL.Image.Image, encoded: bytes | None, samples: _Samples, wish: _Wish
) -> Image:
    """The upright image of a loaded picture's samples, with its metadata.

    Args:
        picture: Loaded.
        encoded: Its file, if there is one.
        samples: Its samples, as they are stored.
        wish: What metadata is wanted.
    """
    left_out = list(samples.left_out)
    icc = None
    if picture.mode not in _INK_MODES:
        icc, misfit = colour.checked_profile(picture.info.get("icc_profile"), samples.grey)
        said = _PROFILES_BY_FORMAT.get(picture.format or "")
        if icc is None and encoded is not None and said is not None:
            icc, meaning = said(encoded, samples.grey)
            misfit = misfit or meaning
        if misfit and wish.keep != "none":
            left_out.append(misfit)
    found = metadata(picture, wish.keep)
    left_out += found.left_out
    turn = orientation(picture)
    return Image(
        turned(samples.pixels, turn),
        samples.grey,
        None if samples.alpha is None else turned(samples.alpha, turn),
        _kept_profile(icc, wish.keep),
        found.exif,
        found.xmp,
        found.iptc,
        found.texts,
        tuple(left_out),
    )


def _samples(
    picture: PIL.Image.Image,
    deep: npt.NDArray[np.uint16] | None = None,
    *,
    tone_map: bool = False,
) -> _Samples:
    """Samples of a loaded picture.

    Args:
        picture: Loaded.
        deep: All 16 bits of its samples, uint16 [H,W,2 to 4], if it has more than one channel.
        tone_map: Whether floating-point light is to become a picture.
    """
    if deep is not None:
        return _of_deep_channels(picture, deep)
    if picture.mode == _FLOAT_MODE:
        return _shallow(np.asarray(picture)[:, :, np.newaxis], tone_map)
    if picture.mode in _DEEP_GREY_MODES:
        return _of_deep_grey(picture)
    if picture.mode in _INK_MODES:
        inexact: set[str] = set()

        def to_rgb(strip: PIL.Image.Image) -> PIL.Image.Image:
            converted, *guessed = colour.to_rgb(strip)
            inexact.update(filter(None, guessed))
            return converted

        samples = _by_strips(picture, to_rgb, grey=False, transparent=False)
        return replace(samples, left_out=tuple(inexact))
    grey, transparent = picture.mode in _GREY_MODES, picture.has_transparency_data
    mode = ("LA" if grey else "RGBA") if transparent else ("L" if grey else "RGB")
    return _by_strips(
        picture, lambda strip: strip.convert(mode), grey=grey, transparent=transparent
    )


def _by_strips(
    picture: PIL.Image.Image,
    convert: Callable[[PIL.Image.Image], PIL.Image.Image],
    *,
    grey: bool,
    transparent: bool,
) -> _Samples:
    """Samples of a loaded picture, a few rows of which are converted at a time.

    Args:
        picture: Loaded.
        convert: Gives 8 bits a channel: L, LA, RGB or RGBA.
        grey: Whether these are L or LA.
        transparent: Whether they have alpha.
    """
    shape = picture.height, picture.width
    pixels = np.empty((*shape, 3), np.uint8)
    alpha = np.empty(shape, np.uint8) if transparent else None
    for rows, strip in pictures(picture):
        channels = np.atleast_3d(np.asarray(convert(strip)))
        pixels[rows] = channels[:, :, : 1 if grey else 3]
        if alpha is not None:
            alpha[rows] = channels[:, :, -1]
    return _Samples(pixels, grey, alpha)


def _of_deep_channels(picture: PIL.Image.Image, deep: npt.NDArray[np.uint16]) -> _Samples:
    most, known = _white_of(picture, deep)
    samples = _of_channels(depth.scaled(deep, most))
    transparent = picture.info.get("transparency")
    if samples.alpha is None and transparent is not None:
        alpha = np.empty(deep.shape[:2], np.uint8)
        for rows in strips(*deep.shape[:2]):
            alpha[rows] = 255 * (deep[rows] != transparent).any(axis=2)
        samples = replace(samples, alpha=alpha)
    return replace(samples, left_out=_depth_lost(most, not known))


def _of_deep_grey(picture: PIL.Image.Image) -> _Samples:
    deep = np.asarray(picture)
    depth.check_range(deep)
    most, known = _white_of(picture, deep)
    values = depth.scaled(deep, most)
    # Pillow inverts those of 8 bits only.
    if _tags(picture).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = 255 - values
    transparent = picture.info.get("transparency")
    return _Samples(
        replicated(values),
        True,
        None if transparent is None else (deep != transparent).astype(np.uint8) * 255,
        _depth_lost(most, not known),
    )


def _white_of(picture: PIL.Image.Image, deep: npt.NDArray[Any]) -> tuple[int, bool]:
    """The value of white, and whether the file told it."""
    tags = _tags(picture)
    if not tags:
        return depth.MAX_SAMPLE, True
    bits = max(tags.get(_BITS, (16,)))
    told = tags.get(_MAX_SAMPLE)
    told = max(told) if isinstance(told, tuple) else told
    if bits < 16:
        return 2**bits - 1, True
    if isinstance(told, int) and int(deep.max()) <= told <= depth.MAX_SAMPLE:
        return told, True
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return depth.MAX_SAMPLE, True  # what is not in use would be the dark end
    most = depth.likely_most(deep)
    return most, most == depth.MAX_SAMPLE


def _depth_lost(most: int, guessed: bool) -> tuple[str, ...]:
    bits = most.bit_length()
    if bits == 8:
        return ()
    guess = ", a guess by its largest value" if guessed and most < depth.MAX_SAMPLE else ""
    return (f"depth ({bits} bits a channel became 8{guess})",)


def _tags(picture: PIL.Image.Image) -> Any:
    return getattr(picture, "tag_v2", {})
