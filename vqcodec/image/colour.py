"""What the numbers of a picture mean as colours: profiles, CMYK, and PNG's other ways to say it.

Source: ICC.1:2022, the International Color Consortium's profile format; PNG, third edition, for
    gAMA, cHRM, sRGB and cICP; Rec. ITU-T H.273, tables 2 and 3, for the numbers of cICP.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageCms

from vqcodec.errors import ImageError
from vqcodec.image import png

_SIZE = slice(0, 4)
_COLOUR_SPACE = slice(16, 20)
_SIGNATURE = slice(36, 40)
_HEADER_LENGTH = 128
_GRID_STEP = 15  # divides 255
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue, as in PNG's cHRM."""

_D65 = (0.3127, 0.3290)
_SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES: dict[int, Chromaticities] = {
    1: _SRGB,
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # DCI-P3
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}
_BT709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
# An exponent alone, or g, a, b, c, d of ICC's third parametric curve.
_CURVES: dict[int, tuple[float, ...]] = {
    1: _BT709_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: _BT709_CURVE,
    8: (1.0,),
    13: (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),  # sRGB
    14: _BT709_CURVE,
    15: _BT709_CURVE,
}
_SRGB_CICP = (1, 13)
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
_NCLX, _NCLX_WITHIN = b"colrnclx", 64 << 10  # a box near the beginning of AVIF and HEIC files
# Unspecified or of standard video: what everyone shows as sRGB.
_VIDEO_PRIMARIES, _VIDEO_TRANSFERS = {1, 2, 5, 6}, {1, 2, 6, 13, 14, 15}
_SRGB_GAMMA = 45455  # of gAMA, in 1/100000: what browsers take for sRGB
_CHRM_SRGB = tuple(round(100_000 * each) for each in _SRGB)


def checked_profile(icc: bytes | None, grey: bool) -> tuple[bytes | None, str | None]:
    """A profile without what follows its end, if it fits pixels; else why it does not.

    Args:
        icc: Of a file, or None.
        grey: Whether the pixels have one channel.
    """
    if not icc:
        return None, None
    size = int.from_bytes(icc[_SIZE], "big")
    if not _HEADER_LENGTH <= size <= len(icc) or icc[_SIGNATURE] != b"acsp":
        return None, "a broken colour profile"
    if icc[_COLOUR_SPACE] != (b"GRAY" if grey else b"RGB "):
        space = icc[_COLOUR_SPACE].decode("latin-1").strip()
        of = "grey" if grey else "RGB"
        return None, f"a colour profile of {space}, which does not fit {of} pixels"
    return icc[:size], None


def is_srgb(icc: bytes) -> bool:
    """Whether a profile is called sRGB, and makes no more than a level of difference to any colour.

    Args:
        icc: Of RGB or grey pixels.
    """
    levels = np.arange(0, 256, _GRID_STEP, dtype=np.uint8)
    if icc[_COLOUR_SPACE] == b"GRAY":
        colours = levels[np.newaxis]
    else:
        colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    try:
        profile = PIL.ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if "srgb" not in PIL.ImageCms.getProfileDescription(profile).lower():
            return False
        return all(
            _most_change(colours, profile, intent) <= 1
            for intent in (
                PIL.ImageCms.Intent.PERCEPTUAL,
                PIL.ImageCms.Intent.RELATIVE_COLORIMETRIC,
            )
        )
    except (PIL.ImageCms.PyCMSError, OSError, ValueError):
        return False


def _most_change(
    colours: npt.NDArray[np.uint8],
    profile: PIL.ImageCms.ImageCmsProfile,
    intent: PIL.ImageCms.Intent,
) -> int:
    """By how many levels colours of a profile, [1, N] or [1, N, 3], differ as sRGB."""
    picture = PIL.Image.fromarray(colours)
    srgb = PIL.ImageCms.createProfile("sRGB")
    converted = PIL.ImageCms.profileToProfile(picture, profile, srgb, intent, outputMode="RGB")
    same = np.asarray(picture.convert("RGB"), np.int16)
    return int(np.abs(np.asarray(converted, np.int16) - same).max())


def to_rgb(picture: PIL.Image.Image) -> tuple[PIL.Image.Image, str | None]:
    """A picture of inks or of CIE L*a*b* as sRGB, and what was not exact about it.

    Args:
        picture: Of mode CMYK, by its profile if it has one, or LAB.
    """
    srgb = PIL.ImageCms.createProfile("sRGB")
    icc: bytes = picture.info.get("icc_profile") or b""
    if picture.mode == "CMYK" and not icc:
        return picture.convert("RGB"), "CMYK without a profile, its colours are a guess"
    try:
        source = (
            PIL.ImageCms.createProfile("LAB")
            if picture.mode == "LAB"
            else PIL.ImageCms.ImageCmsProfile(io.BytesIO(icc))
        )
        converted = PIL.ImageCms.profileToProfile(picture, source, srgb, outputMode="RGB")
    except (PIL.ImageCms.PyCMSError, OSError, ValueError):
        return picture.convert("RGB"), "a CMYK profile that cannot be used, its colours are a guess"
    assert converted is not None  # only in-place conversions give nothing
    return converted, None


