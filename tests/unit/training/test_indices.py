from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import (
    extraction_of,
    rewritten,
)

from vqcodec.errors import CodecError
from vqcodec.training.export import (
    load_autoencoder,
)
from vqcodec.training.indices import IndexSampler, extract, read_classes


def test_indices_are_those_of_a_decode(extracted: Path) -> None:
    tensors = load_file(extracted)
    assert tensors["levels.0"].shape == (20, 2, 4, 4)
    assert tensors["levels.1"].shape == (20, 2, 8, 8)
    assert set(tensors["quality"].tolist()) == {0, 1}


def test_the_index_sampler_is_seeded(extracted: Path) -> None:
    sampler = IndexSampler([extracted])
    quality, label, levels = sampler.draw(3, [7])
    again_quality, again_label, again = sampler.draw(3, [7])
    assert torch.equal(quality, again_quality)
    assert torch.equal(label, again_label)
    assert all(torch.equal(a, b) for a, b in zip(levels, again, strict=True))


def test_levels_of_several_files_stay_together(trained: Path, tmp_path: Path) -> None:
    files = [
        extract(extraction_of(trained, tmp_path / f"{seed}", count=5, crop=32, seed=seed))
        for seed in (0, 1)
    ]
    stored = [load_file(path) for path in files]
    quality, _, levels = IndexSampler(files).draw(12, [3])
    for n in range(12):
        assert any(
            quality[n] == tensors["quality"][m]
            and all(
                torch.equal(maps[n], tensors[f"levels.{level}"][m].long())
                for level, maps in enumerate(levels)
            )
            for tensors in stored
            for m in range(5)
        )


def test_files_of_another_kind_are_an_error(trained: Path, extracted: Path) -> None:
    with pytest.raises(CodecError, match=r"indices\.safetensors: is no checkpoint of"):
        load_autoencoder(extracted)
    with pytest.raises(CodecError, match=r"checkpoint\.safetensors: was not written by"):
        IndexSampler([trained])


def test_no_indices_is_an_error() -> None:
    with pytest.raises(CodecError, match="train indices"):
        IndexSampler([])


@pytest.mark.parametrize("text", ["", "{}", '[{"wnid": "x"}]', '[{"wnid": "x", "name": "x"}]'])
def test_classes_that_fit_no_folder_are_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(CodecError, match=r"classes\.json"):
        read_classes(str(path), Counter({"cat": 2}))


def test_a_class_has_as_many_images_as_in_the_file_with_most(
    extracted: Path, tmp_path: Path
) -> None:
    files = [
        rewritten(extracted, tmp_path / str(n), classes=[["cat", "cat", n], ["dog", "dog", 9 - n]])
        for n in (3, 5)
    ]
    assert IndexSampler(files).classes == [("cat", "cat", 5), ("dog", "dog", 6)]
