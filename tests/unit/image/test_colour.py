"""What numbers mean as colours: compared with what a colour management system makes of them."""

from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
from pictures import DISPLAY_P3 as P3
from pictures import encode, noise, png, profile, srgb_profile

from vqcodec import image
from vqcodec.errors import ImageError
from vqcodec.image import colour
from vqcodec.image.picture import Image


def as_srgb(loaded: Image) -> list[int]:
    """The first pixel as a colour management system shows it."""
    assert loaded.icc is not None
    source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(loaded.icc))
    shown = PIL.ImageCms.profileToProfile(
        PIL.Image.fromarray(np.ascontiguousarray(loaded.channels)),
        source,
        PIL.ImageCms.createProfile("sRGB"),
        outputMode="RGB",
    )
    assert shown is not None
    return np.asarray(shown)[0, 0].tolist()


def test_a_profile_is_kept() -> None:
    loaded = image.load(encode(noise(5, 7, 3), icc_profile=P3))
    assert (loaded.icc, loaded.left_out) == (P3, ())


def renamed(icc: bytes, old: str, new: str) -> bytes:
    """A profile whose description, UTF-16 or ASCII, says another word as long."""
    assert len(old) == len(new)
    for encoding in ("utf-16-be", "ascii"):
        icc = icc.replace(old.encode(encoding), new.encode(encoding))
    return icc


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_profile_of_srgb_is_left_out(format: str) -> None:
    encoded = encode(noise(5, 7, 3), format, icc_profile=srgb_profile())
    loaded = image.load(encoded)
    assert (loaded.icc, loaded.left_out) == (None, ())
    assert image.load(encoded, keep="all").icc == srgb_profile()
    with PIL.Image.open(io.BytesIO(encoded)) as picture:
        assert image.as_image(picture).icc is None


def test_a_photographs_profile_of_srgb(chelsea: Path) -> None:
    encoded = chelsea.read_bytes()
    assert image.load(encoded).icc is None
    found = image.load(encoded, keep="all").icc
    assert found is not None
    assert colour.is_srgb(found)


