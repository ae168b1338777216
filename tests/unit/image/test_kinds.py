"""Words for what is no picture, and the kinds that the extra reads."""

from __future__ import annotations

import importlib.util
import io
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from pictures import encode, exif_with, noise, profile

from vqcodec import image
from vqcodec.errors import ImageError
from vqcodec.image import kinds
from vqcodec.image.depth import tone_mapped

NEEDED = "vqcodec[formats] is not installed in this environment"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; name a picture"),
        (b"this is not a picture\n", "is text, no picture"),
        ("vüßé".encode() * 400, "is text, no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing.*render it to PNG"),
        (b"<?xml version='1.0'?>\n<!-- a -->\n<svg\nwidth='3'/>", "is an SVG drawing"),
        (b"%PDF-1.7\n\xff", "is a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is a PostScript document"),
        (b"PK\3\4" + bytes(30), "is a ZIP archive"),
        (b"\0\0\0\x18ftypisom" + bytes(90), "is a video"),
        (b"\x89VQZ\1" + bytes(90), r"is a \.vqz file already; vqcodec decompress"),
        (b"\xff\xd8\xff" + bytes(90), "cannot be read as JPEG.*may be damaged"),
        (bytes(range(128, 256)), "of no known kind; convert it to PNG"),
    ],
)
def test_words_fit_what_it_is(content: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        image.load(content)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
RADIANCE = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 4\n" + b"\x80\x80\x80\x81" * 16


@pytest.mark.parametrize(
    ("content", "module", "package"),
    [
        (HEIC, "pillow_heif", "pillow-heif"),
        (b"\xff\x0a" + bytes(50), "pillow_jxl", "pillow-jxl-plugin"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "pillow_jxl", "pillow-jxl-plugin"),
        (RADIANCE, "cv2", "opencv-python-headless"),
        (b"v/1\x01" + bytes(50), "OpenEXR", "OpenEXR"),
        (b"FUJIFILMCCD-RAW " + bytes(50), "rawpy", "rawpy"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(50), "rawpy", "rawpy"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(50), "rawpy", "rawpy"),
    ],
)
def test_what_reads_it_is_named_where_it_is_missing(
    content: bytes, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImageError, match=rf"needs {package}; pip install vqcodec\[formats\]"):
        image.load(content)


def test_a_tiff_that_only_tifffile_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    import tifffile

    stream = io.BytesIO()
    deep = noise(3, 6, 9).astype(np.uint16) * 257
    tifffile.imwrite(stream, deep, photometric="rgb", planarconfig="separate")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for name in [name for name in sys.modules if name.startswith("imageio.plugins.tifffile")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImageError, match=r"only tifffile reads; pip install vqcodec\[formats\]"):
        image.load(stream.getvalue())


@pytest.mark.parametrize(
    "changed",
    [{277: 127}, {256: 65535, 277: 127}, {256: 65535, 257: 65535, 277: 5}],
    ids=["samples", "wide", "all"],
)
def test_samples_that_are_no_picture_take_no_memory(changed: dict[int, int]) -> None:
    pytest.importorskip("tifffile", reason=NEEDED)
    encoded = bytearray(encode(noise(64, 96, 3), "TIFF", compression="tiff_adobe_deflate"))
    (first,) = struct.unpack_from("<I", encoded, 4)
    (count,) = struct.unpack_from("<H", encoded, first)
    for place in range(first + 2, first + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", encoded, place)
        if tag in changed:
            struct.pack_into("<HII", encoded, place + 2, 4, 1, changed[tag])
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="not a picture's"):
            kinds.read_tiff(bytes(encoded), 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 23


@pytest.mark.parametrize(
    ("module", "format", "options"),
    [
        ("pillow_heif", "HEIF", {"quality": -1, "chroma": 444, "matrix_coefficients": 0}),
        ("pillow_jxl", "JXL", {"lossless": True}),
    ],
)
class TestPlugins:
    @pytest.fixture(autouse=True)
    def plugin(self, module: str) -> None:
        package: Any = pytest.importorskip(module, reason=NEEDED)
        if module == "pillow_heif":
            package.register_heif_opener()

    def test_pixels_profile_and_exif(self, format: str, options: dict[str, Any]) -> None:
        encoded = encode(
            noise(40, 56, 4), format, icc_profile=profile(), exif=exif_with().tobytes(), **options
        )
        loaded = image.load(encoded, keep="all")  # JPEG XL's plugin makes the profile sRGB
        np.testing.assert_array_equal(np.asarray(loaded), noise(40, 56, 4))
        assert loaded.icc is not None
        assert loaded.exif is not None
        assert b"Maker" in loaded.exif

    def test_exif_does_not_turn_what_the_decoder_has_turned(
        self, format: str, options: dict[str, Any]
    ) -> None:
        exif = exif_with(orientation=6).tobytes()
        encoded = encode(noise(40, 56, 3), format, exif=exif, **options)
        with PIL.Image.open(io.BytesIO(encoded)) as picture:
            seen = np.asarray(picture)
        np.testing.assert_array_equal(image.load(encoded).pixels, seen)

    def test_written_and_read_again(self, format: str, options: dict[str, Any]) -> None:
        ending = {"HEIF": "heic", "JXL": "jxl"}[format]
        assert image.format_for(f"a.{ending}") == format
        original = image.Image(noise(40, 56, 3), alpha=noise(40, 56))
        encoded = image.dump(original, format)
        assert image.losses(original, encoded) == ()

    def test_damaged(self, format: str, options: dict[str, Any]) -> None:
        encoded = encode(noise(40, 56, 3), format, **options)
        with pytest.raises(ImageError) as caught:
            image.load(encoded[: len(encoded) // 2])
        assert "\n" not in str(caught.value)


def hdr(light: npt.NDArray[np.float32]) -> bytes:
    """A Radiance picture of 8 bits of mantissa for each channel."""
    height, width = light.shape[:2]
    exponent = np.frexp(light.max(axis=2))[1]
    mantissa = np.floor(light * np.exp2(8.0 - exponent)[..., np.newaxis])
    samples = np.concatenate([mantissa, exponent[..., np.newaxis] + 128], axis=2)
    head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
    return head + samples.astype(np.uint8).tobytes()


LIGHT = (noise(4, 7, 3) + 1.0).astype(np.float32) / 16


def test_radiance_hdr() -> None:
    pytest.importorskip("cv2", reason=NEEDED)
    with pytest.raises(ImageError, match="--tone-map"):
        image.load(hdr(LIGHT))
    loaded = image.load(hdr(LIGHT), tone_map=True)
    np.testing.assert_allclose(loaded.pixels.astype(int), tone_mapped(LIGHT), atol=12)
    with pytest.raises(ImageError, match="the most is"):
        image.load(RADIANCE.replace(b"-Y 4 +X 4", b"-Y 99999999 +X 99999999"))


def test_openexr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exr: Any = pytest.importorskip("OpenEXR", reason=NEEDED)
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    for name, light in (("RGB", LIGHT), ("Y", np.ascontiguousarray(LIGHT[:, :, 0]))):
        exr.File(header, {name: light}).write(str(tmp_path / "a.exr"))
        encoded = (tmp_path / "a.exr").read_bytes()
        with pytest.raises(ImageError, match="--tone-map"):
            image.load(encoded)
        loaded = image.load(encoded, tone_map=True)
        np.testing.assert_array_equal(np.asarray(loaded), tone_mapped(light))
    for length in range(len(encoded) // 2, len(encoded), 7):
        with pytest.raises(ImageError):
            image.load(encoded[:length], tone_map=True)
    assert capfd.readouterr() == ("", "")


def test_the_extra_names_every_package() -> None:
    setup = (Path(__file__).parents[3] / "setup.cfg").read_text(encoding="utf-8")
    listed = setup.partition("\nformats =\n")[2].partition("\n\n")[0].split("\nbench =")[0].split()
    for reader in kinds.READERS.values():
        assert kinds.package_of(reader) in listed
    assert "tifffile" in listed


@pytest.mark.parametrize("kind", kinds.READERS)
def test_readers_register_more_than_once(kind: str) -> None:
    module = kinds.READERS[kind].package
    if importlib.util.find_spec(module) is None:
        pytest.skip(NEEDED)
    assert kinds.reader_of(kind) is kinds.reader_of(kind)


def test_a_camera_raw_is_developed() -> None:
    pytest.importorskip("rawpy", reason=NEEDED)
    import tifffile

    mosaic = np.full((64, 96), 1500, np.uint16)  # green; red and blue lie between
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = 3000, 700
    identity = tuple(value for n in range(9) for value in (10_000 * (n % 4 == 0), 10_000))
    tags: list[tuple[int, str, int, Any, bool]] = [
        (271, "s", 0, "Maker", True),
        (272, "s", 0, "Model", True),
        (33421, "H", 2, (2, 2), True),  # the mosaic's period, and its colours
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),  # version of DNG
        (50708, "s", 0, "Maker Model", True),
        (50717, "H", 1, 4095, True),  # white
        (50721, "2i", 9, identity, True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
        (50778, "H", 1, 21, True),
    ]
    stream = io.BytesIO()
    tifffile.imwrite(stream, mosaic, photometric=32803, extratags=tags, metadata=None)
    loaded = image.load(stream.getvalue())
    assert loaded.pixels.shape == (64, 96, 3)
    red, green, blue = loaded.pixels[32, 48].tolist()
    assert red > 200
    assert green < 100
    assert blue < 150
