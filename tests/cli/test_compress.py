"""`compress` and `decompress` on files and pipes."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner
from conftest import Run

from vqcodec.cli import main
from vqcodec.cli.options import byte_size
from vqcodec.container import unpack


def values(report: str) -> dict[str, str]:
    """The two columns of a report as a table."""
    lines = (re.split(r"  +", line, maxsplit=1) for line in report.splitlines())
    return dict(lines)


def pixels(encoded: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(encoded)) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="module")
def compressed(tiny_model: Path, astronaut: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small photograph, compressed."""
    path = tmp_path_factory.mktemp("compressed") / "astronaut.vqz"
    arguments = ["compress", str(astronaut), str(path), "--model", str(tiny_model)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return path


def test_prints_bytes_and_bpp(
    process: Run, tiny_model: Path, astronaut: Path, tmp_path: Path
) -> None:
    result = process("compress", astronaut, "a.vqz", "--model", tiny_model)
    assert result.returncode == 0
    assert result.stderr == b""
    size = (tmp_path / "a.vqz").stat().st_size
    bpp = 8 * size / (128 * 96)
    assert size < 1000
    expected = {"size": f"{size} B ({bpp:.3g} bpp)", "bytes": str(size), "bpp": f"{bpp:.4f}"}
    assert values(result.stdout.decode()) == expected


def test_report_agrees_with_the_file(
    run: Run, tiny_model: Path, astronaut: Path, tmp_path: Path
) -> None:
    result = run("compress", astronaut, "a.vqz", "--report", "--model", tiny_model)
    assert result.returncode == 0, result.stderr
    report = values(result.stdout.decode())
    container = unpack((tmp_path / "a.vqz").read_bytes())
    assert report["levels"] == str(container.header.levels)
    for level, payloads in enumerate(container.sections):
        match = re.fullmatch(r"(\d+) bits, ideal ([\d.]+)", report[f"level {level}"])
        assert match
        bits, ideal = int(match[1]), float(match[2])
        assert bits == 8 * sum(map(len, payloads))
        assert 0 < ideal <= bits
    assert float(report["compress"].removesuffix(" s")) >= 0
    assert float(report["decompress"].removesuffix(" s")) >= 0

    assert run("decompress", "a.vqz", "a.png", "--model", tiny_model).returncode == 0
    restored = pixels((tmp_path / "a.png").read_bytes())
    mse = np.mean((pixels(astronaut.read_bytes()).astype(float) - restored) ** 2)
    psnr = float(report["psnr"].removesuffix(" dB"))
    assert psnr == pytest.approx(10 * np.log10(255**2 / mse), abs=0.01)


def test_report_of_a_grey_image_measures_the_grey_values(
    run: Run, tiny_model: Path, astronaut: Path, tmp_path: Path
) -> None:
    with PIL.Image.open(astronaut) as picture:
        picture.convert("L").save(tmp_path / "grey.png")
    result = run("compress", "grey.png", "grey.vqz", "--report", "--model", tiny_model)
    assert result.returncode == 0, result.stderr
    assert run("decompress", "grey.vqz", "restored.png", "--model", tiny_model).returncode == 0
    original, restored = (
        pixels((tmp_path / name).read_bytes()).astype(float)
        for name in ("grey.png", "restored.png")
    )
    assert restored.shape == (96, 128)
    psnr = float(values(result.stdout.decode())["psnr"].removesuffix(" dB"))
    assert psnr == pytest.approx(
        10 * np.log10(255**2 / np.mean((original - restored) ** 2)), abs=0.01
    )


def test_pipes_carry_the_same_bytes_as_files(
    process: Run, tiny_model: Path, astronaut: Path, compressed: Path, tmp_path: Path
) -> None:
    content = astronaut.read_bytes()
    packed = process("compress", "-", "-", "--model", tiny_model, input=content)
    assert packed.returncode == 0, packed.stderr
    assert packed.stdout == compressed.read_bytes()
    assert values(packed.stderr.decode())["bytes"] == str(len(packed.stdout))

    restored = process("decompress", "-", "-", "--model", tiny_model, input=packed.stdout)
    assert restored.returncode == 0, restored.stderr
    assert restored.stderr == b""
    assert process("decompress", compressed, "a.png", "--model", tiny_model).returncode == 0
    assert restored.stdout == (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(["-"], "PNG"), (["-", "--format", "bmp"], "BMP"), (["a.ppm"], "PPM"), (["a.webp"], "WEBP")],
)
def test_format_is_by_option_or_ending(
    run: Run, tiny_model: Path, compressed: Path, tmp_path: Path, arguments: list[str], kind: str
) -> None:
    result = run("decompress", compressed, *arguments, "--model", tiny_model)
    assert result.returncode == 0, result.stderr
    encoded = result.stdout or (tmp_path / arguments[0]).read_bytes()
    with PIL.Image.open(io.BytesIO(encoded)) as picture:
        assert (picture.format, picture.size) == (kind, (128, 96))


