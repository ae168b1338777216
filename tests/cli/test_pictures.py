"""What people have, and what they get back: metadata, kinds of pictures, formats, accidents."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import Run
from pictures import chunk, encode, exif_with, noise, png, profile

from vqcodec.container import unpack

GPS, DETAILS, MAKER_NOTE, MAKE = 0x8825, 0x8769, 0x927C, 0x010F


def photograph(path: Path) -> None:
    """With a profile, a position, maker notes and XMP."""
    exif = exif_with(orientation=6)
    exif.get_ifd(GPS).update({1: "N", 2: (12.0, 34.0, 56.0)})
    exif.get_ifd(DETAILS).update({MAKER_NOTE: b"secret"})
    options = {"icc_profile": profile(), "exif": exif.tobytes(), "xmp": b"<x:xmpmeta/>"}
    path.write_bytes(encode(noise(24, 40, 3), "JPEG", **options))


def opened(path: Path) -> PIL.Image.Image:
    with PIL.Image.open(path) as picture:
        picture.load()
    return picture


@pytest.fixture
def both_ways(run: Run, tiny_model: Path, tmp_path: Path) -> Run:
    """`compress IN a.vqz OPTIONS`, then `decompress a.vqz OUT`; gives what the first one said."""

    def there_and_back(*arguments: str | Path, **_: object) -> subprocess.CompletedProcess[bytes]:
        source, target, *options = arguments
        model = ["--model", tiny_model, "--force"]
        packed = run("compress", source, "a.vqz", *options, *model)
        assert packed.returncode == 0, packed.stderr
        restored = run("decompress", "a.vqz", target, *model)
        assert restored.returncode == 0, restored.stderr
        return packed

    return there_and_back


class TestMetadata:
    def test_common_by_default(self, both_ways: Run, tmp_path: Path) -> None:
        photograph(tmp_path / "a.jpg")
        said = both_ways("a.jpg", "b.jpg").stderr.decode()
        assert said == (
            "vqcodec: a.jpg: left out: GPS position, maker notes, XMP (--keep-metadata)\n"
        )
        restored = opened(tmp_path / "b.jpg")
        assert restored.size == (24, 40)  # upright
        assert restored.info["icc_profile"] == profile()
        assert restored.getexif()[MAKE] == "Maker"
        assert not restored.getexif().get_ifd(GPS)
        assert "xmp" not in restored.info

    def test_all_if_asked_for(self, both_ways: Run, tmp_path: Path) -> None:
        photograph(tmp_path / "a.jpg")
        assert both_ways("a.jpg", "b.jpg", "--keep-metadata").stderr == b""
        restored = opened(tmp_path / "b.jpg")
        assert restored.size == (24, 40)
        assert restored.getexif().get_ifd(GPS)[1] == "N"
        assert restored.getexif().get_ifd(DETAILS)[MAKER_NOTE] == b"secret"
        assert restored.info["xmp"] == b"<x:xmpmeta/>"

    def test_none_if_asked_for(self, both_ways: Run, tmp_path: Path) -> None:
        photograph(tmp_path / "a.jpg")
        assert both_ways("a.jpg", "b.jpg", "--strip").stderr == b""
        assert unpack((tmp_path / "a.vqz").read_bytes()).extras == {}
        restored = opened(tmp_path / "b.jpg")
        assert restored.size == (24, 40)
        assert not {"icc_profile", "exif", "xmp"} & set(restored.info)

    def test_not_both(self, run: Run) -> None:
        result = run("compress", "a.jpg", "a.vqz", "--strip", "--keep-metadata")
        assert result.returncode == 2

    def test_info_names_what_there_is(self, run: Run, both_ways: Run, tmp_path: Path) -> None:
        photograph(tmp_path / "a.jpg")
        both_ways("a.jpg", "b.jpg", "--keep-metadata")
        found = run("info", "a.vqz").stdout.decode()
        assert re.search(r"extras +icc \d+ bytes, exif \d+ bytes, xmp \d+ bytes", found) or (
            re.search(r"extras +.*icc \d+ bytes", found)
        )


class TestLeftOut:
    def animation(self, path: Path) -> None:
        frames = [PIL.Image.new("RGB", (8, 8), each) for each in ("red", "lime", "blue")]
        frames[0].save(path, save_all=True, append_images=frames[1:])

    def test_is_said_in_one_line(self, both_ways: Run, tmp_path: Path) -> None:
        self.animation(tmp_path / "a.gif")
        said = both_ways("a.gif", "b.png")
        assert said.stderr == b"vqcodec: a.gif: left out: 2 other frames (--frame)\n"
        assert both_ways("a.gif", "b.png", "--quiet").stderr == b""

    def test_who_takes_a_frame_knows_of_others(
        self, run: Run, both_ways: Run, tmp_path: Path
    ) -> None:
        self.animation(tmp_path / "a.gif")
        assert both_ways("a.gif", "b.png", "--frame", "0").stderr == b""
        result = run("compress", "a.gif", "c.vqz", "--frame", "3")
        assert result.stderr == (b"vqcodec: error: a.gif: has no frame 3; give one from 0 to 2\n")

    def test_depth(self, both_ways: Run, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png(noise(8, 8, 3).astype(int) * 257, 2, depth=16))
        said = both_ways("a.png", "b.png").stderr
        assert said == b"vqcodec: a.png: left out: depth (16 bits a channel became 8)\n"

    def test_damage(self, run: Run, both_ways: Run, tmp_path: Path) -> None:
        whole = encode(noise(8, 8, 3))
        damaged = whole[:33] + chunk(b"tIME", bytes(7), crc=1) + whole[33:]
        (tmp_path / "a.png").write_bytes(damaged)
        refused = run("compress", "a.png", "a.vqz")
        assert re.fullmatch(
            rb"vqcodec: error: a\.png: [^\n]*wrong checksum[^\n]*--allow-damaged[^\n]*\n",
            refused.stderr,
        )
        said = both_ways("a.png", "b.png", "--allow-damaged").stderr
        assert said == b"vqcodec: a.png: left out: what is damaged of it\n"

    def test_of_a_format_that_holds_less(
        self, run: Run, both_ways: Run, tiny_model: Path, tmp_path: Path
    ) -> None:
        photograph(tmp_path / "a.jpg")
        both_ways("a.jpg", "b.png")
        arguments = ["decompress", "a.vqz", "b.bmp", "--model", tiny_model, "--force"]
        said = run(*arguments).stderr
        assert said == b"vqcodec: b.bmp: left out: colour profile, EXIF\n"
        assert run(*arguments, "-q").stderr == b""


class TestTransparency:
    @pytest.fixture
    def transparent(self, both_ways: Run, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(encode(noise(16, 24, 4)))
        both_ways("a.png", "b.png")

    @pytest.mark.usefixtures("transparent")
    def test_is_not_lost(self, run: Run, tiny_model: Path, tmp_path: Path) -> None:
        arguments = ["decompress", "a.vqz", "c.jpg", "--model", tiny_model]
        refused = run(*arguments)
        assert refused.returncode == 1
        assert refused.stderr == (
            b"vqcodec: error: c.jpg: has transparency, which JPEG cannot hold; "
            b"give --background, or write a .png file\n"
        )
        result = run(*arguments, "--background", "white")
        assert (result.returncode, result.stderr) == (0, b"")
        hidden = noise(16, 24, 4)[:, :, 3] == 0
        assert hidden.any()
        assert opened(tmp_path / "c.jpg").mode == "RGB"

    @pytest.mark.usefixtures("transparent")
    def test_no_such_colour(self, run: Run, tiny_model: Path) -> None:
        arguments = ["decompress", "a.vqz", "c.jpg", "--model", tiny_model]
        result = run(*arguments, "--background", "blurple")
        assert result.returncode == 1
        assert b"'blurple' is no colour" in result.stderr

    def test_opaque_alpha_costs_nothing(self, both_ways: Run, tmp_path: Path) -> None:
        files = []
        for mode in ("RGB", "RGBA"):
            (tmp_path / "a.png").write_bytes(encode(noise(16, 24, 3), mode=mode))
            both_ways("a.png", "b.png")
            files.append((tmp_path / "a.vqz").read_bytes())
        assert files[0] == files[1]

    def test_hidden_colours_cost_nothing(self, both_ways: Run, tmp_path: Path) -> None:
        files = []
        for seed in (1, 2):
            hidden = np.random.default_rng(seed).integers(0, 256, (16, 24, 4), np.uint8)
            hidden[:, :, 3] = 0
            hidden[4:9] = noise(5, 24, 4) | 1
            (tmp_path / "a.png").write_bytes(encode(hidden))
            both_ways("a.png", "b.png")
            files.append((tmp_path / "a.vqz").read_bytes())
        assert files[0] == files[1]


@pytest.mark.parametrize("name", ["JPG", "jpg", "tif", ".png"])
def test_formats_are_known_by_their_endings(
    run: Run, both_ways: Run, tiny_model: Path, astronaut: Path, name: str
) -> None:
    both_ways(astronaut, "b.png")
    result = run("decompress", "a.vqz", "-", "--format", name, "--model", tiny_model)
    assert result.returncode == 0, result.stderr
    with PIL.Image.open(io.BytesIO(result.stdout)) as picture:
        assert picture.format in {"JPEG", "TIFF", "PNG"}


class TestAccidents:
    @pytest.mark.parametrize("name", ["a.png", "./a.png", "link", "hard"])
    def test_the_input_is_never_replaced(self, run: Run, tmp_path: Path, name: str) -> None:
        content = encode(noise(8, 8, 3))
        (tmp_path / "a.png").write_bytes(content)
        (tmp_path / "link").symlink_to("a.png")
        os.link(tmp_path / "a.png", tmp_path / "hard")
        result = run("compress", "a.png", name, "--force")
        assert result.returncode == 1
        assert b"is the input itself; give another output" in result.stderr
        assert (tmp_path / "a.png").read_bytes() == content

    def test_nor_by_decompress(
        self, run: Run, both_ways: Run, astronaut: Path, tmp_path: Path
    ) -> None:
        both_ways(astronaut, "b.png")
        shutil.copy(tmp_path / "a.vqz", tmp_path / "a.png")
        result = run("decompress", "a.png", "a.png", "--force")
        assert result.returncode == 1
        assert b"is the input itself" in result.stderr

    def test_a_pictures_ending_needs_force(
        self, run: Run, tiny_model: Path, astronaut: Path, tmp_path: Path
    ) -> None:
        arguments = ["compress", astronaut, "b.jpg", "--model", tiny_model]
        refused = run(*arguments)
        assert refused.returncode == 1
        assert b"b.jpg: has the ending of a picture" in refused.stderr
        assert not (tmp_path / "b.jpg").exists()
        assert run(*arguments, "--force").returncode == 0
        assert (tmp_path / "b.jpg").exists()

    def test_a_circle_of_links_is_left_alone(
        self, run: Run, tiny_model: Path, astronaut: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "a.vqz").symlink_to("b.vqz")
        (tmp_path / "b.vqz").symlink_to("a.vqz")
        result = run("compress", astronaut, "a.vqz", "--force", "--model", tiny_model)
        assert result.returncode == 1
        assert b"leads to itself; remove it" in result.stderr
        assert (tmp_path / "a.vqz").is_symlink()

    @pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="this system has no /dev/stdout")
    def test_dev_stdout_is_standard_output(
        self, process: Run, run: Run, tiny_model: Path, astronaut: Path
    ) -> None:
        arguments = ["--model", tiny_model, "--effort", "1"]
        packed = process("compress", astronaut, "/dev/stdout", *arguments)
        assert packed.returncode == 0, packed.stderr
        assert unpack(packed.stdout).complete
        assert packed.stderr.startswith(b"bytes ")

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
    def test_closed_streams(
        self, tiny_model: Path, astronaut: Path, environment: dict[str, str], closed: str
    ) -> None:
        source = "-" if "<" in closed else str(astronaut)
        words = [
            "-W",
            "error",
            "-m",
            "vqcodec",
            "compress",
            source,
            "-",
            "--model",
            str(tiny_model),
        ]
        command = " ".join([sys.executable, *words, closed])
        result = subprocess.run(
            ["sh", "-c", command], env=environment, stderr=subprocess.PIPE, timeout=120, check=False
        )
        assert result.returncode == 1
        assert re.fullmatch(
            rb"vqcodec: error: standard (input|output): is closed; give a file\n", result.stderr
        )


class TestMaxSize:
    def test_all_that_a_small_picture_needs(
        self, run: Run, astronaut: Path, tmp_path: Path
    ) -> None:
        arguments = ["--lossless", "never", "--effort", "1"]
        result = run("compress", astronaut, "a.vqz", "--max-size", "5MB", *arguments)
        assert result.returncode == 0, result.stderr
        assert unpack((tmp_path / "a.vqz").read_bytes()).header.quality == 100

    def test_the_best_that_fits(self, run: Run, astronaut: Path, tmp_path: Path) -> None:
        result = run("compress", astronaut, "a.vqz", "--max-size", "600", "--effort", "1")
        assert result.returncode == 0, result.stderr
        assert 0.9 * 600 < (tmp_path / "a.vqz").stat().st_size <= 600

    def test_nothing_fits(self, run: Run, astronaut: Path, tmp_path: Path) -> None:
        result = run("compress", astronaut, "a.vqz", "--max-size", "20", "--effort", "1")
        assert result.returncode == 1
        assert b"out of reach" in result.stderr

    def test_alpha_alone_takes_more(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(encode(noise(40, 60, 4)))
        for option in ("--size", "--max-size"):
            result = run("compress", "a.png", "a.vqz", option, "1kB")
            assert result.returncode == 1
            assert re.search(
                rb"alpha channel and metadata alone take 2,\d+ bytes, more than 1,000",
                result.stderr,
            )
