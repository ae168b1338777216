from __future__ import annotations

import PIL.Image
import PIL.PngImagePlugin
import pytest
from pictures import MAKE, ORIENTATION, encode, exif_with, noise, profile

from vqcodec import image


class TestMetadata:
    def test_dropped_if_asked_for(self) -> None:
        encoded = encode(noise(5, 7, 3), icc_profile=profile(), exif=exif_with())
        loaded = image.load(encoded, keep="none")
        assert (loaded.icc, loaded.exif, loaded.left_out) == (None, None, ())

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
    def test_kept(self, format: str) -> None:
        encoded = encode(noise(5, 7, 3), format, icc_profile=profile(), exif=exif_with())
        loaded = image.load(encoded, keep="all")
        assert loaded.icc == profile()
        assert loaded.exif is not None
        assert loaded.exif.startswith(b"Exif\0\0")
        assert b"Maker" in loaded.exif

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
    def test_orientation_is_reset(self, format: str) -> None:
        encoded = encode(noise(5, 7, 3), format, exif=exif_with(orientation=6))
        loaded = image.load(encoded, keep="all")
        assert loaded.pixels.shape == (7, 5, 3)
        exif = PIL.Image.Exif()
        exif.load(loaded.exif)
        assert exif.get(ORIENTATION, 1) == 1
        assert exif[MAKE] == "Maker"

    def test_profile_of_other_channels_is_dropped(self) -> None:
        cmyk = PIL.Image.new("CMYK", (3, 2))
        encoded = encode(cmyk, "TIFF", icc_profile=profile(b"CMYK"))
        assert image.load(encoded, keep="all").icc is None
        grey = encode(noise(5, 7), icc_profile=profile(b"GRAY"))
        assert image.load(grey, keep="all").icc == profile(b"GRAY")

    @pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x"])
    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
    def test_broken_exif_does_not_cost_the_image(self, format: str, exif: bytes) -> None:
        loaded = image.load(encode(noise(5, 7, 3), format, exif=exif), keep="all")
        assert loaded.pixels.shape == (5, 7, 3)


GPS, DETAILS = 0x8825, 0x8769
MAKER_NOTE, EXPOSURE = 0x927C, 0x829A
THUMBNAIL = b"a thumbnail's bytes"


def whole_exif() -> bytes:
    """With a position, maker notes, an exposure and the orientation."""
    exif = exif_with(orientation=6)
    exif.get_ifd(GPS).update({1: "N", 2: (12.0, 34.0, 56.0), 3: "E", 4: (1.0, 2.0, 3.0)})
    exif.get_ifd(DETAILS).update({MAKER_NOTE: b"secret", EXPOSURE: 0.5})
    return exif.tobytes()


def parsed(exif: bytes | None) -> PIL.Image.Exif:
    assert exif is not None
    found = PIL.Image.Exif()
    found.load(exif)
    return found


FORMATS = ["PNG", "JPEG", "WEBP", "AVIF"]