@pytest.mark.parametrize(
    "arguments", [["a.nonsense"], ["a"], ["-", "--format", "nonsense"], ["a.png", "--format", "?"]]
)
def test_format_unknown(
    run: Run, tiny_model: Path, compressed: Path, tmp_path: Path, arguments: list[str]
) -> None:
    result = run("decompress", compressed, *arguments, "--model", tiny_model)
    assert result.returncode == 1
    assert result.stdout == b""
    assert re.fullmatch(rb"vqcodec: error: [^\n]+\n", result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_levels_decodes_the_coarsest_alone(
    run: Run, tiny_model: Path, compressed: Path, tmp_path: Path
) -> None:
    levels = unpack(compressed.read_bytes()).header.levels
    assert levels > 1
    pictures = []
    for count in (1, levels):
        name = f"{count}.png"
        result = run("decompress", compressed, name, "--levels", count, "--model", tiny_model)
        assert result.returncode == 0, result.stderr
        pictures.append(pixels((tmp_path / name).read_bytes()))
    assert pictures[0].shape == pictures[1].shape == (96, 128, 3)
    assert not np.array_equal(*pictures)
    result = run("decompress", compressed, "all.png", "--model", tiny_model)
    assert np.array_equal(pixels((tmp_path / "all.png").read_bytes()), pictures[1])


def test_partial_restores_a_file_cut_short(
    run: Run, tiny_model: Path, compressed: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.vqz").write_bytes(compressed.read_bytes()[:-9])
    refused = run("decompress", "cut.vqz", "a.png", "--model", tiny_model)
    assert refused.returncode == 1
    assert refused.stderr.startswith(b"vqcodec: error: cut.vqz: ")
    assert b"--partial" in refused.stderr
    assert not (tmp_path / "a.png").exists()

    restored = run("decompress", "cut.vqz", "a.png", "--partial", "--model", tiny_model)
    assert restored.returncode == 0, restored.stderr
    levels = unpack(compressed.read_bytes()).header.levels - 1
    run("decompress", compressed, "b.png", "--levels", levels, "--model", tiny_model)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_tile_is_written_and_decodes(
    run: Run, tiny_model: Path, astronaut: Path, tmp_path: Path
) -> None:
    result = run("compress", astronaut, "a.vqz", "--tile", "64", "--model", tiny_model)
    assert result.returncode == 0, result.stderr
    header = unpack((tmp_path / "a.vqz").read_bytes()).header
    assert (header.tile, header.tiles) == (64, 4)
    assert run("decompress", "a.vqz", "a.png", "--model", tiny_model).returncode == 0


def test_size_is_met_and_what_met_it_is_printed(run: Run, astronaut: Path, tmp_path: Path) -> None:
    result = run("compress", astronaut, "a.vqz", "--size", "0.6kB", "--effort", "2")
    assert result.returncode == 0, result.stderr
    report = values(result.stdout.decode())
    content = (tmp_path / "a.vqz").read_bytes()
    assert 0.98 * 600 <= len(content) <= 600
    assert report["bytes"] == str(len(content))
    assert report["quality"] == str(unpack(content).header.quality)
    assert 1 <= int(report["passes"]) <= 10
    assert 0.25 <= float(report["rate weight"]) <= 4
    assert run("decompress", "a.vqz", "a.png").returncode == 0


def test_psnr_is_met_and_printed(run: Run, astronaut: Path, tmp_path: Path) -> None:
    result = run("compress", astronaut, "a.vqz", "--psnr", "25", "--effort", "1")
    assert result.returncode == 0, result.stderr
    report = values(result.stdout.decode())
    assert float(report["psnr"].removesuffix(" dB")) == pytest.approx(25, abs=0.1)
    assert run("decompress", "a.vqz", "a.png").returncode == 0
    restored = pixels((tmp_path / "a.png").read_bytes())
    mse = np.mean((pixels(astronaut.read_bytes()).astype(float) - restored) ** 2)
    assert 10 * np.log10(255**2 / mse) == pytest.approx(25, abs=0.1)


def test_size_out_of_reach_names_the_range(run: Run, astronaut: Path, tmp_path: Path) -> None:
    result = run(
        "compress", astronaut, "a.vqz", "--size", "1MB", "--lossless", "never", "--effort", "1"
    )
    assert result.returncode == 1
    assert re.fullmatch(
        rb"vqcodec: error: 1,000,000 bytes \(.* bpp\) are out of reach; of this image the model "
        rb"can make [\d,]+ to [\d,]+ bytes \([\d.]+ to [\d.]+ bpp\)\n",
        result.stderr,
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--size", "0"],
        ["--size", "10XB"],
        ["--size", "-5"],
        ["--bpp", "0"],
        ["--psnr", "-1"],
        ["--effort", "0"],
        ["--effort", "10"],
        ["--size", "10kB", "--bpp", "0.5"],
        ["--quality", "1", "--psnr", "30"],
    ],
)
def test_targets_and_efforts_that_are_none(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["compress", "a.png", "a.vqz", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("40000", 40000),
        ("40kB", 40000),
        ("40KB", 40000),
        ("40 kb", 40000),
        ("1.5MB", 1_500_000),
        ("1.5m", 1_500_000),
        ("2KiB", 2048),
        (".5 MiB", 524288),
        ("1e4", 10_000),
        ("1.5e+3kB", 1_500_000),
    ],
)
def test_sizes_with_units(text: str, size: int) -> None:
    assert byte_size(text) == size


def test_effort_changes_the_file_and_not_its_header(
    run: Run, tiny_model: Path, astronaut: Path, compressed: Path, tmp_path: Path
) -> None:
    for effort in "1", "5":
        arguments = ["--effort", effort, "--model", tiny_model]
        assert run("compress", astronaut, f"{effort}.vqz", *arguments).returncode == 0
    first, second = ((tmp_path / f"{effort}.vqz").read_bytes() for effort in "15")
    assert first != second == compressed.read_bytes()
    assert unpack(first).header == unpack(second).header


@pytest.mark.parametrize("tile", ["0", "-64", "16", "96", "8192"])
def test_tile_out_of_its_limits(
    run: Run, tiny_model: Path, astronaut: Path, tmp_path: Path, tile: str
) -> None:
    result = run("compress", astronaut, "a.vqz", "--tile", tile, "--model", tiny_model)
    assert result.returncode in {1, 2}
    assert b"Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_quality_the_model_does_not_have(
    run: Run, tiny_model: Path, astronaut: Path, tmp_path: Path
) -> None:
    result = run("compress", astronaut, "a.vqz", "--quality", "255", "--model", tiny_model)
    assert result.returncode == 1
    assert re.fullmatch(rb"vqcodec: error: [^\n]+\n", result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_the_output_and_only_force_does(
    run: Run, tiny_model: Path, astronaut: Path, compressed: Path, tmp_path: Path
) -> None:
    for arguments in ["compress", astronaut, "a.vqz"], ["decompress", compressed, "a.png"]:
        output = tmp_path / str(arguments[-1])
        output.write_bytes(b"precious")
        refused = run(*arguments, "--model", tiny_model)
        assert refused.returncode == 1
        assert refused.stderr.startswith(b"vqcodec: error: ")
        assert b"--force" in refused.stderr
        assert output.read_bytes() == b"precious"

        assert run(*arguments, "--force", "--model", tiny_model).returncode == 0
        assert output.read_bytes() != b"precious"
    assert {path.name for path in tmp_path.iterdir()} == {"a.vqz", "a.png"}


def test_progress_goes_to_the_terminal_of_standard_error(
    tiny_model: Path, astronaut: Path, compressed: Path, environment: dict[str, str]
) -> None:
    terminal, end = pty.openpty()
    arguments = ["compress", str(astronaut), "-", "--model", str(tiny_model)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vqcodec", *arguments],
        stdout=subprocess.PIPE,
        stderr=end,
        env={**environment, "TERM": "xterm"},
    )
    os.close(end)
    assert process.stdout
    shown: list[bytes] = []

    def watch() -> None:
        with contextlib.suppress(OSError):  # how it says that the other end is closed
            while True:
                shown.append(os.read(terminal, 4096))

    # Both at once: what a slow run shows is more than a terminal keeps for later.
    watching = threading.Thread(target=watch)
    watching.start()
    with process.stdout:
        packed = process.stdout.read()
    watching.join()
    os.close(terminal)
    assert process.wait(60) == 0
    assert packed == compressed.read_bytes()
    assert b"%" in b"".join(shown)
