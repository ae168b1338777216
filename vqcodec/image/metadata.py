"""What a picture says besides its pixels, and how much of it is kept.

Source: Exif 2.32 and TIFF 6.0 for the tags; XMP specification part 3 for where packets lie.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, Literal

import PIL.Image

Keep = Literal["none", "common", "all"]
"""How much metadata: none, not even the colour profile; the profile, unless it is sRGB, which is
meant without one, and EXIF without position, maker notes and thumbnail; or all, EXIF as it is."""

EXIF_PREFIX = b"Exif\0\0"
ORIENTATION = 0x0112
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD, _MAKER_NOTE = 0x8769, 0x8825, 0xA005, 0x927C
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_INCH = 2
_TIFF_XMP, _TIFF_IPTC, _TIFF_RESOURCES = 700, 33723, 34377
# A TIFF's tags that describe the picture; the others are of its layout.
_TIFF_DESCRIPTIONS = {
    *(0x010E, 0x010F, 0x0110, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT),
    *(0x0131, 0x0132, 0x013B, 0x013C, 0x8298),
}
_RESOURCES_PREFIX = b"Photoshop 3.0\0"
_IPTC_RESOURCE = 0x0404
_XMP_KEYS = ("xmp", "XML:com.adobe.xmp", "Raw profile type xmp")
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>))[2-8]""")
# Formats whose decoders turn the picture themselves; EXIF's orientation is to be ignored.
_TURNED_FORMATS = {"HEIF", "JXL"}
UPRIGHT = 1


@dataclass(frozen=True)
class Metadata:
    """Of one picture, as `vqcodec.image.Image` has it.

    Attributes:
        exif: See there; as the next ones.
        xmp: See there.
        iptc: See there.
        texts: See there.
        left_out: What is not kept, in a few words each.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()


def orientation(picture: PIL.Image.Image) -> int:
    """The EXIF orientation that is still to be applied, 1 to 8. XMP's is no reason to turn it."""
    if picture.format in _TURNED_FORMATS:
        return UPRIGHT
    try:
        found = _exif(picture).get(ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # of a broken block, anything
        return UPRIGHT
    return found if isinstance(found, int) and 1 <= found <= 8 else UPRIGHT


def metadata(picture: PIL.Image.Image, keep: Keep) -> Metadata:
    """What is kept of a picture that has been loaded."""
    if keep == "none":
        return Metadata()
    exif: bytes | None = None
    hidden: list[str] = []
    broken: tuple[str, ...] = ()
    try:
        exif, hidden = (_whole_exif if keep == "all" else _common_exif)(picture)
    except MemoryError:
        raise
    except Exception:  # of a broken block, anything
        broken = ("a broken EXIF block",)
    xmp, iptc, texts = _xmp(picture), _iptc(picture), _texts(picture)
    if keep == "all":
        return Metadata(exif, xmp and _upright_xmp(xmp), iptc, texts, broken)
    hidden += [name for name, there in (("XMP", xmp), ("IPTC", iptc), ("texts", texts)) if there]
    told = (f"{', '.join(hidden)} (--keep-metadata)",) if hidden else ()
    return Metadata(exif, left_out=(*broken, *told))


def _exif(picture: PIL.Image.Image) -> PIL.Image.Exif:
    """Without what Pillow takes from XMP."""
    hidden = {key: picture.info.pop(key) for key in _XMP_KEYS if key in picture.info}
    try:
        return picture.getexif()
    finally:
        picture.info.update(hidden)


def _block(picture: PIL.Image.Image) -> bytes | None:
    """The EXIF block of a file that has one, without the prefix."""
    block = picture.info.get("exif")
    if block is None and "Raw profile type exif" in picture.info:  # ImageMagick's
        block = bytes.fromhex("".join(picture.info["Raw profile type exif"].split("\n")[3:]))
    return None if not block else block.removeprefix(EXIF_PREFIX)


def _common_exif(picture: PIL.Image.Image) -> tuple[bytes | None, list[str]]:
    """EXIF without position, maker notes, thumbnail and orientation; what of it was there."""
    if _block(picture) is None and not hasattr(picture, "tag_v2"):
        return None, []
    found = _exif(picture)
    kept = _copied(found, picture)
    details = found.get_ifd(_EXIF_IFD)
    left_out = []
    if found.get_ifd(_GPS_IFD):
        left_out.append("GPS position")
    if _MAKER_NOTE in details:
        left_out.append("maker notes")
    wanted = {
        tag: value for tag, value in details.items() if tag not in {_MAKER_NOTE, _INTEROP_IFD}
    }
    if wanted:
        kept.get_ifd(_EXIF_IFD).update(wanted)
    if not found and _block(picture) is not None:
        raise ValueError("nothing can be read of it")
    return (kept.tobytes() if kept or wanted else None), left_out


def _copied(found: PIL.Image.Exif, picture: PIL.Image.Image) -> PIL.Image.Exif:
    """The tags of the first directory, without the orientation and the other directories."""
    apart = {ORIENTATION, _EXIF_IFD, _GPS_IFD, _TIFF_XMP, _TIFF_IPTC, _TIFF_RESOURCES}
    of_tiff = hasattr(picture, "tag_v2") and _block(picture) is None
    kept = PIL.Image.Exif()
    for tag, value in found.items():
        if tag not in apart and (not of_tiff or tag in _TIFF_DESCRIPTIONS):
            kept[tag] = value
    return kept


def _whole_exif(picture: PIL.Image.Image) -> tuple[bytes | None, list[str]]:
    """The block as it is, but upright; a TIFF's descriptive tags as one; the dots per inch."""
    block = _block(picture)
    if block is not None:
        if not _exif(picture):
            raise ValueError("nothing can be read of it")
        return EXIF_PREFIX + _upright_exif(block), []
    exif = PIL.Image.Exif()
    if hasattr(picture, "tag_v2"):
        found = _exif(picture)
        exif = _copied(found, picture)
        for directory in (_EXIF_IFD, _GPS_IFD):
            if entries := found.get_ifd(directory):
                exif.get_ifd(directory).update(
                    {tag: value for tag, value in entries.items() if tag != _INTEROP_IFD}
                )
        return (exif.tobytes() if exif or exif._ifds else None), []
    if "dpi" not in picture.info:
        return None, []
    exif[_X_RESOLUTION], exif[_Y_RESOLUTION] = (float(each) for each in picture.info["dpi"])
    exif[_RESOLUTION_UNIT] = _INCH
    return exif.tobytes(), []


def _upright_exif(block: bytes) -> bytes:
    """A TIFF structure whose first directory says upright, nothing else of it changed.

    Raises:
        struct.error: it is none.
    """
    order = "<" if block.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, start)
    changed = bytearray(block)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(f"{order}H", block, entry)
        if tag == ORIENTATION:
            struct.pack_into(f"{order}HIHH", changed, entry + 2, 3, 1, UPRIGHT, 0)
    return bytes(changed)


