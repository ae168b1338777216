"""`info`, `verify` and `models`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Run

import vqcodec.cli.models
from vqcodec.cli import main
from vqcodec.container import EXTRA_ALPHA, Container, Header, pack, unpack
from vqcodec.registry import MODELS, Entry

HEADER = Header(
    width=100,
    height=50,
    grey=False,
    model_id="no-such-model",
    weights_hash=bytes.fromhex("0123456789abcdef"),
    tile=64,
    quality=3,
    levels=3,
)


@pytest.fixture
def vqz(tmp_path: Path) -> Path:
    """A well-formed file of a model that nobody has: 3 levels, 2 tiles, alpha."""
    path = tmp_path / "a.vqz"
    sections = tuple((bytes(4 * level), bytes(8)) for level in range(HEADER.levels))
    path.write_bytes(pack(Container(HEADER, {EXTRA_ALPHA: b"PNG", 9: b"?"}, sections, 7, True)))
    return path


def test_info_json(vqz: Path) -> None:
    result = CliRunner().invoke(main, ["info", "--json", str(vqz)])
    assert result.exit_code == 0
    size = vqz.stat().st_size
    assert json.loads(result.stdout) == [
        {
            "file": str(vqz),
            "bytes": size,
            "bpp": pytest.approx(8 * size / 5000),
            "width": 100,
            "height": 50,
            "grey": False,
            "lossless": False,
            "model": "no-such-model",
            "weights_hash": "0123456789abcdef",
            "quality": 3,
            "tile": 64,
            "tiles": 2,
            "levels": 3,
            "level_bytes": [8, 12, 16],
            "extras": {"alpha": 3, "kind 9": 1},
            "complete": True,
        }
    ]


def test_info_as_text(vqz: Path) -> None:
    result = CliRunner().invoke(main, ["info", str(vqz)])
    assert result.exit_code == 0
    for text in ["100x50 RGB", "no-such-model", "0123456789abcdef", "8 12 16", "alpha 3 bytes"]:
        assert text in result.stdout
    assert "complete      yes" in result.stdout


def test_info_of_a_file_cut_short_tells_how_many_levels(vqz: Path) -> None:
    data = vqz.read_bytes()
    vqz.write_bytes(data[:-9])
    result = CliRunner().invoke(main, ["info", str(vqz)])
    assert result.exit_code == 0
    assert "no, cut short after 2 of 3 levels" in result.stdout
    result = CliRunner().invoke(main, ["info", "--json", str(vqz)])
    (description,) = json.loads(result.stdout)
    assert description["complete"] is False
    assert description["level_bytes"] == [8, 12]


def test_info_goes_on_after_a_bad_file(vqz: Path) -> None:
    result = CliRunner().invoke(main, ["info", "--json", "missing.vqz", str(vqz)])
    assert result.exit_code == 1
    assert result.stderr.startswith("vqcodec: error: missing.vqz: no such file")
    assert [description["file"] for description in json.loads(result.stdout)] == [str(vqz)]


def test_info_of_standard_input(vqz: Path) -> None:
    result = CliRunner().invoke(main, ["info", "-"], input=vqz.read_bytes())
    assert result.exit_code == 0
    assert "100x50 RGB" in result.stdout


def test_verify_checks_without_the_weights_what_it_can(vqz: Path) -> None:
    result = CliRunner().invoke(main, ["verify", str(vqz)])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{vqz}: ok, checksums; indices not decoded: ")
    result = CliRunner().invoke(main, ["verify", "--quick", str(vqz)])
    assert result.stdout == f"{vqz}: ok, checksums\n"


def test_verify_says_a_line_per_file(vqz: Path, tmp_path: Path) -> None:
    data = bytearray(vqz.read_bytes())
    data[-20] ^= 1
    damaged, cut, text = tmp_path / "damaged.vqz", tmp_path / "cut.vqz", tmp_path / "text.vqz"
    damaged.write_bytes(data)
    cut.write_bytes(data[:-30])
    text.write_text("text")
    names = [str(path) for path in (damaged, cut, vqz, text, tmp_path / "missing.vqz")]
    result = CliRunner().invoke(main, ["verify", "--quick", *names])
    assert result.exit_code == 1
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    for name, line, state in zip(names, lines, ["BAD", "BAD", "ok", "BAD", "BAD"], strict=True):
        assert line.startswith(f"{name}: {state}, ")
        assert line.count(name) == 1


def test_verify_decodes_the_indices(
    run: Run, tiny_model: Path, astronaut: Path, tmp_path: Path
) -> None:
    assert run("compress", astronaut, "a.vqz", "--model", tiny_model).returncode == 0
    result = run("verify", "a.vqz", "--model", tiny_model)
    assert (result.returncode, result.stdout) == (0, b"a.vqz: ok, checksums and indices\n")

    # Sound as a container, but the indices are not those that were compressed.
    container = unpack((tmp_path / "a.vqz").read_bytes())
    assert container.indices_crc is not None
    changed = dataclasses.replace(container, indices_crc=container.indices_crc ^ 1)
    (tmp_path / "b.vqz").write_bytes(pack(changed))
    assert run("verify", "--quick", "b.vqz").returncode == 0
    result = run("verify", "b.vqz", "--model", tiny_model)
    assert result.returncode == 1
    assert result.stdout.startswith(b"b.vqz: BAD, ")
    assert result.stderr == b""


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Entry, Entry]:
    """Two registered models, the weights of the first present."""
    content = b"weights"
    present = Entry("test-a", "a.safetensors", hashlib.sha256(content).hexdigest(), "The first.")
    missing = Entry("test-b", "b.safetensors", "0" * 64, "The second.")
    (tmp_path / present.filename).write_bytes(content)
    monkeypatch.setattr(vqcodec.cli.models, "weights_directory", lambda: tmp_path)
    for model in (present, missing):
        monkeypatch.setitem(MODELS, model.model_id, model)
    return present, missing


def test_models_json(registered: tuple[Entry, Entry]) -> None:
    result = CliRunner().invoke(main, ["models", "--json"])
    assert result.exit_code == 0
    listed = {model["model_id"]: model for model in json.loads(result.stdout)}
    present, missing = registered
    assert listed["test-a"] == {
        "model_id": "test-a",
        "default": False,
        "filename": "a.safetensors",
        "bytes": 7,
        "sha256": present.sha256,
        "present": True,
        "summary": "The first.",
    }
    assert listed["test-b"]["sha256"] == missing.sha256
    assert listed["test-b"]["present"] is False
    assert listed["test-b"]["bytes"] is None


def test_models_as_text(registered: tuple[Entry, Entry]) -> None:
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert registered[0].sha256[:16] in lines["test-a"]
    assert "present" in lines["test-a"]
    assert "missing" in lines["test-b"]
    assert lines["test-b"].endswith("The second.")
