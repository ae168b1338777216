"""What a `.vqz` file keeps of an image besides its colours, and the image of a file."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import PIL.Image

from vqcodec import container
from vqcodec.errors import FormatError, ImageError, SectionError
from vqcodec.image.guard import pillow_limits, untrusted
from vqcodec.image.picture import Image, luma, replicated
from vqcodec.image.strips import strips

_DAMAGED = "the file is damaged, get it again"
_OPAQUE = 255


def economical(image: Image) -> Image:
    """The same image to look at, in fewer bytes.

    An alpha channel that is opaque everywhere is left out. Colours under full transparency, which
    nobody sees, become those of the nearest visible pixels of their row or column.
    """
    if image.alpha is None:
        return image
    if image.alpha.min() == _OPAQUE:
        return replace(image, alpha=None)
    hidden = image.alpha == 0
    if not hidden.any():
        return image
    return replace(image, pixels=_filled(image.pixels, hidden))


def _filled(pixels: npt.NDArray[np.uint8], hidden: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Pixels whose hidden ones have the colour of the nearest other one, rows before columns."""
    if hidden.all():
        return np.full_like(pixels, 128)
    source = np.arange(hidden.shape[1])[np.newaxis]
    rows: npt.NDArray[np.bool_] = np.asarray(~hidden.all(axis=1))
    filled = pixels.copy()
    for strip in strips(*hidden.shape):
        seen = np.flatnonzero(rows[strip]) + strip.start
        places = _nearest(~hidden[seen], source)[:, :, np.newaxis]
        filled[seen] = np.take_along_axis(pixels[seen], places, axis=1)
    nearest_rows = _nearest(rows[np.newaxis], np.arange(len(rows))[np.newaxis])[0]
    for row in np.flatnonzero(~rows):
        filled[row] = filled[nearest_rows[row]]
    return filled


def _nearest(there: npt.NDArray[np.bool_], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of every place of a row, the nearest one that is there; each row has one.

    Args:
        there: [N,W].
        places: 0..W-1, [1,W].
    """
    width = there.shape[1]
    before = np.maximum.accumulate(np.where(there, places, -width), axis=1)
    after = np.minimum.accumulate(np.where(there, places, 2 * width)[:, ::-1], axis=1)[:, ::-1]
    nearest: npt.NDArray[np.int64] = np.where(places - before <= after - places, before, after)
    return nearest


def extras_of(image: Image) -> dict[int, bytes]:
    """What a `.vqz` file keeps of an image besides its colours, by the container's kinds."""
    texts = "".join(f"{key}\0{text}\0" for key, text in image.texts)
    extras = {
        container.EXTRA_ALPHA: None if image.alpha is None else dump_alpha(image.alpha),
        container.EXTRA_ICC: image.icc,
        container.EXTRA_EXIF: image.exif,
        container.EXTRA_XMP: image.xmp,
        container.EXTRA_IPTC: image.iptc,
        container.EXTRA_TEXTS: texts.encode("utf-8", "replace") or None,
    }
    return dict(_smaller(kind, content) for kind, content in extras.items() if content is not None)


def _smaller(kind: int, content: bytes) -> tuple[int, bytes]:
    """An extra as it is, or deflated where that takes fewer bytes."""
    if kind == container.EXTRA_ALPHA:  # a PNG is deflated already
        return kind, content
    deflated = zlib.compress(content, 9)
    return (
        (kind | container.DEFLATED, deflated) if len(deflated) < len(content) else (kind, content)
    )


def image_of(contents: container.Container, pixels: npt.NDArray[np.uint8]) -> Image:
    """The image of a file: its pixels, and what its header and extras say.

    Args:
        contents: The file.
        pixels: What its indices stand for, uint8 [H,W,3].

    Raises:
        FormatError: the alpha channel or another extra is damaged.
    """
    header, extras = contents.header, contents.extras
    alpha = extras.get(container.EXTRA_ALPHA)
    return Image(
        pixels=replicated(luma(pixels)) if header.grey else pixels,
        grey=header.grey,
        alpha=None if alpha is None else load_alpha(alpha, header.height, header.width),
        icc=container.content_of(extras, container.EXTRA_ICC),
        exif=container.content_of(extras, container.EXTRA_EXIF),
        xmp=container.content_of(extras, container.EXTRA_XMP),
        iptc=container.content_of(extras, container.EXTRA_IPTC),
        texts=_texts_of(container.content_of(extras, container.EXTRA_TEXTS)),
    )


def _texts_of(content: bytes | None) -> tuple[tuple[str, str], ...]:
    if content is None:
        return ()
    try:
        *parts, rest = content.decode("utf-8").split("\0")
    except UnicodeDecodeError as error:
        raise SectionError(f"has texts that are not UTF-8; {_DAMAGED}") from error
    if rest or len(parts) % 2:
        raise SectionError(f"has texts without keywords; {_DAMAGED}")
    return tuple(zip(parts[::2], parts[1::2], strict=True))


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
            untrusted("the alpha channel"),
            pillow_limits(height * width),
            PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as picture,
        ):
            if picture.mode == "L" and picture.size == (width, height):
                return np.array(picture)
            kind = f"{picture.mode}, {picture.width} x {picture.height}"
    except (ImageError, PIL.UnidentifiedImageError) as error:
        raise FormatError(f"has an alpha channel that is no PNG; {_DAMAGED}") from error
    reason = f"has an alpha channel of kind {kind}, not L, {width} x {height}"
    raise FormatError(f"{reason}; {_DAMAGED}")
