"""Pictures and files that claim many pixels: refused by their headers, before they take memory."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from conftest import Run
from pictures import encode, noise, png_claiming

import vqcodec
from vqcodec import container, limits, webp
from vqcodec.container import Container, Header
from vqcodec.drawing.completion import complete
from vqcodec.errors import CodecError, LimitError, SectionError
from vqcodec.image import load, size_of

SIDE = 16384
MOST = SIDE * SIDE
LIMIT = limits.VARIABLE
MEGABYTE = 1_000_000
PEAK = """
import sys
from vqcodec.bench.cost import peak
from vqcodec.errors import CodecError
try:
    {action}
except CodecError as error:
    print(error)
print(peak())
"""


def lossless_claiming(width: int, height: int, payload: bytes) -> bytes:
    """A lossless file of one tile, whatever its payload."""
    header = Header.of_lossless(width, height, grey=False)
    return container.pack(Container(header, {}, ((payload,) * header.tiles,), None, True))


def flat(side: int) -> bytes:
    """The lossless payload of a black square, which takes a few bytes whatever its size."""
    return webp.encode(np.zeros((side, side, 3), np.uint8), side)[0]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return noise(64, 96, 3)


@pytest.fixture(scope="module")
def lossy(photo: np.ndarray, tiny_model: Path) -> bytes:
    return bytes(vqcodec.compress(photo, model=tiny_model, effort=1, lossless="never"))


class TestLimit:
    def test_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(LIMIT, raising=False)
        assert limits.max_pixels() == 128_000_000
        monkeypatch.setenv(LIMIT, "")
        assert limits.max_pixels() == 128_000_000

    def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(LIMIT, "5000")
        assert limits.max_pixels() == 5000
        with limits.at_most(7):
            assert limits.max_pixels() == 7
            with limits.at_most(None):
                assert limits.max_pixels() == 7
        assert limits.max_pixels() == 5000

    @pytest.mark.parametrize("said", ["0", "-1", "1.5", "many", " 5", "1e6", "9" * 19, "\u0665"])
    def test_wrong_environment(self, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
        monkeypatch.setenv(LIMIT, said)
        with pytest.raises(LimitError, match=f"{LIMIT}=.*: must be a whole number"):
            load(encode(noise(2, 2)))

    @pytest.mark.parametrize("given", [0, -3, 1.5, "5", True])
    def test_wrong_argument(self, given: int) -> None:
        with pytest.raises(CodecError, match="max_pixels"):
            load(encode(noise(2, 2)), max_pixels=given)

    def test_the_error_has_sizes_and_the_remedy(self, tmp_path: Path) -> None:
        (tmp_path / "big.png").write_bytes(png_claiming(SIDE, SIDE))
        with pytest.raises(LimitError) as refused:
            load(tmp_path / "big.png")
        assert str(refused.value) == (
            f"{tmp_path}/big.png: is 16384 x 16384, 268,435,456 pixels, and the limit is "
            "128,000,000; reduce it, or raise the limit with --max-pixels N or "
            "VQCODEC_MAX_PIXELS=N"
        )


class TestPictures:
    @pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "ICO"])
    def test_as_many_as_the_limit_and_one_more(self, format: str) -> None:
        encoded = encode(noise(16, 15, 3), format)
        assert load(encoded, max_pixels=240).pixels.shape == (16, 15, 3)
        with pytest.raises(LimitError, match="is 15 x 16, 240 pixels, and the limit is 239;"):
            load(encoded, max_pixels=239)

    def test_a_frame_larger_than_its_animation(self) -> None:
        frames = [PIL.Image.fromarray(each) for each in (noise(8, 8), 255 - noise(8, 8))]
        encoded = bytearray(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
        second = encoded.rindex(b"\x2c")
        while encoded[second + 1 : second + 9] != bytes([0, 0, 0, 0, 8, 0, 8, 0]):
            second = encoded.rindex(b"\x2c", 0, second)
        encoded[second + 5 : second + 9] = b"\xff\x7f\xff\x7f"
        with pytest.raises(LimitError, match="1,073,676,289 pixels, and the limit is 128,000,000"):
            load(bytes(encoded), frame=1)

    def test_tiles_larger_than_their_picture(self) -> None:
        stream = io.BytesIO()
        tifffile.imwrite(stream, noise(16, 15, 3), tile=(64, 48))
        assert load(stream.getvalue(), max_pixels=3072).pixels.shape == (16, 15, 3)
        with pytest.raises(LimitError, match="3,072 pixels, and the limit is 3,071"):
            load(stream.getvalue(), max_pixels=3071)

    def test_what_is_damaged_is_refused_as_well(self) -> None:
        with pytest.raises(LimitError):
            load(png_claiming(SIDE, SIDE), allow_damaged=True)

    def test_the_size_alone(self) -> None:
        with pytest.raises(LimitError):
            size_of(png_claiming(SIDE, SIDE))

    @pytest.mark.parametrize("make", [PIL.Image.fromarray, np.asarray, vqcodec.Image])
    def test_to_compress(self, photo: np.ndarray, make: Callable[..., object]) -> None:
        with pytest.raises(LimitError, match="is 96 x 64, 6,144 pixels, and the limit is 6,143"):
            vqcodec.compress(make(photo), lossless="always", max_pixels=6143)  # type: ignore[arg-type]
        assert vqcodec.compress(make(photo), lossless="always", max_pixels=6144)  # type: ignore[arg-type]

    def test_what_pillow_allows_is_as_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1234)
        with pytest.raises(LimitError):
            load(png_claiming(SIDE, SIDE))
        load(encode(noise(64, 64)))
        assert PIL.Image.MAX_IMAGE_PIXELS == 1234


class TestFiles:
    def test_the_whole(self, lossy: bytes, tiny_model: Path) -> None:
        with pytest.raises(LimitError, match="is 96 x 64, 6,144 pixels, and the limit is 6,143"):
            vqcodec.decompress(lossy, model=tiny_model, max_pixels=6143)
        restored = vqcodec.decompress(lossy, model=tiny_model, max_pixels=6144)
        assert restored.pixels.shape == (64, 96, 3)

    @pytest.mark.parametrize(
        ("piece", "pixels"),
        [({"region": (3, 5, 40, 30)}, 1200), ({"max_side": 48}, 1536), ({"max_side": 24}, 384)],
    )
    def test_of_a_piece_counts_what_is_made(
        self, lossy: bytes, tiny_model: Path, piece: dict[str, object], pixels: int
    ) -> None:
        opened = vqcodec.open(lossy, model=tiny_model)
        with pytest.raises(LimitError):
            opened.load(max_pixels=pixels - 1, **piece)
        assert opened.load(max_pixels=pixels, **piece)

    def test_alpha_and_lossless_files_count_whole(
        self, photo: np.ndarray, tiny_model: Path
    ) -> None:
        transparent = np.dstack([photo, noise(64, 96)])
        for picture, lossless in ((transparent, "never"), (photo, "always")):
            model = tiny_model if lossless == "never" else None
            data = bytes(vqcodec.compress(picture, model=model, lossless=lossless))
            with pytest.raises(LimitError):
                vqcodec.decompress(data, model=model, region=(0, 0, 8, 8), max_pixels=6143)

    def test_verify_and_complete(
        self, lossy: bytes, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(LIMIT, "6143")
        with pytest.raises(LimitError):
            vqcodec.codec.verify(lossy, model=tiny_model)
        with pytest.raises(LimitError):
            complete(lossy)

    def test_what_pillow_opens(self, monkeypatch: pytest.MonkeyPatch, photo: np.ndarray) -> None:
        import vqcodec.pillow

        data = bytes(vqcodec.compress(photo, lossless="always"))
        monkeypatch.setenv(LIMIT, "6143")
        with (
            PIL.Image.open(io.BytesIO(data)) as picture,
            pytest.raises(OSError, match="the limit is 6,143"),
        ):
            picture.load()

    def test_a_legal_claim_without_the_pixels(self) -> None:
        with pytest.raises(SectionError, match="has a section of 8 x 8 pixels, not 8000 x 8000"):
            vqcodec.decompress(lossless_claiming(8000, 8000, flat(8)))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux only")
class TestMemory:
    """Of new processes."""

    def peak(self, environment: dict[str, str], action: str, path: Path) -> tuple[str, int]:
        """What an action on a file printed, and the bytes of memory that its process took."""
        words = [sys.executable, "-c", PEAK.format(action=action), path]
        done = subprocess.run(words, env=environment, capture_output=True, check=True, text=True)
        *printed, peak = done.stdout.splitlines()
        return "\n".join(printed), int(peak)

    def test_a_bomb(self, environment: dict[str, str], tmp_path: Path) -> None:
        path = tmp_path / "bomb.png"
        PIL.Image.new("1", (SIDE, SIDE)).save(path)
        assert path.stat().st_size < 50_000
        action = "from vqcodec.image import load; load(sys.argv[1])"
        printed, peak = self.peak(environment, action, path)
        assert "268,435,456 pixels" in printed
        assert peak < 150 * MEGABYTE

    def test_a_file_that_claims_as_much(self, environment: dict[str, str], tmp_path: Path) -> None:
        path = tmp_path / "bomb.vqz"
        path.write_bytes(lossless_claiming(SIDE, SIDE, flat(8)))
        assert path.stat().st_size < 300
        action = "import vqcodec; vqcodec.decompress(open(sys.argv[1], 'rb').read())"
        printed, peak = self.peak(environment, action, path)
        assert "268,435,456 pixels" in printed
        assert peak < 150 * MEGABYTE

    def test_reading_takes_what_pixels_take(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        """Pillow's four bytes a pixel, and our three: no second copy of either."""
        path, peaks = tmp_path / "flat.png", []
        for side in (2000, 4000):
            PIL.Image.new("RGB", (side, side), "teal").save(path)
            action = "from vqcodec.image import load; load(sys.argv[1])"
            peaks.append(self.peak(environment, action, path)[1])
        assert (peaks[1] - peaks[0]) / (4000**2 - 2000**2) < 8.5