def png_profile(encoded: bytes, grey: bool) -> tuple[bytes | None, str | None]:
    """The profile that stands for what a PNG says of its colours without one.

    Args:
        encoded: A PNG file.
        grey: Whether its pixels have one channel.

    Returns:
        The profile, None for sRGB; and what it says that is lost.

    Raises:
        ImageError: its colours are HDR.
    """
    heading = png.heading(encoded)
    cicp = heading.get(b"cICP", b"")
    if len(cicp) == 4:
        return _coded_profile(cicp[0], cicp[1], grey)
    if b"iCCP" in heading or b"sRGB" in heading or len(heading.get(b"gAMA", b"")) != 4:
        return None, None
    (gamma,) = struct.unpack(">I", heading[b"gAMA"])
    chrm = heading.get(b"cHRM", b"")
    places = struct.unpack(">8I", chrm) if len(chrm) == 32 else _CHRM_SRGB
    if gamma == 0 or 0 in places[1::2]:
        return None, "a gamma that cannot be"
    if (
        gamma == _SRGB_GAMMA
        and max(abs(a - b) for a, b in zip(places, _CHRM_SRGB, strict=True)) < 100
    ):
        return None, None
    return profile(tuple(each / 100_000 for each in places), (100_000 / gamma,), grey), None


def nclx_profile(encoded: bytes, grey: bool) -> tuple[bytes | None, str | None]:
    """As `png_profile`, for an AVIF or HEIC file."""
    at = encoded.find(_NCLX, 0, _NCLX_WITHIN)
    if at < 0 or len(encoded) < at + len(_NCLX) + 4:
        return None, None
    primaries, transfer = struct.unpack_from(">HH", encoded, at + len(_NCLX))
    if primaries in _VIDEO_PRIMARIES and transfer in _VIDEO_TRANSFERS:
        return None, None
    return _coded_profile(primaries, transfer, grey)


def _coded_profile(primaries: int, transfer: int, grey: bool) -> tuple[bytes | None, str | None]:
    """The profile of H.273's numbers for primaries and transfer, or what is lost.

    Raises:
        ImageError: they are of HDR.
    """
    if transfer in _HDR_TRANSFERS:
        reason = f"has HDR colours ({_HDR_TRANSFERS[transfer]})"
        raise ImageError(f"{reason}; convert it to SDR first")
    if (primaries, transfer) == _SRGB_CICP:
        return None, None
    if primaries in _PRIMARIES and transfer in _CURVES:
        return profile(_PRIMARIES[primaries], _CURVES[transfer], grey), None
    return None, f"the meaning of its colours (cICP {primaries}, {transfer})"


def profile(places: Chromaticities, curve: tuple[float, ...], grey: bool) -> bytes:
    """A profile of three primaries and a curve, or of the curve alone.

    Args:
        places: Of the primaries.
        curve: An exponent, or g, a, b, c, d of ICC's third parametric curve.
        grey: Whether for pixels of one channel.
    """
    tone = struct.pack(">4sIHH", b"para", 0, 0 if len(curve) == 1 else 3, 0) + _numbers(*curve)
    tags = {
        b"desc": _text("vqcodec: as the PNG said"),
        b"cprt": _text("None"),
        b"wtpt": _colour(_D50),
    }
    if grey:
        tags[b"kTRC"] = tone
    else:
        for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), _columns(places), strict=True):
            tags[name] = _colour(column)
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone)
    table, body = b"", b""
    start = _HEADER_LENGTH + 4 + 12 * len(tags)
    places_of: dict[bytes, int] = {}  # equal contents are there once
    for name, content in tags.items():
        if content not in places_of:
            places_of[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", places_of[content], len(content))
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x12s48x",
        start + len(body),
        0x04300000,
        b"mntr",
        b"GRAY" if grey else b"RGB ",
        b"XYZ ",
        b"acsp",
        _numbers(*_D50),
    )
    return head + struct.pack(">I", len(tags)) + table + body


def _columns(places: Chromaticities) -> npt.NDArray[np.float64]:
    """XYZ of red, green and blue, one a row, as seen under D50."""
    xyz = np.array(
        [(x / y, 1.0, (1 - x - y) / y) for x, y in zip(places[::2], places[1::2], strict=True)]
    )
    white, primaries = xyz[0], xyz[1:]
    scaled = primaries * np.linalg.solve(primaries.T, white)[:, np.newaxis]
    gain = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapt = np.linalg.solve(_BRADFORD, gain[:, np.newaxis] * _BRADFORD)
    adapted: npt.NDArray[np.float64] = scaled @ adapt.T
    return adapted


def _numbers(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))


def _colour(xyz: npt.ArrayLike) -> bytes:
    return b"XYZ " + bytes(4) + _numbers(*np.asarray(xyz).tolist())


def _text(text: str) -> bytes:
    content = text.encode("utf-16-be")
    return struct.pack(">4sIII4sII", b"mluc", 0, 1, 12, b"enUS", len(content), 28) + content
