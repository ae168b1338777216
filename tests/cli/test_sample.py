"""`sample`, also `generate`."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tiny_classes
from conftest import Invoke, Run
from tiny_classes import CLASSES, SIDE, write_tiny_class_model

from vqcodec.drawing.sampling import Keeping, Place, Request, draw
from vqcodec.photos import read_photos


def size(path: Path) -> tuple[int, int]:
    with PIL.Image.open(path) as picture:
        return picture.size


@pytest.mark.parametrize(("text", "expected"), [("40x24", (40, 24)), ("1x1", (1, 1))])
def test_size(
    run: Run, tiny_model: Path, tmp_path: Path, text: str, expected: tuple[int, int]
) -> None:
    result = run("sample", "a.png", "--size", text, "--model", tiny_model)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert size(tmp_path / "a.png") == expected


def test_count_writes_numbered_files(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["--size", "64x64", "--count", "3", "--model", tiny_model]
    assert run("generate", "a.png", *arguments).returncode == 0
    names = [f"a-{i}.png" for i in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert len({(tmp_path / name).read_bytes() for name in names}) == 3


def test_seed_decides(run: Run, tiny_model: Path) -> None:
    def draw(seed: int) -> bytes:
        arguments = ["--size", "64x64", "--seed", seed, "--model", tiny_model]
        result = run("sample", "-", *map(str, arguments))
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    with PIL.Image.open(io.BytesIO(draw(1))) as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 64))


def test_existing_output_is_told_before_anything_is_drawn(
    run: Run, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a-1.png").write_bytes(b"precious")
    arguments = ["sample", "a.png", "--size", "32x32", "--count", "2", "--model", tiny_model]
    result = run(*arguments)
    assert result.returncode == 1
    assert result.stderr.startswith(b"vqcodec: error: a-1.png: exists already")
    assert [path.name for path in tmp_path.iterdir()] == ["a-1.png"]
    assert run(*arguments, "--force").returncode == 0
    assert size(tmp_path / "a-1.png") == (32, 32)


def test_generate_is_another_name_of_sample(run: Run) -> None:
    for name in ("sample", "generate"):
        result = run(name, "--help")
        assert result.returncode == 0
        assert b"Draw new images" in result.stdout


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestClasses:
    def test_name_the_files(self, invoke: Invoke, class_model: Path, tmp_path: Path) -> None:
        result = invoke("sample", "--class", "drake", "--class", "husky", "--model", class_model)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
        assert names(tmp_path) == ["sample-1-0.png", "sample-5-0.png"]
        assert size(tmp_path / "sample-1-0.png") == (SIDE, SIDE)
        again = ["--class", "1", "--class", "drake", "--count", "2", "--model", class_model]
        assert invoke("sample", "a.png", *again).exit_code == 0
        assert names(tmp_path)[:2] == ["a-1-0.png", "a-1-1.png"]
        one = (tmp_path / "sample-1-0.png").read_bytes()
        assert (tmp_path / "a-1-0.png").read_bytes() == one
        assert invoke("sample", "b.png", "--class", "1", "--model", class_model).exit_code == 0
        assert (tmp_path / "b.png").read_bytes() == one

    def test_that_cannot_be_found(self, invoke: Invoke, class_model: Path, tmp_path: Path) -> None:
        for text, hint in (
            ("crane", "may be 2 (crane); 3 (crane)"),
            ("drak", None),
            ("q", "lists"),
        ):
            result = invoke("sample", "--class", text, "--size", "8x8", "--model", class_model)
            if hint is None:
                assert result.exit_code == 0
                continue
            assert result.exit_code == 1
            assert result.stderr.startswith("vqcodec: error: ")
            assert hint in result.stderr
        assert names(tmp_path) == ["sample-1-0.png"]

    def test_of_a_model_without(self, invoke: Invoke, tiny_model: Path) -> None:
        result = invoke("sample", "--class", "drake", "--model", tiny_model)
        assert result.exit_code == 1
        assert result.stderr.startswith("vqcodec: error: tiny-test has no classes; ")

    def test_are_listed(self, invoke: Invoke, class_model: Path, tiny_model: Path) -> None:
        result = invoke("models", "--classes", "--model", class_model)
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert lines[0].split() == ["INDEX", "KEY", "IMAGES", "NAME"]
        assert lines[2].split() == ["1", "n01847000", "3", "drake"]
        assert len(lines) == 1 + len(CLASSES)
        result = invoke("models", "--classes", "--json", "--model", class_model)
        first = {"index": 0, "key": "n01440764", "images": 400, "name": "tench, Tinca tinca"}
        assert json.loads(result.stdout)[0] == first
        result = invoke("models", "--classes", "--model", tiny_model)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "tiny-test has no classes" in result.stderr
        assert invoke("models", "--model", tiny_model).exit_code == 2

    def test_listing_loads_no_torch(
        self, class_model: Path, environment: dict[str, str], tmp_path: Path
    ) -> None:
        arguments = ["models", "--classes", "--model", str(class_model)]
        program = (
            "import sys; from vqcodec.cli import main\n"
            f"try: main({arguments})\n"
            "except SystemExit as end: assert not end.code\n"
            "assert not {'torch', 'numpy'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True)


def test_without_a_name(invoke: Invoke, tiny_model: Path, tmp_path: Path) -> None:
    assert invoke("sample", "--size", "8x8", "--model", tiny_model).exit_code == 0
    assert names(tmp_path) == ["sample-0.png"]
    result = invoke("sample", "--size", "8x8", "--model", tiny_model)
    assert result.exit_code == 1
    assert result.stderr.startswith("vqcodec: error: sample-0.png: exists already")


def test_grid(invoke: Invoke, class_model: Path, tmp_path: Path) -> None:
    arguments = ["--class", "1", "--class", "4", "--count", "3", "--size", "8x16"]
    assert invoke("sample", "grid.png", "--grid", *arguments, "--model", class_model).exit_code == 0
    assert invoke("sample", "a.png", *arguments, "--model", class_model).exit_code == 0
    assert size(tmp_path / "grid.png") == (3 * 10 + 2, 2 * 18 + 2)  # one row a class
    with PIL.Image.open(tmp_path / "grid.png") as whole:
        for row, index in enumerate((1, 4)):
            for n in range(3):
                left, top = 2 + n * 10, 2 + row * 18
                part = whole.crop((left, top, left + 8, top + 16))
                with PIL.Image.open(tmp_path / f"a-{index}-{n}.png") as single:
                    assert part.tobytes() == single.tobytes()
    result = invoke("sample", "-", "--grid", "--columns", "6", *arguments, "--model", class_model)
    with PIL.Image.open(io.BytesIO(result.stdout_bytes)) as picture:
        assert picture.size == (6 * 10 + 2, 18 + 2)


def test_folders_stay_in_theirs(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a weights file calls its classes."""
    evil = (tiny_classes.CLASSES[0]._replace(key="../evil"), *tiny_classes.CLASSES[1:])
    monkeypatch.setattr(tiny_classes, "CLASSES", evil)
    write_tiny_class_model(tmp_path / "evil.safetensors")
    arguments = ["--class", "0", "--size", "8x8", "--model", "evil.safetensors"]
    result = invoke("sample", "drawn", "--folders", *arguments)
    assert result.exit_code == 1
    assert "the class '../evil' cannot name a folder in drawn; rename it" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["evil.safetensors"]


