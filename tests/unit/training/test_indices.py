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
from vqcodec.training import checkpoint
from vqcodec.training.export import (
    fingerprint,
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


@pytest.mark.parametrize(
    ("power", "shares"), [(1.0, (0.9, 0.1)), (0.5, (0.75, 0.25)), (0.0, (0.5, 0.5))]
)
def test_a_class_is_drawn_by_a_power_of_its_examples(
    power: float, shares: tuple[float, float], extracted: Path, tmp_path: Path
) -> None:
    tensors, state = checkpoint.load(extracted)
    labels = torch.tensor([1] * 18 + [2] * 2)
    classes = [["cat", "cat", 18], ["dog", "dog", 2]]
    checkpoint.save(tmp_path / "two", {**tensors, "label": labels}, {**state, "classes": classes})
    sampler = IndexSampler([tmp_path / "two"], class_power=power)
    _, label, levels = sampler.draw(20_000, [0])
    for n, share in enumerate(shares, 1):
        assert float((label == n).double().mean()) == pytest.approx(share, abs=0.015)
    # All of its examples come alike, with their own indices.
    numbers = [
        torch.nonzero((tensors["levels.0"].long() == maps).flatten(1).all(1)).flatten()[0]
        for maps in levels[0][:2000]
    ]
    found = torch.stack(numbers)[label[:2000] == 2]
    counts = torch.bincount(found, minlength=20)[18:]
    assert counts.min() > 0.7 * counts.max()


def test_indices_of_a_weights_files_autoencoder(tiny_model: Path, tmp_path: Path) -> None:
    extraction = extraction_of(tiny_model, tmp_path / "indices", count=3, crop=32)
    sampler = IndexSampler([extract(extraction)], fingerprint(load_autoencoder(tiny_model)))
    assert [maps.shape for maps in sampler.levels] == [(3, 2, 1, 1), (3, 3, 2, 2), (3, 2, 4, 4)]