def test_profiles_that_are_srgb_in_name_or_in_colours_alone_are_kept() -> None:
    called = renamed(srgb_profile(), "sRGB", "mine")
    assert called != srgb_profile()
    curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    places = (0.3127, 0.329, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
    other_curve = colour.profile(places, (2.2,), grey=False)
    for icc in (called, P3, colour.profile(places, curve, grey=False), other_curve):
        assert not colour.is_srgb(icc)
        assert image.load(encode(noise(5, 7, 3), icc_profile=icc)).icc == icc


def test_a_curve_other_than_it_says_is_kept() -> None:
    """The name is right, and the colours are not: red's curve is another."""
    icc = bytearray(srgb_profile())
    count = int.from_bytes(icc[128:132], "big")
    tags = {
        bytes(icc[at : at + 4]): int.from_bytes(icc[at + 4 : at + 8], "big")
        for at in range(132, 132 + 12 * count, 12)
    }
    at = tags[b"rTRC"]
    assert icc[at : at + 4] == b"para"
    icc[at + 12 : at + 16] = (2 << 16).to_bytes(4, "big")  # the exponent, for 2.4
    assert "sRGB" in PIL.ImageCms.getProfileDescription(io.BytesIO(bytes(icc)))
    assert not colour.is_srgb(bytes(icc))


def test_what_is_no_profile_is_not_srgb() -> None:
    for icc in (b"", b"profile", srgb_profile()[:200], profile(b"GRAY"), profile(b"CMYK")):
        assert not colour.is_srgb(icc)


def test_a_profile_ends_where_it_says() -> None:
    encoded = encode(noise(5, 7, 3), "JPEG", icc_profile=P3 + bytes(9999))
    assert image.load(encoded).icc == P3


@pytest.mark.parametrize(
    ("pixels", "icc", "said"),
    [
        (noise(5, 7), P3, "a colour profile of RGB, which does not fit grey pixels"),
        (
            noise(5, 7, 3),
            profile(b"GRAY"),
            "a colour profile of GRAY, which does not fit RGB pixels",
        ),
        (noise(5, 7, 3), b"rubbish", "a broken colour profile"),
    ],
)
def test_a_profile_that_does_not_fit_is_told(pixels: np.ndarray, icc: bytes, said: str) -> None:
    loaded = image.load(encode(pixels, icc_profile=icc))
    assert (loaded.icc, loaded.left_out) == (None, (said,))
    assert image.load(encode(pixels, icc_profile=icc), keep="none").left_out == ()


def chrm(places: tuple[float, ...]) -> bytes:
    return struct.pack(">8I", *(round(100_000 * each) for each in places))


GREEN = np.full((2, 2, 3), (100, 200, 50), np.uint8)
SRGB_PLACES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


def test_gamma_1_is_linear_light() -> None:
    loaded = image.load(png(GREEN, 2, (b"gAMA", struct.pack(">I", 100_000))))
    linear = GREEN[0, 0] / 255
    expected = np.rint(255 * (1.055 * linear ** (1 / 2.4) - 0.055))
    np.testing.assert_allclose(as_srgb(loaded), expected, atol=1)


def test_gamma_1_of_grey() -> None:
    loaded = image.load(png(GREEN[:, :, :1], 0, (b"gAMA", struct.pack(">I", 100_000))))
    assert loaded.icc is not None
    assert loaded.icc[16:20] == b"GRAY"
    np.testing.assert_allclose(as_srgb(loaded), [168, 168, 168], atol=1)


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"gAMA", struct.pack(">I", 45455))],
        [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", chrm(SRGB_PLACES))],
        [(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0")],
        [(b"cICP", bytes([1, 13, 0, 1]))],
    ],
)
def test_what_says_srgb_needs_no_profile(chunks: list[tuple[bytes, bytes]]) -> None:
    loaded = image.load(png(GREEN, 2, *chunks))
    assert (loaded.icc, loaded.left_out) == (None, ())


def test_cicp_of_display_p3() -> None:
    loaded = image.load(png(GREEN, 2, (b"cICP", bytes([12, 13, 0, 1]))))
    # By the matrices of SMPTE EG 432-1 and IEC 61966-2-1, under the same D65.
    to_srgb = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
    share = GREEN[0, 0] / 255
    linear = to_srgb @ np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    assert linear[2] < 0  # out of what sRGB has
    expected = np.rint(255 * (1.055 * linear[:2] ** (1 / 2.4) - 0.055))
    np.testing.assert_allclose(as_srgb(loaded), [*expected, 0], atol=1)


def test_chromaticities_with_swapped_primaries() -> None:
    red, green = SRGB_PLACES[2:4], SRGB_PLACES[4:6]
    swapped = (*SRGB_PLACES[:2], *green, *red, *SRGB_PLACES[6:])
    chunks = (b"gAMA", struct.pack(">I", 45455)), (b"cHRM", chrm(swapped))
    red_value, green_value, blue = as_srgb(image.load(png(GREEN, 2, *chunks)))
    np.testing.assert_allclose([green_value, red_value, blue], GREEN[0, 0], atol=5)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(transfer: int, name: str) -> None:
    with pytest.raises(ImageError, match=rf"HDR colours .{name}.; convert it to SDR"):
        image.load(png(GREEN, 2, (b"cICP", bytes([9, transfer, 0, 1]))))


def test_an_unknown_cicp_is_told() -> None:
    loaded = image.load(png(GREEN, 2, (b"cICP", bytes([77, 13, 0, 1]))))
    assert loaded.left_out == ("the meaning of its colours (cICP 77, 13)",)


def with_nclx(format: str, primaries: int, transfer: int) -> bytes:
    """An AVIF or HEIC file that says what its colours are by numbers."""
    encoded = encode(GREEN.repeat(16, 0).repeat(16, 1), format, quality=95)
    box = encoded.index(b"colrnclx") + 8
    return encoded[:box] + struct.pack(">HH", primaries, transfer) + encoded[box + 4 :]


class TestNclx:
    def test_display_p3(self) -> None:
        loaded = image.load(with_nclx("AVIF", 12, 13))
        assert loaded.icc == P3

    @pytest.mark.parametrize(("primaries", "transfer"), [(1, 13), (2, 2), (1, 1), (6, 6)])
    def test_what_is_shown_as_srgb(self, primaries: int, transfer: int) -> None:
        loaded = image.load(with_nclx("AVIF", primaries, transfer))
        assert (loaded.icc, loaded.left_out) == (None, ())

    def test_hdr_is_refused(self) -> None:
        with pytest.raises(ImageError, match=r"HDR colours .PQ.; convert"):
            image.load(with_nclx("AVIF", 9, 16))


def profile_of_inks(lab: dict[tuple[int, int, int, int], tuple[int, int, int]]) -> bytes:
    """A profile of CMYK by the L*a*b*, 8 bits each, of corners; the others are white."""
    corners = [lab.get(each, (255, 128, 128)) for each in itertools.product((0, 1), repeat=4)]
    straight = bytes(range(256))
    identity = struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity
    table += 4 * straight + bytes(itertools.chain(*corners)) + 3 * straight
    start = 128 + 4 + 12
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x12s48x",
        start + len(table),
        0x02400000,
        *(b"prtr", b"CMYK", b"Lab ", b"acsp"),
        struct.pack(">3i", 63190, 65536, 54061),
    )
    return head + struct.pack(">I4sII", 1, b"A2B0", start, len(table)) + table


class TestInks:
    @pytest.mark.parametrize(("format", "options"), [("JPEG", {"quality": 100}), ("TIFF", {})])
    def test_by_their_profile(self, format: str, options: dict[str, int]) -> None:
        # Its cyan looks red: L* 53, a* 80, b* 67.
        red_cyan = profile_of_inks({(1, 0, 0, 0): (136, 208, 195)})
        picture = PIL.Image.new("CMYK", (3, 2), (255, 0, 0, 0))
        loaded = image.load(encode(picture, format, icc_profile=red_cyan, **options))
        np.testing.assert_allclose(loaded.pixels[0, 0], (255, 0, 0), atol=10)
        assert (loaded.icc, loaded.left_out) == (None, ())

    def test_without_a_profile(self) -> None:
        picture = PIL.Image.new("CMYK", (3, 2), (0, 255, 255, 0))
        loaded = image.load(encode(picture, "JPEG", quality=95))
        assert loaded.left_out == ("CMYK without a profile, its colours are a guess",)
        np.testing.assert_allclose(loaded.pixels[0, 0], (255, 0, 0), atol=3)

    def test_by_a_profile_that_is_none(self) -> None:
        picture = PIL.Image.new("CMYK", (3, 2), (0, 255, 255, 0))
        loaded = image.load(encode(picture, "TIFF", icc_profile=profile(b"CMYK")))
        assert loaded.left_out == ("a CMYK profile that cannot be used, its colours are a guess",)
        assert loaded.icc is None

    def test_cie_lab(self) -> None:
        lab = PIL.Image.merge("LAB", [PIL.Image.new("L", (3, 2), each) for each in (136, 128, 128)])
        loaded = image.load(encode(lab, "TIFF"))
        # L* of 136 / 255 and no chroma is a middle grey.
        np.testing.assert_allclose(loaded.pixels[0, 0], (127, 127, 127), atol=3)