def test_folders(invoke: Invoke, class_model: Path, tmp_path: Path) -> None:
    arguments = ["--class", "1", "--class", "4", "--count", "2", "--size", "8x8"]
    result = invoke("sample", "drawn", "--folders", *arguments, "--model", class_model)
    assert (result.exit_code, result.stderr) == (0, "")
    photos = read_photos(tmp_path / "drawn", 8)
    assert [photo.label for photo in photos] == ["n01847000"] * 2 + ["n02110185"] * 2
    assert invoke("sample", "a.png", *arguments, "--model", class_model).exit_code == 0
    for key, index in (("n01847000", 1), ("n02110185", 4)):
        for n in range(2):
            single = (tmp_path / f"a-{index}-{n}.png").read_bytes()
            assert (tmp_path / "drawn" / key / f"{n}.png").read_bytes() == single
    assert invoke("sample", "drawn", "--folders", *arguments, "--model", class_model).exit_code == 1


def test_levels(invoke: Invoke, tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["--levels", "--size", "32x32", "--count", "2", "--model", tiny_model]
    assert invoke("sample", "a.png", *arguments).exit_code == 0
    parts = ["-levels1", "-levels2", ""]
    assert names(tmp_path) == sorted(f"a-{n}{part}.png" for n in range(2) for part in parts)
    assert invoke("sample", "g.png", "--grid", *arguments).exit_code == 0
    with PIL.Image.open(tmp_path / "g.png") as whole:
        assert whole.size == (3 * 34 + 2, 2 * 34 + 2)
        for n in range(2):
            for step, part in enumerate(parts):
                left, top = 2 + step * 34, 2 + n * 34
                with PIL.Image.open(tmp_path / f"a-{n}{part}.png") as single:
                    assert whole.crop((left, top, left + 32, top + 32)).tobytes() == (
                        single.tobytes()
                    )


def test_keep(
    invoke: Invoke, class_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bright.py").write_text(
        "import torch\n"
        "class Bright(torch.nn.Module):\n"
        "    def forward(self, images):\n"
        "        mean = images.mean((1, 2, 3))[:, None]\n"
        f"        return mean * torch.eye({len(CLASSES)})[1]\n"
    )
    arguments = ["--class", "drake", "--size", "8x8", "--model", class_model]
    assert invoke("sample", "a.png", "--count", "8", *arguments).exit_code == 0
    keeping = ["--keep", "0.25", "--classifier", "bright:Bright"]
    result = invoke("sample", "k.png", "--count", "2", *keeping, *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    drawn = [(tmp_path / f"a-1-{n}.png") for n in range(8)]
    brightness = [float(np.asarray(PIL.Image.open(path)).mean()) for path in drawn]
    best = sorted(sorted(range(8), key=lambda n: -brightness[n])[:2])
    for n, number in enumerate(best):
        kept = (tmp_path / f"k-1-{n}.png").read_bytes()
        assert kept == drawn[number].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "3"], "--columns is for --grid"),
        (["--folders"], "--folders needs OUT and --class, and no --grid"),
        (["--classifier", "a:b"], "--classifier needs --keep below 1"),
        (["--keep", "0.5", "--classifier", "a:b"], "--keep needs --class"),
        (["--keep", "0.5"], "--keep needs --class"),
        (["--size", "8by8"], "is not WIDTHxHEIGHT"),
        (["--top-p", "0"], "--top-p"),
    ],
)
def test_wrong_usage(invoke: Invoke, class_model: Path, arguments: list[str], message: str) -> None:
    result = invoke("sample", "a.png", *arguments, "--model", class_model)
    assert result.exit_code == 2
    assert message in result.stderr


