"""`train` and `export`: options reach the library, and what is left out keeps its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vqcodec.training.autoencoder
import vqcodec.training.export
import vqcodec.training.indices
import vqcodec.training.prior
import vqcodec.training.synthesis
import vqcodec.training.system
from vqcodec.cli import main
from vqcodec.training.settings import (
    AutoencoderTraining,
    Extraction,
    PriorTraining,
    SystemTraining,
    resolve,
)


class Recorder:
    """Stands for a library function that would take hours; keeps what it was called with."""

    def __init__(self) -> None:
        self.arguments: tuple[Any, ...] = ()

    def __call__(self, *arguments: Any) -> str:
        self.arguments = arguments
        return "the result"


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def invoke(*arguments: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == "the result\n"


def test_train_autoencoder(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    monkeypatch.setattr(vqcodec.training.autoencoder, "train", recorder)
    sources = [(Path("a"), 1.0), (Path("b.tar"), 0.5)]
    images = ["--images", "a", "--images", "b.tar=0.5"]
    invoke("train", "autoencoder", "folder", *images)
    assert recorder.arguments == (AutoencoderTraining(output=Path("folder"), sources=sources),)
    more = ["--minutes", "1.5", "--crop", "64", "--compile", "--workers", "0", "--cache", "9"]
    invoke("train", "autoencoder", "folder", *images, *more)
    expected = AutoencoderTraining(
        output=Path("folder"),
        sources=sources,
        minutes=1.5,
        crop=64,
        compile=True,
        workers=0,
        cache=9,
    )
    assert recorder.arguments == (expected,)


def test_train_indices(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    monkeypatch.setattr(vqcodec.training.indices, "extract", recorder)
    invoke("train", "indices", "file", "--autoencoder", "c", "--images", "a", "--count", "7")
    expected = Extraction(
        output=Path("file"), autoencoder=Path("c"), sources=[(Path("a"), 1.0)], count=7
    )
    assert recorder.arguments == (expected,)


def test_train_prior(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    monkeypatch.setattr(vqcodec.training.prior, "train", recorder)
    files = ["--autoencoder", "c", "--indices", "i", "--indices", "j"]
    invoke("train", "prior", "folder", *files, "--level", "0", "--attention-heads", "0")
    expected = PriorTraining(
        output=Path("folder"),
        autoencoder=Path("c"),
        indices=[Path("i"), Path("j")],
        level=0,
        attention_heads=0,
    )
    assert recorder.arguments == (expected,)


def test_train_system(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    monkeypatch.setattr(vqcodec.training.system, "train", recorder)
    asked = ["--images", "a", "--preset", "vqvae2-mnist", "--model-id", "m", "--minutes", "2"]
    invoke("train", "system", "folder", *asked)
    settings = {"sources": [(Path("a"), 1.0)], "preset": "vqvae2-mnist", "model_id": "m"}
    expected = resolve(SystemTraining, output=Path("folder"), minutes=2.0, **settings)
    assert recorder.arguments == (expected,)
    assert expected.crop == 32


@pytest.mark.parametrize("share", ["0", "1"])
def test_a_system_gives_every_step_some_minutes(share: str) -> None:
    asked = ["--images", "a", "--preset", "x", "--model-id", "m", "--minutes", "2"]
    arguments = ["train", "system", "folder", *asked, "--autoencoder-share", share]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "--autoencoder-share" in result.stderr


def test_export(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    monkeypatch.setattr(vqcodec.training.export, "export", recorder)
    priors = ["--prior", "p0", "--prior", "p1"]
    invoke("export", "w.safetensors", "--autoencoder", "c", *priors, "--model-id", "a-1")
    expected = (Path("c"), (Path("p0"), Path("p1")), Path("w.safetensors"), "a-1", {})
    assert recorder.arguments == expected


def test_export_of_a_synthesis(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    monkeypatch.setattr(vqcodec.training.synthesis, "export", recorder)
    invoke("export", "n.safetensors", "--synthesis", "c", "--model", "a-1")
    assert recorder.arguments == (Path("c"), "a-1", Path("n.safetensors"))


@pytest.mark.parametrize(
    "options",
    [
        ["--synthesis", "c"],
        ["--synthesis", "c", "--model", "a", "--model-id", "b"],
        ["--synthesis", "c", "--model", "a", "--prior", "p"],
        ["--autoencoder", "c", "--prior", "p"],
        ["--autoencoder", "c", "--model-id", "a"],
        ["--autoencoder", "c", "--prior", "p", "--model-id", "a", "--model", "b"],
        [],
    ],
)
def test_export_is_of_one_thing(options: list[str]) -> None:
    result = CliRunner().invoke(main, ["export", "w.safetensors", *options])
    assert result.exit_code == 2
    assert not Path("w.safetensors").exists()


def test_export_keeps_an_existing_file(tmp_path: Path) -> None:
    target = tmp_path / "w.safetensors"
    target.write_bytes(b"precious")
    arguments = ["export", str(target), "--autoencoder", "c", "--prior", "p", "--model-id", "a"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "autoencoder", "folder", "--images", "missing"],
        ["train", "autoencoder", "folder", "--images", "a=heavy"],
        ["train", "autoencoder", "folder", "--images", "a", "--preset", "nonsense"],
        ["train", "indices", "file", "--autoencoder", "missing", "--images", "a"],
        ["train", "prior", "folder", "--autoencoder", "missing", "--indices", "i", "--level", "0"],
        [
            *["train", "system", "folder", "--images", "a", "--preset", "tiny", "--minutes", "1"],
            *["--model-id", "a"],
        ],
        ["export", "w", "--autoencoder", "missing", "--prior", "p", "--model-id", "a"],
        ["export", "w", "--synthesis", "missing", "--model", "hvq-photo-2"],
        ["train", "synthesis", "out", "--images", "a", "--model", "hvq-photo-2", "--lpips", "none"],
    ],
)
def test_unusable_input_is_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("vqcodec: error: ")
    assert result.stderr.count("\n") == 1
