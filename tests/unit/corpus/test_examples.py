"""The examples of CORPORA.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import corpora
import pytest

from vqcodec.codec import compress
from vqcodec.image import load

DOCUMENT = Path(__file__).parents[3] / "CORPORA.md"
CONTENT = corpora.pictures(1)["000.png"]


def example(word: str) -> str:
    """The only one that has a word."""
    found = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [each for each in found if word in each]
    return str(code)


def expected(model: Path) -> bytes:
    return compress(load(CONTENT), quality=2, model=model).data


def test_tokenizer(tiny_model: Path) -> None:
    names: dict[str, Any] = {"MODEL": str(tiny_model)}
    exec(example("Tokenizer"), names)
    assert [each.shape for each in names["levels"]] == [
        (2, 2, 2, 2),
        (2, 4, 4, 3),
        (2, 8, 8, 2),
    ]
    assert names["restored"].shape == (2, 64, 64, 3)
    assert names["bits"].shape == (2, 3)


def test_datasets(tiny_model: Path) -> None:
    pytest.importorskip("datasets", reason="a test's requirement")
    names: dict[str, Any] = {"MODEL": str(tiny_model), "CONTENT": CONTENT}
    exec(example("import datasets"), names)
    good, bad = names["files"]
    assert good["output"] == expected(tiny_model)
    assert (good["name"], good["error"]) == ("a", "")
    assert (bad["name"], bad["output"], bad["width"]) == ("b", b"", 0)
    assert bad["error"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray(tiny_model: Path, environment: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="extra corpus")
    given = f"MODEL, CONTENT = {str(tiny_model)!r}, {CONTENT!r}\n"
    check = (
        "\nrows = {row['name']: row for row in rows}\n"
        f"assert bytes(rows['a']['output']) == {expected(tiny_model)!r}\n"
        "assert not rows['a']['error'] and rows['b']['error'] and not rows['b']['output']\n"
    )
    (tmp_path / "example.py").write_text(given + example("import ray") + check)
    patience = {"RAY_raylet_start_wait_time_s": "300", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=environment | patience,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_transformer_that_learns_tokens(
    corpus: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="extra corpus")
    corpora.write(tmp_path / "photos", corpora.pictures(20))
    corpus("tokenize", "photos", "tokens", format="parquet", pixels=(16, 16), shard_size=7)
    names: dict[str, Any] = {"TOKENS": str(tmp_path / "tokens"), "SECONDS": 0}
    exec(example("class Transformer"), names)
    assert "nats a token" in capsys.readouterr().out
    assert names["losses"][-1] < names["losses"][0]
    assert len(names["tokens"]) == 4


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # it leaves files open
def test_webdataset_and_datasets_read_what_is_written(corpus: Any, tmp_path: Path) -> None:
    webdataset: Any = pytest.importorskip("webdataset", reason="a test's requirement")
    datasets: Any = pytest.importorskip("datasets", reason="a test's requirement")
    corpora.write(tmp_path / "photos", corpora.pictures(9))
    corpus("compress", "photos", "small", format="webdataset", lossless="never", effort=1)
    samples = list(webdataset.WebDataset(str(tmp_path / "small/00000.tar"), shardshuffle=False))
    assert [each["__key__"] for each in samples][:2] == ["000", "003"]
    assert all(each["vqz"][:4] == b"\x89VQZ" for each in samples)
    assert samples[-1]["cls"] == b"small"
    corpus("tokenize", "small", "tokens", format="parquet")
    read = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "tokens/*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert len(read) == 9
    assert {"key", "width", "height", "class", "quality", "level_0", "level_2"} <= set(read[0])