def test_standard_output_takes_one_image(invoke: Invoke, class_model: Path) -> None:
    for arguments in (["--class", "all"], ["--levels"], ["--count", "2"]):
        result = invoke("sample", "-", *arguments, "--size", "8x8", "--model", class_model)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Standard output takes one image" in result.stderr


class TestSteps:
    def test_are_an_animation_that_ends_with_the_images(
        self, invoke: Invoke, class_model: Path, tmp_path: Path
    ) -> None:
        arguments = ["--class", "1", "--count", "2", "--model", class_model]
        result = invoke("sample", "a.png", "--steps", "a.webp", *arguments)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
        assert names(tmp_path) == ["a-1-0.png", "a-1-1.png", "a.webp"]
        assert invoke("sample", "g.png", "--grid", *arguments).exit_code == 0
        with PIL.Image.open(tmp_path / "a.webp") as film, PIL.Image.open(tmp_path / "g.png") as end:
            assert film.size == end.size == (2 * (SIDE + 2) + 2, SIDE + 4)
            assert film.n_frames > 10
            film.seek(film.n_frames - 1)
            assert np.array_equal(np.asarray(film.convert("RGB")), np.asarray(end))
            film.seek(0)
            assert not np.array_equal(np.asarray(film.convert("RGB")), np.asarray(end))

    @pytest.mark.parametrize("name", ["a.png", "-", "a"])
    def test_with_another_ending_draw_nothing(
        self, invoke: Invoke, class_model: Path, tmp_path: Path, name: str
    ) -> None:
        result = invoke("sample", "b.png", "--class", "1", "--steps", name, "--model", class_model)
        assert result.exit_code == 1
        assert "write a .gif or .webp file" in result.stderr
        assert names(tmp_path) == []

    def test_do_not_overwrite(self, invoke: Invoke, class_model: Path, tmp_path: Path) -> None:
        (tmp_path / "a.gif").write_bytes(b"precious")
        arguments = ["sample", "b.png", "--class", "1", "--steps", "a.gif", "--model", class_model]
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith("vqcodec: error: a.gif: exists already")
        assert names(tmp_path) == ["a.gif"]
        assert invoke(*arguments, "--force").exit_code == 0
        result = invoke(*[*arguments[:1], "c.webp", *arguments[2:-3], "c.webp", *arguments[-2:]])
        assert result.exit_code == 2
        assert "name the same file" in result.stderr


def test_keep_without_a_classifier_goes_by_the_priors(
    invoke: Invoke, class_model: Path, tmp_path: Path
) -> None:
    arguments = ["--class", "drake", "--size", "8x8", "--model", class_model]
    assert invoke("sample", "a.png", "--count", "8", *arguments).exit_code == 0
    result = invoke("sample", "k.png", "--count", "2", "--keep", "0.25", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    request = Request(8, 8, classes=[1], count=2)
    kept = draw(request, place=Place(class_model), keeping=Keeping(0.25))
    for n, each in enumerate(kept):
        drawn = (tmp_path / f"a-1-{each.number}.png").read_bytes()
        assert (tmp_path / f"k-1-{n}.png").read_bytes() == drawn
