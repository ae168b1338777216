"""Folders, lists and patterns of files."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import Run
from pictures import encode, noise

from vqcodec.container import unpack


def values(result: subprocess.CompletedProcess[bytes]) -> dict[str, str]:
    """The two columns of a summary."""
    lines = result.stdout.decode().splitlines()
    return {line[:9].strip(): line[9:].strip() for line in lines}


@pytest.fixture(autouse=True)
def photos(astronaut: Path, tmp_path: Path) -> None:
    """Three pictures in `photos`, two of them deeper."""
    for number, name in enumerate(("a.png", "deep/b.jpg", "deep/er/c.webp")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with PIL.Image.open(astronaut) as picture:
            picture.crop((number, 0, number + 48, 32)).save(path)


@pytest.fixture
def model(tiny_model: Path) -> list[str | Path]:
    return ["--model", tiny_model, "--effort", "1"]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_folders_there_and_back(
    run: Run, tiny_model: Path, model: list[str | Path], tmp_path: Path
) -> None:
    packed = run("compress", "photos", "--out", "small", "--recursive", *model)
    assert packed.returncode == 0, packed.stderr
    assert packed.stderr == b""
    names = {"a.vqz", "deep/b.vqz", "deep/er/c.vqz"}
    assert files(tmp_path / "small") == names
    sizes = [os.path.getsize(tmp_path / "small" / name) for name in names]
    summary = values(packed)
    assert float(summary.pop("seconds")) > 0
    assert summary == {
        "files": "3",
        "failed": "0",
        "existing": "0",
        "bytes in": str(sum(path.stat().st_size for path in (tmp_path / "photos").rglob("*.*"))),
        "bytes out": str(sum(sizes)),
        "mean bpp": f"{8 * sum(sizes) / (3 * 48 * 32):.4f}",
    }
    assert run("compress", "photos/deep/b.jpg", "b.vqz", *model).returncode == 0
    assert (tmp_path / "b.vqz").read_bytes() == (tmp_path / "small/deep/b.vqz").read_bytes()

    arguments = ["--out", "back", "-r", "--jobs", "2", "--model", tiny_model]
    restored = run("decompress", "small", *arguments)
    assert restored.returncode == 0, restored.stderr
    assert files(tmp_path / "back") == {"a.png", "deep/b.png", "deep/er/c.png"}
    assert values(restored)["mean bpp"] == values(packed)["mean bpp"]
    assert values(restored)["bytes in"] == values(packed)["bytes out"]
    assert run("decompress", "b.vqz", "b.png", "--model", tiny_model).returncode == 0
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "back/deep/b.png").read_bytes()


def test_options_are_those_of_one_file(
    run: Run, tiny_model: Path, model: list[str | Path], tmp_path: Path
) -> None:
    options = ["--quality", "1", "--strip", "--report", "--out", "."]
    packed = run("compress", "photos/*.png", *options, *model)
    assert packed.returncode == 0, packed.stderr
    assert b"file        photos/a.png\n" in packed.stdout
    assert b" dB\n" in packed.stdout
    assert unpack((tmp_path / "a.vqz").read_bytes()).header.quality == 1
    options = ["--region", "8,8,24,16", "--max-side", "12", "--format", "JPG", "--out", "out"]
    restored = run("decompress", "a.vqz", *options, "--model", tiny_model)
    assert restored.returncode == 0, restored.stderr
    with PIL.Image.open(tmp_path / "out" / "a.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (12, 8))


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_failures_are_told_and_the_rest_is_done(
    run: Run, model: list[str | Path], tmp_path: Path, jobs: str
) -> None:
    (tmp_path / "photos" / "letter.png").write_text("Dear reader,\n")
    (tmp_path / "photos" / "cut.png").write_bytes(encode(noise(64, 64, 3))[:5000])
    result = run("compress", "photos", "-r", "--out", "small", "--jobs", jobs, *model)
    assert result.returncode == 1
    lines = sorted(result.stderr.decode().splitlines())
    assert len(lines) == 2
    assert lines[0].startswith("vqcodec: error: photos/cut.png: ")
    assert lines[1] == "vqcodec: error: photos/letter.png: is text, no picture; name a picture"
    assert (values(result)["files"], values(result)["failed"]) == ("3", "2")
    assert files(tmp_path / "small") == {"a.vqz", "deep/b.vqz", "deep/er/c.vqz"}


def test_what_is_left_out_is_said_of_each(
    run: Run, model: list[str | Path], tmp_path: Path
) -> None:
    animation(tmp_path / "photos" / "g.gif")
    arguments = ["compress", "photos", "--out", "small", *model]
    result = run(*arguments)
    assert result.stderr == b"vqcodec: photos/g.gif: left out: 2 other frames (--frame)\n"
    assert run(*arguments, "--force", "--quiet").stderr == b""


class TestBeforeTheWork:
    def test_collisions(self, run: Run, tmp_path: Path) -> None:
        shutil.copy(tmp_path / "photos/a.png", tmp_path / "photos/a.jpg")
        result = run("compress", "photos", "--out", "small")
        assert result.returncode == 1
        assert result.stderr == (
            b"vqcodec: error: small/a.vqz: would be written of photos/a.jpg and of photos/a.png; "
            b"rename one, or write them to different folders\n"
        )
        assert not (tmp_path / "small").exists()

    def test_existing(self, run: Run, model: list[str | Path], tmp_path: Path) -> None:
        (tmp_path / "small" / "deep").mkdir(parents=True)
        (tmp_path / "small" / "deep" / "b.vqz").write_bytes(b"precious")
        arguments = ["compress", "photos", "--out", "small", "-r", *model]
        refused = run(*arguments)
        assert refused.returncode == 1
        assert refused.stderr.startswith(b"vqcodec: error: small/deep/b.vqz: exists already; ")
        assert files(tmp_path / "small") == {"deep/b.vqz"}

        skipped = run(*arguments, "--skip-existing")
        assert skipped.returncode == 0, skipped.stderr
        assert (values(skipped)["files"], values(skipped)["existing"]) == ("2", "1")
        assert (tmp_path / "small" / "deep" / "b.vqz").read_bytes() == b"precious"

        forced = run(*arguments, "--force")
        assert values(forced)["files"] == "3"
        assert (tmp_path / "small" / "deep" / "b.vqz").read_bytes() != b"precious"

        nothing = run(*arguments, "--skip-existing")
        assert nothing.returncode == 0
        assert (values(nothing)["files"], values(nothing)["mean bpp"]) == ("0", "-")

    def test_dry_run(self, run: Run, tmp_path: Path) -> None:
        before = files(tmp_path)
        result = run("compress", "photos", "-r", "--out", "small", "--dry-run")
        assert result.returncode == 0
        assert result.stdout.decode().splitlines() == [
            "photos/a.png -> small/a.vqz",
            "photos/deep/b.jpg -> small/deep/b.vqz",
            "photos/deep/er/c.webp -> small/deep/er/c.vqz",
        ]
        assert files(tmp_path) == before
        (tmp_path / "photos" / "a.vqz").touch()
        arguments = ["compress", "photos/a.png", "--dry-run"]
        assert run(*arguments).returncode == 1
        assert run(*arguments, "--skip-existing").stdout == b"photos/a.vqz exists\n"
        assert run(*arguments, "--force").stdout == b"photos/a.png -> photos/a.vqz\n"


class TestOne:
    def test_is_written_beside(
        self, run: Run, tiny_model: Path, model: list[str | Path], tmp_path: Path
    ) -> None:
        packed = run("compress", "photos/deep/b.jpg", *model)
        assert packed.returncode == 0, packed.stderr
        assert packed.stdout.startswith(b"bytes  ")
        assert unpack((tmp_path / "photos/deep/b.vqz").read_bytes()).header.width == 48
        again = ["compress", "photos/deep/b.jpg", *model]
        assert run(*again).returncode == 1
        left = tmp_path / "photos/deep/.0123456789abcdef.vqcodec-part"
        left.write_bytes(b"of a process that was killed when all was done")
        assert run(*again, "--skip-existing", "--dry-run").returncode == 0
        assert left.exists()
        skipped = run(*again, "--skip-existing")
        assert not left.exists()
        assert (skipped.returncode, skipped.stdout) == (0, b"")

        (tmp_path / "photos/deep/b.vqz").rename(tmp_path / "b.vqz")
        assert run("decompress", "b.vqz", "--model", tiny_model).returncode == 0
        with PIL.Image.open(tmp_path / "b.png") as picture:
            assert picture.size == (48, 32)

    @pytest.mark.parametrize("exists", [True, False])
    def test_two_pictures_are_no_in_and_out(self, run: Run, tmp_path: Path, exists: bool) -> None:
        shutil.copy(tmp_path / "photos/a.png", tmp_path / "a.png")
        if exists:
            shutil.copy(tmp_path / "photos/a.png", tmp_path / "b.png")
        result = run("compress", "a.png", "b.png")
        assert result.returncode == 1
        assert result.stderr.startswith(b"vqcodec: error: b.png: has the ending of a picture")
        assert b"--out DIR" in result.stderr

    def test_two_files_neither(self, run: Run) -> None:
        result = run("decompress", "a.vqz", "b.vqz", "--force")
        assert result.returncode == 1
        assert result.stderr.startswith(b"vqcodec: error: b.vqz: has the ending of a .vqz file")
        assert b"--out DIR" in result.stderr

    @pytest.mark.parametrize(
        "arguments",
        [
            ["photos"],
            ["*.png"],
            ["a.png", "b.png", "c.png"],
            ["-"],
            ["a.png", "--recursive"],
            ["a.png", "--out", "-"],
            ["a.png", "--force", "--skip-existing"],
            ["a.png", "--out", "small", "--jobs", "0"],
            ["a.png", "--frame", "0", "--frames", "all"],
            ["-", "a.vqz", "--frames", "all"],
        ],
    )
    def test_wrong_usage(self, run: Run, arguments: list[str]) -> None:
        result = run("compress", *arguments)
        assert result.returncode == 2
        assert result.stderr.startswith(b"Usage: ")


def animation(path: Path) -> None:
    frames = [PIL.Image.new("RGB", (8, 8), each) for each in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


class TestFrames:
    def test_each_to_a_file(
        self, run: Run, tiny_model: Path, model: list[str | Path], tmp_path: Path
    ) -> None:
        animation(tmp_path / "photos" / "g.gif")
        result = run("compress", "photos", "--frames", "all", "--out", "small", *model)
        assert (result.returncode, result.stderr) == (0, b"")
        names = {"g-000.vqz", "g-001.vqz", "g-002.vqz"}
        assert files(tmp_path / "small") == {"a.vqz", *names}
        for number in range(3):
            one = f"{number}.vqz"
            arguments = ["--frame", number, *model]
            assert run("compress", "photos/g.gif", one, *arguments).returncode == 0
            expected = (tmp_path / "small" / f"g-00{number}.vqz").read_bytes()
            assert (tmp_path / one).read_bytes() == expected

    def test_of_one_file(self, run: Run, model: list[str | Path], tmp_path: Path) -> None:
        animation(tmp_path / "g.gif")
        result = run("compress", "g.gif", "x.vqz", "--frames", "all", *model)
        assert (result.returncode, result.stderr) == (0, b"")
        assert sorted(path.name for path in tmp_path.glob("*.vqz")) == [
            f"x-00{number}.vqz" for number in range(3)
        ]
        assert values(result)["files"] == "3"


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_and_started_again(
    tiny_model: Path,
    model: list[str | Path],
    environment: dict[str, str],
    tmp_path: Path,
    run: Run,
    jobs: int,
) -> None:
    rng = np.random.default_rng(jobs)
    names = [f"{number:02}" for number in range(30)]
    for name in names:
        (tmp_path / f"{name}.png").write_bytes(encode(rng.integers(0, 256, (24, 24, 3), np.uint8)))
    out = tmp_path / "out"
    arguments = ["compress", "*.png", "--out", "out", "--skip-existing", "--jobs", jobs, *model]
    command = [sys.executable, "-m", "vqcodec", *map(str, arguments)]
    finished: dict[str, int] = {}
    for _ in range(3):
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr
        with process.stderr:
            while process.poll() is None and len(list(out.glob("*.vqz"))) < len(finished) + 3:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
            told = process.stderr.read()  # which ends when all its processes have
        process.wait()
        assert b"Traceback" not in told
        assert b"error" not in told
        found = {path.name: path.stat().st_mtime_ns for path in out.glob("*.vqz")}
        assert found.items() >= finished.items()
        finished = found
    assert 9 <= len(finished) < 30

    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    assert values(result)["existing"] == str(len(finished))
    assert sorted(path.name for path in out.iterdir()) == [f"{name}.vqz" for name in names]
    found = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert found.items() >= finished.items()
    for name in names[:: len(names) // 5]:
        expected = run("compress", f"{name}.png", "-", *model).stdout
        assert (out / f"{name}.vqz").read_bytes() == expected


def test_the_bar_counts_files_and_megapixels(
    tiny_model: Path, environment: dict[str, str], model: list[str | Path], tmp_path: Path
) -> None:
    (tmp_path / "photos" / "letter.png").write_text("Dear reader,\n")
    terminal, end = pty.openpty()
    arguments = ["compress", "photos", "-r", "--out", "small", *map(str, model)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vqcodec", *arguments],
        stdout=subprocess.PIPE,
        stderr=end,
        cwd=tmp_path,
        env={**environment, "TERM": "xterm", "COLUMNS": "60"},
    )
    os.close(end)
    assert process.stdout
    with process.stdout:
        assert process.stdout.read().startswith(b"files      3\n")
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # how a pseudo-terminal says that the other end is closed
            break
    os.close(terminal)
    assert process.wait(60) == 1
    assert b"4/4 files" in shown
    assert b"0.0 megapixels" in shown
    line = b"vqcodec: error: photos/letter.png: is text, no picture; name a picture\r\n"
    assert line in shown