def _xmp(picture: PIL.Image.Image) -> bytes | None:
    found: Any = next((picture.info[key] for key in _XMP_KEYS[:2] if key in picture.info), None)
    if found is None and hasattr(picture, "tag_v2"):
        found = picture.tag_v2.get(_TIFF_XMP)
    return found.encode() if isinstance(found, str) else found or None


def _upright_xmp(xmp: bytes) -> bytes:
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _iptc(picture: PIL.Image.Image) -> bytes | None:
    """Photoshop's image resources, which hold IPTC."""
    segments = b"".join(
        content.removeprefix(_RESOURCES_PREFIX)
        for name, content in getattr(picture, "applist", ())
        if name == "APP13" and content.startswith(_RESOURCES_PREFIX)
    )
    if segments or not hasattr(picture, "tag_v2"):
        return segments or None
    resources = picture.tag_v2.get(_TIFF_RESOURCES)
    if isinstance(resources, bytes) and resources:
        return resources
    records = picture.tag_v2.get(_TIFF_IPTC)
    if not isinstance(records, bytes) or not records:
        return None
    head = struct.pack(">4sHHI", b"8BIM", _IPTC_RESOURCE, 0, len(records))
    return head + records + bytes(len(records) % 2)


def _texts(picture: PIL.Image.Image) -> tuple[tuple[str, str], ...]:
    """Keywords and texts of a PNG; the comment of a JPEG or GIF."""
    found = [
        (str(key), str(value))
        for key, value in getattr(picture, "text", {}).items()
        if key not in _XMP_KEYS and not key.startswith("Raw profile type ")
    ]
    comment = picture.info.get("comment")
    if isinstance(comment, bytes):
        comment = comment.decode("utf-8", "replace")
    if isinstance(comment, str) and comment:
        found.append(("Comment", comment))
    return tuple((key.replace("\0", ""), text.replace("\0", "")) for key, text in found)
