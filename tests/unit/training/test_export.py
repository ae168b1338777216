from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_autoencoder, tiny_priors
from tiny_training import (
    FIXTURES,
    PAPERS,
    autoencoder_training,
    extraction_of,
    prior_training,
    rows,
    tiny_paper,
)

from vqcodec import codec, image
from vqcodec.drawing.sampling import sample
from vqcodec.errors import CodecError
from vqcodec.image import Image
from vqcodec.models.vqvae import VQVAE
from vqcodec.training.autoencoder import train as train_autoencoder
from vqcodec.training.export import (
    export,
    load_autoencoder,
    load_prior,
    write_weights,
)
from vqcodec.training.indices import IndexSampler, extract
from vqcodec.training.presets import PRESETS
from vqcodec.training.prior import train as train_prior
from vqcodec.weights_file import load


def priors_of(
    autoencoder: Path, indices: Path, folder: Path, levels: int, **changes: object
) -> list[Path]:
    return [
        train_prior(prior_training(autoencoder, indices, folder / str(level), level, **changes))
        for level in range(levels)
    ]


def test_trained_priors_export_and_run(trained: Path, extracted: Path, tmp_path: Path) -> None:
    priors = priors_of(trained, extracted, tmp_path, 2, steps=60)
    for path in priors:
        bits = [row["bits"] for row in rows(path.parent / "log.csv")]
        assert np.mean(bits[-10:]) < np.mean(bits[:10])
    weights = tmp_path / "mine.safetensors"
    export(trained, priors, weights, "mine")
    picture = image.load(FIXTURES / "astronaut-crop.png")
    compressed = codec.compress(picture, model=weights)
    restored = codec.decompress(compressed.data, model=weights)
    assert restored.pixels.shape == picture.pixels.shape
    error = np.mean((restored.pixels.astype(float) - picture.pixels) ** 2)
    assert error < 0.2 * picture.pixels.var()


@pytest.mark.parametrize("kind", PAPERS)
def test_a_papers_system_goes_from_images_to_a_model(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "paper", tiny_paper(kind))
    trained = train_autoencoder(autoencoder_training(tmp_path / "ae", 2, preset="paper", crop=32))
    indices = extract(extraction_of(trained, tmp_path / "indices", count=8, crop=32))
    sizes = {"blocks": 1, "steps": 3, "attention_heads": 0, "quantized_from": 0.3}
    priors = priors_of(trained, indices, tmp_path, len(PAPERS[kind].levels), **sizes)
    weights = tmp_path / "mine.safetensors"
    export(trained, priors, weights, "mine")
    assert isinstance(load(weights).autoencoder, VQVAE)
    rng = np.random.default_rng(1)
    picture = Image(rng.integers(0, 256, (45, 37, 3), np.uint8), grey=False)
    compressed = codec.compress(picture, model=weights)
    codec.verify(compressed.data, model=weights)  # the decoded indices' checksum
    assert codec.decompress(compressed.data, model=weights).pixels.shape == (45, 37, 3)
    (drawn,) = sample(32, 32, model=weights, seed=1)
    assert drawn.pixels.shape == (32, 32, 3)


def test_classes_go_from_the_folders_to_the_weights(trained: Path, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        shutil.copy(FIXTURES / "astronaut-crop.png", tmp_path / "photos" / label)
    names = tmp_path / "classes.json"
    names.write_text(
        '[{"wnid": "dog", "name": "dog, hound"}, {"wnid": "cow", "name": "cow"}, '
        '{"wnid": "cat", "name": "cat"}]'
    )
    extraction = extraction_of(
        trained,
        tmp_path / "indices.safetensors",
        sources=[(tmp_path / "photos", 1.0)],
        count=16,
        crop=32,
        classes=str(names),
    )
    sampler = IndexSampler([extract(extraction)])
    assert set(sampler.label.tolist()) == {1, 3}
    expected = [("dog", "dog, hound", 1), ("cow", "cow", 0), ("cat", "cat", 1)]
    assert sampler.classes == expected
    changes = {"label_dropout": 0.5, "quantized_from": 0.3}
    priors = priors_of(trained, extraction.output, tmp_path, 2, **changes)
    weights = tmp_path / "mine.safetensors"
    export(trained, priors, weights, "mine")
    model = load(weights)
    assert model.classes == tuple(expected)
    assert model.side == 32
    assert all(len(prior.context.classes) == 4 for prior in model.priors)


def test_export_refuses_priors_that_do_not_belong(
    trained: Path, extracted: Path, tmp_path: Path
) -> None:
    priors = priors_of(trained, extracted, tmp_path, 2, steps=3)
    with pytest.raises(CodecError, match="is of level 1, not 0"):
        export(trained, priors[::-1], tmp_path / "x.safetensors", "x")
    packed = load_autoencoder(trained).half().float()  # as weights files keep it
    for path in priors:
        load_prior(path, packed)
    other = train_autoencoder(autoencoder_training(tmp_path / "other", 2, seed=5))
    with pytest.raises(CodecError, match="trained on another autoencoder"):
        export(other, priors, tmp_path / "x.safetensors", "x")
    (early,) = priors_of(trained, extracted, tmp_path / "early", 1, steps=3, quantized_from=1.0)
    with pytest.raises(CodecError, match="train it to the end"):
        export(trained, [early, priors[1]], tmp_path / "x.safetensors", "x")
    assert not (tmp_path / "x.safetensors").exists()


def test_one_prior_per_level_is_asked_for(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="one per level"):
        export(trained, [], tmp_path / "x.safetensors", "x")


def test_a_wrong_model_id_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="no model id"):
        write_weights(tmp_path / "x.safetensors", "Not An Id", tiny_autoencoder(), [])
    assert not any(tmp_path.iterdir())


def test_equal_weights_make_equal_files(tmp_path: Path) -> None:
    autoencoder = tiny_autoencoder()
    priors = tiny_priors(autoencoder)
    hashes = {
        write_weights(tmp_path / f"{n}.safetensors", "x", autoencoder, priors) for n in range(2)
    }
    assert len(hashes) == 1


def test_a_model_has_shapings_of_its_own(trained: Path, extracted: Path, tmp_path: Path) -> None:
    priors = priors_of(trained, extracted, tmp_path, 2, steps=3, quantized_from=0.3)
    weights = tmp_path / "mine.safetensors"
    export(trained, priors, weights, "mine", {"temperature": [0.9, 1.0], "top_p": [0.95, 1.0]})
    expected = ({"temperature": 0.9, "top_p": 0.95}, {"temperature": 1.0, "top_p": 1.0})
    assert load(weights).shapings == expected
    for wrong, message in (
        ({"temperature": [0.9]}, "1 values of temperature for 2 levels; give one per level"),
        ({"top_p": [1.0, 2.0]}, "cannot sample with top-p 2.0; give one above 0, up to 1"),
    ):
        with pytest.raises(CodecError, match=message):
            export(trained, priors, weights, "mine", wrong)
    assert load(weights).shapings == expected
