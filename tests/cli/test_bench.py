"""`bench` on a small photograph: results, page, plots, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image
import pytest
from click.testing import CliRunner, Result
from random_dists import write_random_dists
from tiny import register, write_tiny_natural

from vqcodec.bench.codecs import PEERS
from vqcodec.cli import main
from vqcodec.cli.bench import FILE_PEERS
from vqcodec.registry import sha256_of
from vqcodec.weights_file import load

if TYPE_CHECKING:
    from conftest import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def results(
    folder: Path, astronaut: Path, chelsea: Path, tiny_model: Path, tiny_synthesis: Path
) -> dict[str, Any]:
    """Of a run with two images, syntheses and peers, which leaves everything in `folder`."""
    second = folder / "chelsea.png"
    with PIL.Image.open(chelsea) as picture:
        picture.crop((100, 50, 292, 226)).save(second)  # as large as MS-SSIM needs
    arguments = [astronaut, second, "--out", folder, "--model", tiny_model, "--runs", 1, "--keep"]
    arguments += ["--quality", 1, "--quality", 3, "--peer", "jpeg", "--peer", "webp"]
    arguments += ["--variant", "psnr", "--variant", tiny_synthesis]
    arguments += ["--dists", write_random_dists(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder))  # without Butteraugli, whether it is installed or not
        finished = invoke(*arguments)
    assert finished.exit_code == 0, finished.output
    assert "missing: LPIPS" in finished.stderr
    for of in ("vqcodec tiny-test", "vqcodec, smooth"):
        assert f"quality 3 of {of}" in finished.stdout
        assert f"BD-rate of {of} against JPEG" in finished.stdout
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.mark.slow
def test_results_name_what_they_depend_on(
    results: dict[str, Any], tiny_model: Path, tiny_synthesis: Path
) -> None:
    made = results["made"]
    assert made["model_id"] == "tiny-test"
    assert made["weights_bytes"] == tiny_model.stat().st_size
    assert len(made["weights_sha256"]) == 64
    assert made["seconds"] > 0
    assert {"vqcodec", "torch", "pillow", "pillow's webp"} <= set(made["versions"])
    assert made["machine"]["threads"] >= 1
    assert [codec["key"] for codec in results["codecs"]] == [
        *("vqcodec", "vqcodec-smooth", "jpeg", "webp")
    ]
    assert [each["name"] for each in results["missing"]] == ["LPIPS", "Butteraugli (3-norm)"]
    assert made["dists"] == "random, 0123"
    assert made["syntheses"] == {"vqcodec": None, "vqcodec-smooth": sha256_of(tiny_synthesis)}
    assert [image["name"] for image in results["images"]] == ["astronaut-crop.png", "chelsea.png"]


@pytest.mark.slow
def test_rows_are_of_the_files_on_the_disk(results: dict[str, Any], folder: Path) -> None:
    suffixes = {"vqcodec": "vqz", "vqcodec-smooth": "vqz", "jpeg": "jpg", "webp": "webp"}
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
def test_a_further_synthesis_has_distortions_of_its_own(results: dict[str, Any]) -> None:
    main, further = (
        [row for row in results["rows"] if row["codec"] == key]
        for key in ("vqcodec", "vqcodec-smooth")
    )
    same = [
        [(row["image"], row["quality"], row["bytes"]) for row in own] for own in (main, further)
    ]
    assert same[0] == same[1]
    assert [row["psnr"] for row in main] != [row["psnr"] for row in further]
    compared = [(each["codec"], each["anchor"], each["metric"]) for each in results["comparisons"]]
    assert compared == [
        (codec, anchor, metric["key"])
        for codec in ("vqcodec", "vqcodec-smooth")
        for anchor in ("JPEG", "WebP")
        for metric in results["metrics"]
    ]


@pytest.mark.slow
def test_page_and_plots_are_there(results: dict[str, Any], folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "tiny-test" in page
    assert "astronaut-crop.png" in page
    assert "vqcodec, smooth, quality 1" in page
    assert (folder / "plots" / "rd-dists.png").is_file()
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
        (["a.png", "--dists", "text.png"], "no usable weights file of DISTS"),
        (["a.png", "--variant", "soft"], "there is no tune 'soft'"),
        (["a.png", "--variant", "x.safetensors"], "No such file"),
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


def test_two_syntheses_of_one_name(
    run: Run, tmp_path: Path, astronaut: Path, tiny_model: Path, tiny_synthesis: Path
) -> None:
    copy = tmp_path / tiny_synthesis.name
    copy.write_bytes(tiny_synthesis.read_bytes())
    twice = ["--variant", copy, "--variant", tiny_synthesis, "--variant", tiny_synthesis]
    finished = run("bench", astronaut, "--out", "results", "--model", tiny_model, *twice)
    assert finished.returncode == 1
    assert b"two variants are called smooth; rename the file of one" in finished.stderr


def test_every_peer_can_be_asked_for() -> None:
    assert {*FILE_PEERS} == PEERS.keys()


class TestBlind:
    @pytest.fixture
    def photograph(self, coffee: Path, tmp_path: Path) -> Path:
        path = tmp_path / "coffee.png"
        with PIL.Image.open(coffee) as picture:
            picture.crop((0, 0, 160, 128)).save(path)
        return path

    @pytest.fixture
    def model(self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The tiny one, with a natural synthesis."""
        loaded = load(tiny_model)
        write_tiny_natural(tmp_path / "natural.safetensors", loaded)
        register(tmp_path / "natural.safetensors", loaded, monkeypatch)
        return tiny_model

    def test_writes_one_page(self, run: Run, photograph: Path, model: Path, tmp_path: Path) -> None:
        words = [photograph, "--out", "a/b", "--blind", "--model", model, "--effort", 1]
        words += ["--bpp", 0.316, "--bpp", 0.05, "--crops", 2, "--peer", "jpeg", "--seed", 4]
        finished = run("bench", *words)
        assert finished.returncode == 0
        left_out = [line for line in finished.stderr.decode().splitlines() if " 0.05 bpp:" in line]
        assert len(left_out) == 2
        assert left_out[0].startswith("left out: coffee.png at 0.05 bpp: JPEG comes no nearer")
        assert "vqcodec: 128 bytes (0.05 bpp) are out of reach" in left_out[1]
        assert b"blind.html" in finished.stdout
        assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["blind.html"]
        page = (tmp_path / "a" / "b" / "blind.html").read_text("utf-8")
        found = re.search(r'id="session">(.*?)</script>', page)
        assert found is not None
        session = json.loads(found[1])
        assert session["made"]["seed"] == 4
        assert session["made"]["model_id"] == "tiny-test"
        asked = session["comparisons"]
        assert asked
        assert f"comparisons  {len(asked)}" in finished.stdout.decode()
        for each in asked:
            ours, theirs = sorted(
                (each["left"], each["right"]), key=lambda side: side["codec"] == "jpeg"
            )
            assert 0.98 * theirs["bytes"] <= ours["bytes"] <= theirs["bytes"]

        again = run("bench", *words)
        assert again.returncode == 1
        assert b"exists already; use --force" in again.stderr

    def test_nothing_to_compare(
        self, run: Run, photograph: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        words = [photograph, "--out", "out", "--blind", "--model", tiny_model, "--peer", "none"]
        finished = run("bench", *words)
        assert finished.returncode == 1
        assert len(finished.stderr.splitlines()) == 1
        assert b"nothing can be compared: tiny-test has no natural synthesis" in finished.stderr
        assert not (tmp_path / "out" / "blind.html").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--blind", "--quality", 3], "--quality measures, and --blind doesn't"),
            (["--blind", "--profile"], "--profile measures, and --blind doesn't"),
            (["--bpp", 0.1], "--bpp is for --blind"),
            (["--seed", 0], "--seed is for --blind"),
            (["--blind", "--peer", "mbt2018"], "mbt2018 has time alone to show"),
        ],
    )
    def test_options_of_the_other_kind_are_wrong_usage(
        self, run: Run, photograph: Path, arguments: list[Any], message: str
    ) -> None:
        finished = run("bench", photograph, "--out", "out", *arguments)
        assert finished.returncode == 2
        assert message in finished.stderr.decode()


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