class TestExif:
    @pytest.mark.parametrize("format", FORMATS)
    def test_common_has_neither_position_nor_maker_notes(self, format: str) -> None:
        loaded = image.load(encode(noise(16, 24, 3), format, exif=whole_exif()))
        found = parsed(loaded.exif)
        assert found[MAKE] == "Maker"
        assert found.get_ifd(DETAILS)[EXPOSURE] == 0.5
        assert MAKER_NOTE not in found.get_ifd(DETAILS)
        assert not found.get_ifd(GPS)
        assert ORIENTATION not in found
        assert b"secret" not in (loaded.exif or b"")
        assert loaded.left_out == ("GPS position, maker notes (--keep-metadata)",)

    @pytest.mark.parametrize("format", FORMATS)
    def test_all_is_whole_but_upright(self, format: str) -> None:
        loaded = image.load(encode(noise(16, 24, 3), format, exif=whole_exif()), keep="all")
        found = parsed(loaded.exif)
        assert found.get_ifd(GPS)[2] == (12.0, 34.0, 56.0)
        assert found.get_ifd(DETAILS)[MAKER_NOTE] == b"secret"
        assert found[ORIENTATION] == 1
        assert loaded.left_out == ()

    def test_all_changes_no_other_byte(self) -> None:
        exif = whole_exif() + THUMBNAIL
        loaded = image.load(encode(noise(5, 7, 3), exif=exif), keep="all")
        assert loaded.exif is not None
        changed = [n for n, (a, b) in enumerate(zip(exif, loaded.exif, strict=True)) if a != b]
        assert len(changed) == 1

    @pytest.mark.parametrize("keep", ["common", "all"])
    def test_of_a_tiff(self, keep: image.Keep) -> None:
        encoded = encode(noise(5, 7, 3), "TIFF", exif=exif_with(), dpi=(300, 300))
        found = parsed(image.load(encoded, keep=keep).exif)
        assert found[MAKE] == "Maker"
        assert found[0x011A] == 300
        assert 0x0111 not in found  # where its strips lie

    def test_imagemagicks_way_in_a_png(self) -> None:
        block = exif_with(orientation=6).tobytes()
        about = PIL.PngImagePlugin.PngInfo()
        text = f"\nexif\n{len(block):8}\n{block.hex()}\n"
        about.add_text("Raw profile type exif", text, zip=True)
        for keep in ("common", "all"):
            loaded = image.load(encode(noise(5, 7, 3), pnginfo=about), keep=keep)  # type: ignore[arg-type]
            assert parsed(loaded.exif)[MAKE] == "Maker"
            assert loaded.pixels.shape == (7, 5, 3)
            assert loaded.texts == ()

    @pytest.mark.parametrize("keep", ["common", "all"])
    def test_a_broken_block_is_dropped_and_told(self, keep: image.Keep) -> None:
        encoded = encode(noise(5, 7, 3), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
        loaded = image.load(encoded, keep=keep)
        assert (loaded.exif, loaded.left_out) == (None, ("a broken EXIF block",))

    def test_dots_per_inch_become_exif(self) -> None:
        loaded = image.load(encode(noise(5, 7, 3), dpi=(300, 300)), keep="all")
        assert round(parsed(loaded.exif)[0x011A]) == 300


XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><d tiff:Orientation='6' rights='owner'/></x:xmpmeta>"
UPRIGHT_XMP = XMP.replace(b"'6'", b"'1'")


class TestTheRest:
    @pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "TIFF"])
    def test_xmp(self, format: str) -> None:
        if format == "TIFF":
            exif = PIL.Image.Exif()
            exif[700] = XMP
            encoded = encode(noise(16, 24, 3), format, exif=exif)
        else:
            encoded = encode(noise(16, 24, 3), format, xmp=XMP)
        assert image.load(encoded, keep="all").xmp == UPRIGHT_XMP
        loaded = image.load(encoded)
        assert loaded.xmp is None
        assert loaded.left_out == ("XMP (--keep-metadata)",)

    @pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
    def test_orientation_of_xmp_turns_nothing(self, format: str) -> None:
        loaded = image.load(encode(noise(16, 24, 3), format, xmp=XMP))
        assert loaded.pixels.shape == (16, 24, 3)

    def test_texts_and_xmp_of_a_png(self) -> None:
        about = PIL.PngImagePlugin.PngInfo()
        about.add_itxt("XML:com.adobe.xmp", XMP.decode())
        about.add_text("Copyright", "owner")
        about.add_itxt("Title", "Größe")
        encoded = encode(noise(5, 7, 3), pnginfo=about)
        loaded = image.load(encoded, keep="all")
        assert loaded.xmp == UPRIGHT_XMP
        assert loaded.texts == (("Copyright", "owner"), ("Title", "Größe"))
        assert image.load(encoded).left_out == ("XMP, texts (--keep-metadata)",)

    @pytest.mark.parametrize("format", ["JPEG", "GIF"])
    def test_comments(self, format: str) -> None:
        encoded = encode(noise(5, 7), format, comment=b"shot by owner")
        assert image.load(encoded, keep="all").texts == (("Comment", "shot by owner"),)

    def test_iptc(self) -> None:
        records = b"\x1c\x02\x74\x00\x05owner"
        resources = b"8BIM\x04\x04\0\0" + len(records).to_bytes(4, "big") + records
        segment = b"Photoshop 3.0\0" + resources
        marker = b"\xff\xed" + (2 + len(segment)).to_bytes(2, "big")
        jpeg = encode(noise(16, 24, 3), "JPEG", extra=marker + segment)
        assert image.load(jpeg, keep="all").iptc == resources
        exif = PIL.Image.Exif()
        exif[33723] = records
        assert image.load(encode(noise(5, 7, 3), "TIFF", exif=exif), keep="all").iptc == resources
