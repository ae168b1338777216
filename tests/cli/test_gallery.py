"""`gallery`: a page of pictures and what is restored of them."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import Run

pytest.importorskip("jinja2", reason="the extra bench is not installed")

from vqcodec.choosing.rate_control import psnr_of


def addresses(page: str) -> list[str]:
    return re.findall(r'<img src="(data:[^"]+)"', page)


def opened(address: str) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def test_a_picture_and_a_file(
    run: Run, tiny_model: Path, astronaut: Path, chelsea: Path, tmp_path: Path
) -> None:
    model = ["--model", tiny_model, "--effort", "1"]
    assert run("compress", astronaut, "a.vqz", *model).returncode == 0
    arguments = ["gallery", chelsea, "a.vqz", "--out", "page.html", *model, "--max-side", "200"]
    result = run(*arguments, "--quality", "1", "--quality", "3", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    page = (tmp_path / "page.html").read_text()
    assert found["bytes"] == len(page.encode())
    picture, restored = found["pictures"]
    labels = [each["label"] for each in picture["versions"]]
    assert labels == ["original", "quality 1", "quality 3"]
    assert (picture["width"], picture["height"]) == (200, 133)
    assert picture["versions"][0]["bytes"] is None  # the file's are those of another size
    assert [each["label"] for each in restored["versions"]] == ["restored"]
    assert restored["versions"][0]["bytes"] == (tmp_path / "a.vqz").stat().st_size

    pixels = [np.asarray(opened(each).convert("RGB")) for each in addresses(page)]
    assert [each.shape[:2] for each in pixels] == [(133, 200)] * 3 + [(96, 128)]
    for version, shown in zip(picture["versions"][1:], pixels[1:3], strict=True):
        assert version["psnr"] == pytest.approx(psnr_of(pixels[0], shown))
        assert version["bpp"] == 8 * version["bytes"] / (200 * 133)
    # The profile is sRGB, which needs none.
    assert all("icc_profile" not in opened(each).info for each in addresses(page)[:3])


def test_numbers_are_printed(run: Run, tiny_model: Path, astronaut: Path) -> None:
    arguments = ["gallery", astronaut, "--out", "page.html", "--model", tiny_model]
    result = run(*arguments, "--quality", "2", "--effort", "1")
    rows = [re.split(r"  +", line) for line in result.stdout.decode().splitlines()]
    assert [name for name, _ in rows] == [
        f"{astronaut.name}, original",
        f"{astronaut.name}, quality 2",
        "page",
    ]
    assert re.fullmatch(r"\d+ B \([\d.]+ bpp\), [\d.]+ dB", rows[1][1])
    again = run(*arguments)
    assert again.returncode == 1
    assert b"use --force" in again.stderr


def test_a_folder_of_both(run: Run, tiny_model: Path, astronaut: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.png").write_bytes(astronaut.read_bytes())
    (folder / "notes.txt").write_text("no picture")
    model = ["--model", tiny_model, "--effort", "1"]
    assert run("compress", astronaut, "folder/a.vqz", *model).returncode == 0
    result = run("gallery", folder, "--out", "page.html", *model, "--quality", "1", "--json")
    assert [each["name"] for each in json.loads(result.stdout)["pictures"]] == ["a.vqz", "b.png"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("empty", None, "holds no pictures"), ("a.vqz", b"\x89VQZ", "a.vqz: ")],
)
def test_what_cannot_be_shown_is_named(
    run: Run, tiny_model: Path, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    result = run("gallery", name, "--out", "page.html", "--model", tiny_model)
    assert result.returncode == 1
    assert words in result.stderr.decode()
    assert not (tmp_path / "page.html").exists()
