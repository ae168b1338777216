"""`bench` on a small photograph: results, page, plots, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image
import pytest
from click.testing import CliRunner, Result

from vqcodec.cli import main

if TYPE_CHECKING:
    from conftest import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def results(folder: Path, astronaut: Path, chelsea: Path, tiny_model: Path) -> dict[str, Any]:
    """Of a run with two images and two peers, which leaves everything in `folder`."""
    second = folder / "chelsea.png"
    with PIL.Image.open(chelsea) as picture:
        picture.crop((100, 50, 292, 226)).save(second)  # as large as MS-SSIM needs
    arguments = [astronaut, second, "--out", folder, "--model", tiny_model, "--runs", 1, "--keep"]
    arguments += ["--quality", 1, "--quality", 3, "--peer", "jpeg", "--peer", "webp"]
    finished = invoke(*arguments)
    assert finished.exit_code == 0, finished.output
    assert "missing: LPIPS" in finished.stderr
    assert "quality 3" in finished.stdout
    assert "BD-rate against JPEG" in finished.stdout
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.mark.slow
def test_results_name_what_they_depend_on(results: dict[str, Any], tiny_model: Path) -> None:
    made = results["made"]
    assert made["model_id"] == "tiny-test"
    assert made["weights_bytes"] == tiny_model.stat().st_size
    assert len(made["weights_sha256"]) == 64
    assert made["seconds"] > 0
    assert {"vqcodec", "torch", "pillow", "pillow's webp"} <= set(made["versions"])
    assert made["machine"]["threads"] >= 1
    assert [codec["key"] for codec in results["codecs"]] == ["vqcodec", "jpeg", "webp"]
    assert [each["name"] for each in results["missing"]] == ["LPIPS"]
    assert [image["name"] for image in results["images"]] == ["astronaut-crop.png", "chelsea.png"]


@pytest.mark.slow
def test_rows_are_of_the_files_on_the_disk(results: dict[str, Any], folder: Path) -> None:
    suffixes = {"vqcodec": "vqz", "jpeg": "jpg", "webp": "webp"}
    files = {path for path in (folder / "files").rglob("*") if path.is_file()}
    for row in results["rows"]:
        name = f"{Path(row['image']).stem}-{row['quality']}.{suffixes[row['codec']]}"
        file = folder / "files" / row["codec"] / name
        assert file.stat().st_size == row["bytes"]
        files.remove(file)
    assert not files
    ours = [row for row in results["rows"] if row["codec"] == "vqcodec"]
    assert [(row["quality"], row["image"]) for row in ours] == [
        (quality, image["name"]) for quality in (1, 3) for image in results["images"]
    ]


@pytest.mark.slow
def test_points_are_means(results: dict[str, Any]) -> None:
    for point in results["points"]:
        alike = [
            row
            for row in results["rows"]
            if (row["codec"], row["quality"]) == (point["codec"], point["quality"])
        ]
        assert len(alike) == 2
        for axis in ("bpp", "psnr", "ssimulacra2"):
            assert point[axis] == pytest.approx(sum(row[axis] for row in alike) / 2, rel=1e-5)


@pytest.mark.slow
def test_page_and_plots_are_there(results: dict[str, Any], folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "tiny-test" in page
    assert "astronaut-crop.png" in page
    assert (folder / "plots" / "rd-psnr.png").read_bytes().startswith(b"\x89PNG")
    assert results["profile"] is None


@pytest.mark.slow
def test_earlier_results_are_kept(results: dict[str, Any], folder: Path, astronaut: Path) -> None:
    before = (folder / "results.json").read_bytes()
    refused = invoke(astronaut, "--out", folder)
    assert refused.exit_code == 1
    assert "exists already; use --force" in refused.stderr
    assert (folder / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png"], "holds no images"),
        (["empty"], "holds no images"),
        (["a.png", "b/a.png"], "has the name of another image"),
        (["text.png"], "is text, no picture"),
        (["a.png", "--lpips", "text.png"], "no usable weights file of LPIPS"),
        (["a.png", "--model", "nonsense"], "not known"),
        (["a.png", "--quality", "200"], "no quality 200"),
        (["a.png", "--view", "nothing.png"], "holds no images"),
        (["a.png", "--view", "text.png"], "is text, no picture"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, run: Run, tmp_path: Path, astronaut: Path
) -> None:
    for name in ("empty", "b"):
        (tmp_path / name).mkdir()
    for name in ("a.png", "b/a.png"):
        (tmp_path / name).write_bytes(astronaut.read_bytes())
    (tmp_path / "text.png").write_text("no picture")
    finished = run("bench", *arguments, "--out", "results", "--peer", "none")
    assert finished.returncode == 1
    assert len(finished.stderr.splitlines()) == 1
    assert message in finished.stderr.decode()
    assert not (tmp_path / "results" / "results.json").exists()


def test_an_extra_that_is_not_installed_is_named(
    process: Run, astronaut: Path, tmp_path: Path
) -> None:
    absent = "raise ModuleNotFoundError(name='bjontegaard')"
    (tmp_path / "bjontegaard.py").write_text(absent)  # found before the installed one
    finished = process("bench", astronaut, "--out", "results")
    assert finished.returncode == 1
    assert b"bench needs bjontegaard, which is not installed" in finished.stderr
    assert b"pip install 'vqcodec[bench]'" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


def test_images_without_loss_have_no_psnr() -> None:
    from vqcodec.cli.bench import point_text

    point = {"bpp": 2.0, "psnr": None, "encode_seconds": 1.0, "decode_seconds": 2.0}
    assert point_text(point) == "2.0000 bpp, an image without loss, 1.00 s, 2.00 s back"
