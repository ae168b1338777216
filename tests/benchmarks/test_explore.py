"""The benchmark that compares short trainings: what its variants are, and a quick run."""

from __future__ import annotations

from pathlib import Path

import explore
import pytest
from click.testing import CliRunner

from vqcodec.training import checkpoint
from vqcodec.training.presets import PRESETS, TINY, WIDE


def test_variants_are_what_they_are_called() -> None:
    variants = explore.VARIANTS
    for count in (64, 256):
        books = [book for level in variants[f"codes-{count}"].levels for book in level.codebooks]
        assert len(books) == sum(len(level.codebooks) for level in WIDE.levels)
        assert {book.num_embeddings for book in books} == {count}
    for name in ("strides-16-8", "strides-32-16-8-4"):
        assert variants[name].strides == tuple(map(int, name.split("-")[1:]))
    for level, narrow, wider, deeper in zip(
        WIDE.levels, *(variants[name].levels for name in ("narrow", "wider", "deeper")), strict=True
    ):
        assert narrow.channels < level.channels < wider.channels
        assert narrow.synthesis_blocks == level.synthesis_blocks < deeper.synthesis_blocks
    finest = {name: variant.levels[-1].codebooks for name, variant in variants.items()}
    sizes = {name: [book.embedding_dim for book in books] for name, books in finest.items()}
    assert sizes["largest-first"][:7] == sorted(sizes["wide"][:7], reverse=True)
    assert sum(sizes["smaller-fine"][:11]) == sum(sizes["wide"][:7])
    assert max(sizes["smaller-fine"][:11]) < max(sizes["wide"][:7])
    assert finest["largest-first"][7:] == finest["smaller-fine"][11:] == finest["wide"][7:]
    assert variants["choice-1"].choice_weight < WIDE.choice_weight


def test_it_runs(tmp_path: Path, astronaut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(astronaut.read_bytes())
    monkeypatch.setitem(explore.VARIANTS, "narrow", TINY)
    monkeypatch.setitem(PRESETS, "narrow", PRESETS["wide"])  # taken away again afterwards
    output = tmp_path / "narrow"
    asked = ["narrow", str(output), "--images", str(tmp_path / "images"), "--steps", "2"]
    result = CliRunner().invoke(explore.main, [*asked, "--crop", "32", "--batch", "2"])
    assert result.exit_code == 0, result.output
    state = checkpoint.load_state(output / "checkpoint.safetensors")
    assert state["step"] == 2
    assert state["config"]["lmbdas"] == list(TINY.lmbdas)
    assert len(state["config"]["levels"]) == len(TINY.levels)