def test_one_of_many_is_too_large(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/big.png").write_bytes(png_claiming(SIDE, SIDE))
    (tmp_path / "in/small.png").write_bytes(encode(noise(8, 8, 3)))
    options = ["--model", tiny_model, "--effort", "1", "--quiet"]
    done = run("compress", "in", "--out", "out", *options)
    assert done.returncode == 1
    assert done.stderr.count(b"vqcodec: error:") == 1
    assert b"in/big.png: is 16384 x 16384, 268,435,456 pixels" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["small.vqz"]


def test_the_option(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "100")
    (tmp_path / "a.png").write_bytes(encode(noise(16, 16, 3)))
    lossless = ["--lossless", "always"]
    assert b"the limit is 100;" in run("compress", "a.png", "a.vqz", *lossless).stderr
    raised = run("compress", "a.png", "a.vqz", *lossless, "--max-pixels", "256")
    assert raised.returncode == 0
    assert limits.max_pixels() == 100  # and no longer what was given
    for command in (
        ("decompress", "a.vqz", "b.png"),
        ("verify", "a.vqz"),
        ("compare", "a.png", "a.vqz"),
    ):
        refused = run(*command)
        assert refused.returncode == 1
        assert b"256 pixels, and the limit is 100;" in refused.stdout + refused.stderr
        assert run(*command, "--max-pixels", "256").returncode == 0
