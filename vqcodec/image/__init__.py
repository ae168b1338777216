"""Image files <-> 8-bit images, and what a `.vqz` file keeps of one besides its colours."""

from __future__ import annotations

from vqcodec.image.extras import dump_alpha, economical, extras_of, image_of, load_alpha
from vqcodec.image.metadata import Keep
from vqcodec.image.picture import MAX_PIXELS, MAX_SIDE, Image
from vqcodec.image.reading import Pictures, as_image, count_frames, endings, load, size_of
from vqcodec.image.writing import (
    check_format,
    dump,
    ending_of,
    flattened,
    format_for,
    losses,
    names_a_picture,
)

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "Image",
    "Keep",
    "Pictures",
    "as_image",
    "check_format",
    "count_frames",
    "dump",
    "dump_alpha",
    "economical",
    "ending_of",
    "endings",
    "extras_of",
    "flattened",
    "format_for",
    "image_of",
    "load",
    "load_alpha",
    "losses",
    "names_a_picture",
    "size_of",
]
