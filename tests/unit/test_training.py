from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file
from tiny import GROUPED, tiny_autoencoder, tiny_priors

from vqcodec import codec, image
from vqcodec.errors import CodecError
from vqcodec.photos import CropSampler, parse_source, read_photos
from vqcodec.training import checkpoint
from vqcodec.training.autoencoder import PRESETS, AutoencoderTraining
from vqcodec.training.autoencoder import train as train_autoencoder
from vqcodec.training.checkpoint import load_state
from vqcodec.training.export import (
    export,
    fingerprint,
    load_autoencoder,
    load_prior,
    write_weights,
)
from vqcodec.training.indices import Extraction, IndexSampler, extract, read_classes
from vqcodec.training.loop import Processes, Schedule, make_optimizer, run
from vqcodec.training.optimizer import Muon
from vqcodec.training.prior import PriorTraining
from vqcodec.training.prior import train as train_prior
from vqcodec.training.system import SystemTraining
from vqcodec.training.system import train as train_system
from vqcodec.weights_file import load

FIXTURES = Path(__file__).parents[1] / "fixtures"


def needs_compiler(test: Callable[..., None]) -> Callable[..., None]:
    """Of torch.compile, which also warns of what it does itself."""
    absent = shutil.which("c++") is None
    skip = pytest.mark.skipif(absent, reason="torch.compile needs a C++ compiler")
    return cast("Callable[..., None]", pytest.mark.filterwarnings("ignore")(skip(test)))


def autoencoder_training(output: Path, steps: int, **changes: object) -> AutoencoderTraining:
    settings: dict[str, object] = {
        "sources": [(FIXTURES, 1.0)],
        "output": output,
        "preset": "tiny",
        "steps": steps,
        "batch": 2,
        "crop": 64,
        "start_crops": 20,
        "restart_every": 2,
        "log_every": 1,
        "device": "cpu",
    }
    return AutoencoderTraining(**(settings | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_autoencoder(autoencoder_training(tmp_path_factory.mktemp("ae"), 30))


def extraction_of(trained: Path, output: Path, **changes: object) -> Extraction:
    settings: dict[str, object] = {
        "autoencoder": trained,
        "sources": [(FIXTURES, 1.0)],
        "output": output,
        "device": "cpu",
    }
    return Extraction(**(settings | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def extracted(trained: Path) -> Path:
    output = trained.parent / "indices.safetensors"
    return extract(extraction_of(trained, output, count=20, crop=64))


def prior_training(trained: Path, extracted: Path, output: Path, level: int) -> PriorTraining:
    return PriorTraining(
        autoencoder=trained,
        indices=[extracted],
        output=output,
        level=level,
        steps=150,
        batch=4,
        learning_rate=5e-3,
        channels=16,
        blocks=2,
        context_blocks=1,
        attention_heads=2 if level == 0 else 0,
        head_channels=16,
        log_every=1,
        device="cpu",
    )


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def test_training_lowers_the_loss(trained: Path) -> None:
    losses = [row["loss"] for row in rows(trained.parent / "log.csv")]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])


@pytest.mark.parametrize(
    ("optimizer", "preset"), [("adamw", "tiny"), ("muon", "tiny"), ("muon", "grouped")]
)
def test_a_resumed_run_ends_where_an_unbroken_one_does(
    tmp_path: Path, optimizer: str, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "grouped", GROUPED)

    def train(folder: str, steps: int) -> Path:
        # The schedule depends on the step alone when its decay starts at the end of both runs.
        return train_autoencoder(
            autoencoder_training(
                tmp_path / folder, steps, decay=1e-9, optimizer=optimizer, preset=preset
            )
        )

    whole = train("whole", 6)
    half = train("parts", 3)
    shutil.copy(half, tmp_path / "half.safetensors")
    with (half.parent / "log.csv").open("a") as log:
        log.write("4" + ",0" * 10 + "\n")  # as left by a run that broke off later
    parts = train("parts", 6)
    expected, found = load_file(whole), load_file(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    earlier = load_file(tmp_path / "half.safetensors")
    assert any(not torch.equal(earlier[name], found[name]) for name in found)
    assert [row["step"] for row in rows(parts.parent / "log.csv")] == [1, 2, 3, 4, 5, 6]


def test_optimizers_have_the_settings_of_the_run(tmp_path: Path) -> None:
    settings = {"learning_rate": 3e-3, "betas": (0.8, 0.9), "weight_decay": 0.01}
    model = tiny_autoencoder()
    for name, kind in (("adamw", torch.optim.AdamW), ("muon", Muon)):
        config = autoencoder_training(tmp_path, 1, optimizer=name, **settings)
        found = make_optimizer(config, model)
        assert type(found) is kind
        moved = [id(each) for group in found.param_groups for each in group["params"]]
        assert sorted(moved) == sorted(map(id, model.parameters()))
        for group in found.param_groups:
            assert (group["lr"], group["betas"], group["weight_decay"]) == tuple(settings.values())
    with pytest.raises(CodecError, match="'sgd'; there are: adamw, muon"):
        make_optimizer(autoencoder_training(tmp_path, 1, optimizer="sgd"), model)


def test_muon_lowers_the_loss_too(tmp_path: Path) -> None:
    config = autoencoder_training(tmp_path, 30, optimizer="muon")
    losses = [row["loss"] for row in rows(train_autoencoder(config).parent / "log.csv")]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])


def test_a_checkpoint_of_another_architecture_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained, tmp_path / "checkpoint.safetensors")
    with pytest.raises(CodecError, match="another architecture"):
        train_autoencoder(autoencoder_training(tmp_path, 40, preset="photo"))


def test_an_unknown_preset_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match=r"there are: photo, .*tiny"):
        train_autoencoder(autoencoder_training(tmp_path, 1, preset="huge"))


def test_two_processes_hold_the_same_codebooks_and_weights(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from vqcodec.training import loop\n"
        "from vqcodec.training.autoencoder import AutoencoderTraining, train\n"
        "from safetensors.torch import save_file\n"
        "fixtures, output = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "sys.path.append(str(fixtures.parent))\n"
        "from tiny import GROUPED\n"
        "original = loop.run\n"
        "def run(training, processes, model, *rest):\n"
        "    result = original(training, processes, model, *rest)\n"
        "    state = {name: x.clone().contiguous() for name, x in model.state_dict().items()}\n"
        "    save_file(state, output / f'rank-{processes.rank}.safetensors')\n"
        "    return result\n"
        "import vqcodec.training.autoencoder as module\n"
        "module.run = run\n"
        "module.PRESETS['grouped'] = GROUPED\n"
        # One image each: often, one process has none of the qualities that use a codebook.
        "train(AutoencoderTraining(sources=[(fixtures, 1.0)], output=output, preset='grouped',\n"
        "      steps=4, batch=1, crop=64, start_crops=20, restart_every=2, device='cpu'))\n"
    )
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", script, FIXTURES, tmp_path),
        ],
        check=True,
        env=environment,
        timeout=240,
        capture_output=True,
    )
    first, second = (load_file(tmp_path / f"rank-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


@needs_compiler
def test_compiled_blocks_learn_the_same(tmp_path: Path) -> None:
    losses = []
    for compiled in (False, True):
        output = tmp_path / str(compiled)
        train_autoencoder(autoencoder_training(output, 3, compile=compiled, log_every=1))
        losses.append([row["loss"] for row in rows(output / "log.csv")])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)


def test_indices_are_those_of_a_decode(extracted: Path) -> None:
    tensors = load_file(extracted)
    assert tensors["levels.0"].shape == (20, 2, 4, 4)
    assert tensors["levels.1"].shape == (20, 2, 8, 8)
    assert set(tensors["quality"].tolist()) == {0, 1}


@needs_compiler
def test_a_compiled_prior_learns_the_same(trained: Path, extracted: Path, tmp_path: Path) -> None:
    bits = []
    for compiled in (False, True):
        config = prior_training(trained, extracted, tmp_path / str(compiled), 1)
        settings = replace(config, compile=compiled, steps=2, quantized_from=1.0, log_every=1)
        path = train_prior(settings)
        bits.append([row["bits"] for row in rows(path.parent / "log.csv")])
    np.testing.assert_allclose(bits[1], bits[0], rtol=2e-2)


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


def test_trained_priors_export_and_run(trained: Path, extracted: Path, tmp_path: Path) -> None:
    priors = []
    for level in (0, 1):
        path = train_prior(prior_training(trained, extracted, tmp_path / str(level), level))
        bits = [row["bits"] for row in rows(path.parent / "log.csv")]
        assert np.mean(bits[-40:]) < np.mean(bits[:40])
        priors.append(path)
    weights = tmp_path / "mine.safetensors"
    export(trained, priors, weights, "mine")
    picture = image.load(FIXTURES / "astronaut-crop.png")
    compressed = codec.compress(picture, model=weights)
    restored = codec.decompress(compressed.data, model=weights)
    assert restored.pixels.shape == picture.pixels.shape
    error = np.mean((restored.pixels.astype(float) - picture.pixels) ** 2)
    assert error < 0.2 * picture.pixels.var()


def test_what_goes_wrong_while_drawing_ends_the_run(tmp_path: Path) -> None:
    settings = autoencoder_training(tmp_path, 5)
    sampler = CropSampler(settings.sources, settings.crop)
    model = torch.nn.Linear(1, 1)

    def draw(step: int) -> tuple[torch.Tensor, ...]:
        if step == 2:
            raise CodecError("no more crops")
        return (sampler.draw(1, [step]).float().mean()[None],)

    class Objective(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return model(x).square(), {}

    with Processes("cpu") as processes, pytest.raises(CodecError, match="no more crops"):
        run(settings, processes, model, Objective(), {}, draw, lambda *_: None)


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
    priors = []
    for level in (0, 1):
        config = prior_training(trained, extraction.output, tmp_path / str(level), level)
        config.steps, config.label_dropout, config.quantized_from = 6, 0.5, 0.3
        priors.append(train_prior(config))
    weights = tmp_path / "mine.safetensors"
    export(trained, priors, weights, "mine")
    model = load(weights)
    assert model.classes == tuple(expected)
    assert model.side == 32
    assert all(len(prior.context.classes) == 4 for prior in model.priors)


@pytest.mark.parametrize("text", ["", "{}", '[{"wnid": "x"}]', '[{"wnid": "x", "name": "x"}]'])
def test_classes_that_fit_no_folder_are_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(CodecError, match=r"classes\.json"):
        read_classes(str(path), Counter({"cat": 2}))


def test_a_level_that_is_not_there_is_an_error(
    trained: Path, extracted: Path, tmp_path: Path
) -> None:
    with pytest.raises(CodecError, match="no level 2"):
        train_prior(prior_training(trained, extracted, tmp_path, 2))


def test_export_refuses_priors_that_do_not_belong(
    trained: Path, extracted: Path, tmp_path: Path
) -> None:
    priors = []
    for level in (0, 1):
        config = prior_training(trained, extracted, tmp_path / str(level), level)
        config.steps = 3
        priors.append(train_prior(config))
    with pytest.raises(CodecError, match="is of level 1, not 0"):
        export(trained, priors[::-1], tmp_path / "x.safetensors", "x")
    packed = load_autoencoder(trained).half().float()  # as weights files keep it
    for path in priors:
        load_prior(path, packed)
    other = train_autoencoder(autoencoder_training(tmp_path / "other", 2, seed=5))
    with pytest.raises(CodecError, match="trained on another autoencoder"):
        export(other, priors, tmp_path / "x.safetensors", "x")
    config = prior_training(trained, extracted, tmp_path / "early", 0)
    config.steps, config.quantized_from = 3, 1.0
    with pytest.raises(CodecError, match="train it to the end"):
        export(trained, [train_prior(config), priors[1]], tmp_path / "x.safetensors", "x")
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_resumed_prior_ends_where_an_unbroken_one_does(
    trained: Path, extracted: Path, tmp_path: Path, dropout: float
) -> None:
    def run(folder: str, steps: int) -> dict[str, torch.Tensor]:
        config = prior_training(trained, extracted, tmp_path / folder, 0)
        config.steps, config.decay, config.quantized_from = steps, 1e-9, 0.0
        config.dropout = config.attention_dropout = dropout
        return load_file(train_prior(config))

    whole = run("whole", 6)
    run("parts", 3)
    parts = run("parts", 6)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_calibration_sees_all_of_the_activations(
    trained: Path, extracted: Path, tmp_path: Path
) -> None:
    def exponents(dropout: float) -> dict[str, torch.Tensor]:
        config = prior_training(trained, extracted, tmp_path / str(dropout), 0)
        config.steps, config.quantized_from, config.dropout = 1, 0.0, dropout
        tensors = load_file(train_prior(config))
        return {name: value for name, value in tensors.items() if "exponent" in name}

    expected = exponents(0.0)
    assert expected
    assert exponents(0.99) == expected


def test_sizes_that_attention_cannot_have_are_an_error(
    trained: Path, extracted: Path, tmp_path: Path
) -> None:
    config = prior_training(trained, extracted, tmp_path, 0)
    config.attention_layers = 3
    with pytest.raises(CodecError, match="give fewer attention layers or more blocks"):
        train_prior(config)
    config.attention_layers, config.attention_heads = 1, 3
    with pytest.raises(CodecError, match="give a multiple of 3 channels"):
        train_prior(config)


def rewritten(indices: Path, output: Path, **changes: object) -> Path:
    """A file of indices whose state is another; None takes an entry away."""
    tensors, state = checkpoint.load(indices)
    state = {name: value for name, value in (state | changes).items() if value is not None}
    checkpoint.save(output, tensors, state)
    return output


def test_indices_and_priors_of_another_autoencoder_are_refused(
    trained: Path, extracted: Path, tmp_path: Path
) -> None:
    other = train_autoencoder(autoencoder_training(tmp_path / "other", 2, seed=5))
    with pytest.raises(CodecError, match="extract them again"):
        train_prior(prior_training(other, extracted, tmp_path / "prior", 0))
    config = prior_training(trained, extracted, tmp_path / "prior", 0)
    config.steps = 2
    train_prior(config)
    unmarked = rewritten(extracted, tmp_path / "earlier", autoencoder_sha256=None)
    config = prior_training(other, unmarked, tmp_path / "prior", 0)
    with pytest.raises(CodecError, match="use another output folder"):
        train_prior(config)
    config.output, config.steps = tmp_path / "fresh", 2
    assert train_prior(config).exists()


def test_a_class_has_as_many_images_as_in_the_file_with_most(
    extracted: Path, tmp_path: Path
) -> None:
    files = [
        rewritten(extracted, tmp_path / str(n), classes=[["cat", "cat", n], ["dog", "dog", 9 - n]])
        for n in (3, 5)
    ]
    assert IndexSampler(files).classes == [("cat", "cat", 5), ("dog", "dog", 6)]


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
        write_weights(tmp_path / f"{n}.safetensors", "x", autoencoder, priors) for n in range(4)
    }
    assert len(hashes) == 1


def test_folders_and_archives_hold_the_same_photos(tmp_path: Path) -> None:
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(FIXTURES, "fixtures")
    from_folder, from_archive = read_photos(FIXTURES, 64), read_photos(archive, 64)
    assert len(from_folder) == len(from_archive) == 3
    for one, other in zip(from_folder, from_archive, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert one.label == other.label == "fixtures"


def write_photos(folder: Path, label: str, sides: list[int]) -> None:
    """One image a side, named and grey by its number."""
    (folder / label).mkdir(parents=True)
    for n, side in enumerate(sides):
        grey = np.full((side, side), n, np.uint8)
        PillowImage.fromarray(grey).save(folder / label / f"{n:02d}.png")


def test_the_split_does_not_depend_on_the_size_asked_for(tmp_path: Path) -> None:
    write_photos(tmp_path, "cat", [4, *[8] * 21])

    def shown(min_side: int, split: str) -> list[int]:
        return [
            int(photo.pixels[0, 0, 0]) for photo in read_photos(tmp_path, min_side, split=split)
        ]

    for min_side in (4, 8):
        assert shown(min_side, "validation") == [10, 21]
    assert shown(8, "train") == [n for n in range(1, 21) if n != 10]


def test_nothing_of_a_split_is_said(tmp_path: Path) -> None:
    write_photos(tmp_path, "cat", [8] * 3)
    with pytest.raises(CodecError, match=r"of the split 'validation'.*use another split"):
        read_photos(tmp_path, 8, split="validation")
    with pytest.raises(CodecError, match="at least 9 pixels"):
        read_photos(tmp_path, 9, split="train")


@pytest.mark.parametrize("kind", ["folder", "", "gz", "xz"])
def test_a_limit_takes_the_first_by_name(tmp_path: Path, kind: str) -> None:
    write_photos(tmp_path / "photos", "cat", [8] * 4)
    source = tmp_path / "photos"
    if kind != "folder":
        source = tmp_path / "photos.tar"
        with tarfile.open(source, f"w:{kind}") as tar:
            for n in (3, 1, 0, 2):
                tar.add(tmp_path / "photos" / "cat" / f"{n:02d}.png", f"cat/{n:02d}.png")
    assert [photo.pixels[0, 0, 0] for photo in read_photos(source, 8, 2)] == [0, 1]


def test_no_more_is_decoded_than_the_limit(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "cat", [8] * 2)
    (tmp_path / "photos" / "cat" / "99.png").write_bytes(b"no image")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(tmp_path / "photos", "photos")
    for source in (tmp_path / "photos", tmp_path / "photos.tar"):
        assert len(read_photos(source, 8, 2)) == 2
        with pytest.raises(CodecError, match=r"99\.png"):
            read_photos(source, 8)


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_a_damaged_archive_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    noise = PillowImage.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    noise.save(tmp_path / "noise.png")
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, f"w:{kind}") as tar:
        tar.add(tmp_path / "noise.png", "noise.png")
    whole = archive.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    for damaged in (whole[:2000], whole[:9000], bytes(flipped)):
        archive.write_bytes(damaged)
        with pytest.raises(CodecError, match=r"photos\.tar"):
            read_photos(archive, 64)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("a/../x.png", ""),
        ("../x.png", ""),
        ("/x.png", ""),
        ("x.png", ""),
        ("../../cat/x.png", "cat"),
    ],
)
def test_a_label_leads_out_of_no_folder(tmp_path: Path, name: str, label: str) -> None:
    write_photos(tmp_path, "cat", [8])
    member = tarfile.TarInfo(name)
    content = (tmp_path / "cat" / "00.png").read_bytes()
    member.size = len(content)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.addfile(member, io.BytesIO(content))
    assert [photo.label for photo in read_photos(tmp_path / "photos.tar", 8)] == [label]


def test_every_eleventh_photo_of_a_label_is_kept_for_validation(tmp_path: Path) -> None:
    for label, count in (("cat", 12), ("dog", 23)):
        write_photos(tmp_path, label, [8] * count)

    def shown(split: str) -> list[tuple[str, int]]:
        photos = read_photos(tmp_path, 8, split=split)
        return [(photo.label, int(photo.pixels[0, 0, 0])) for photo in photos]

    assert shown("validation") == [("cat", 10), ("dog", 10), ("dog", 21)]
    assert sorted(shown("train") + shown("validation")) == sorted(shown("all"))
    with pytest.raises(CodecError, match="unknown split"):
        shown("test")


def test_larger_photos_are_scaled() -> None:
    shapes = {photo.pixels.shape for photo in read_photos(FIXTURES, 64, short_side=64)}
    assert all(min(shape[:2]) == 64 for shape in shapes)


def test_arrays_are_photos_with_digits_as_labels(tmp_path: Path) -> None:
    digits = {
        f"x_{part}": np.full((n, 28, 28), n, np.uint8) for part, n in (("train", 5), ("test", 3))
    }
    names = {f"y_{part}": np.arange(n) for part, n in (("train", 5), ("test", 3))}
    np.savez(tmp_path / "digits.npz", **digits, **names)
    photos = read_photos(tmp_path / "digits.npz", 32, split="validation")
    assert [photo.label for photo in photos] == ["0", "1", "2"]
    assert photos[0].pixels.shape == (32, 32, 3)
    assert len(read_photos(tmp_path / "digits.npz", 32, split="all")) == 8
    np.savez(tmp_path / "other.npz", x_train=np.zeros((1, 8, 8)))
    with pytest.raises(CodecError, match="no arrays x_train"):
        read_photos(tmp_path / "other.npz", 8)


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (np.zeros((2, 8, 8), np.int16), "no arrays"),
        (np.zeros((2, 8), np.uint8), "no arrays"),
        (np.zeros((2, 8, 8, 4), np.uint8), "no arrays"),
        (np.zeros((3, 8, 8), np.uint8), "no arrays"),
        (np.zeros((0, 8, 8), np.uint8), "no images"),
    ],
)
def test_arrays_that_are_no_photos_are_an_error(
    tmp_path: Path, images: np.ndarray, complaint: str
) -> None:
    labels = np.arange(min(2, len(images)))
    path = tmp_path / "digits.npz"
    np.savez(path, x_train=images, y_train=labels)
    with pytest.raises(CodecError, match=complaint):
        read_photos(path, 8, split="train")


@pytest.mark.parametrize("kept", [0, 10, 1000, -1])
def test_a_damaged_file_of_arrays_is_an_error(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "digits.npz"
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8), np.uint8)
    np.savez_compressed(path, x_train=images, y_train=np.arange(50))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CodecError, match=r"digits\.npz: no arrays"):
        read_photos(path, 8, split="train")


@pytest.mark.parametrize("name", ["missing", "empty", "text.tar"])
def test_unusable_sources_are_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar").write_text("not an archive")
    with pytest.raises(CodecError):
        read_photos(tmp_path / name, 64)


def test_crops_are_seeded_and_mirrored() -> None:
    sampler = CropSampler([(FIXTURES, 1.0)], 64)
    crops = sampler.draw(4, [1, 2])
    assert crops.shape == (4, 64, 64, 3)
    assert torch.equal(crops, sampler.draw(4, [1, 2]))
    assert not torch.equal(crops, sampler.draw(4, [1, 3]))


def test_sources_have_weights() -> None:
    assert parse_source("a/b.tar=0.5") == (Path("a/b.tar"), 0.5)
    assert parse_source("a") == (Path("a"), 1.0)
    assert parse_source("a=b/c.tar=2") == (Path("a=b/c.tar"), 2.0)
    for text in ("a=b", "a=0", "a=-1", "a=nan", "a="):
        with pytest.raises(CodecError, match="not a number above 0"):
            parse_source(text)


def test_the_schedule_warms_up_holds_and_decays() -> None:
    schedule = Schedule(steps=10_000, minutes=None, decay=0.5, spent=0.0)
    assert schedule.factor(0, 0.0) < 0.01
    assert schedule.factor(5_000, 0.5) == 1.0
    assert schedule.factor(7_500, 0.75) == pytest.approx(0.5)
    assert schedule.progress(5_000) == 0.5
    assert Schedule(10_000, 1.0, 0.5, spent=60.0).progress(1) == 1.0
    assert Schedule(10_000, 0.0, 0.5, spent=0.0).progress(0) == 1.0


def system_training(output: Path, **changes: object) -> SystemTraining:
    settings: dict[str, object] = {
        "output": output,
        "sources": [(FIXTURES, 1.0)],
        "model_id": "whole",
        "preset": "tiny",
        "crop": 32,
        "minutes": 0.1,
        "batch": 2,
        "count": 8,
        "classes": "folders",
        "split": "all",
        "channels": 16,
        "device": "cpu",
    }
    return SystemTraining(**(settings | changes))  # type: ignore[arg-type]


def test_a_whole_system_trains_and_is_not_trained_twice(tmp_path: Path) -> None:
    config = system_training(tmp_path)
    model = load(train_system(config))
    assert model.model_id == "whole"
    assert [each.key for each in model.classes] == ["fixtures"]
    checkpoints = sorted(tmp_path.rglob("checkpoint.safetensors"))
    steps = [load_state(path)["step"] for path in checkpoints]
    assert load(train_system(config)).sha256 == model.sha256
    assert steps == [load_state(path)["step"] for path in checkpoints]

    # More minutes go to the priors, on the same indices of the same autoencoder.
    indices = tmp_path / "indices.safetensors"
    extracted = indices.read_bytes()
    train_system(system_training(tmp_path, minutes=0.15))
    autoencoder, *priors = [load_state(path) for path in checkpoints]
    assert autoencoder["step"] == steps[0]
    assert all(prior["seconds"] >= 60 * 0.15 * 0.6 / 2 for prior in priors)
    assert indices.read_bytes() == extracted

    # With another autoencoder nothing is mixed: indices anew, and the priors are refused.
    train_autoencoder(autoencoder_training(checkpoints[0].parent, steps[0] + 1, crop=32))
    with pytest.raises(CodecError, match=r"prior-0.*use another output folder"):
        train_system(config)
    mark = fingerprint(load_autoencoder(checkpoints[0]))
    assert load_state(indices)["autoencoder_sha256"] == mark
    assert indices.read_bytes() != extracted


def test_a_system_is_checked_before_it_is_trained(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="no model id"):
        train_system(system_training(tmp_path, model_id="Not An Id"))
    with pytest.raises(CodecError, match="give it with --crop"):
        train_system(system_training(tmp_path, crop=None))
    with pytest.raises(CodecError, match="at least 1024 pixels"):
        train_system(system_training(tmp_path, crop=None, preset="vqvae2-ffhq1024"))
    assert not any(tmp_path.iterdir())


def test_a_papers_preset_sets_what_is_not_given(tmp_path: Path) -> None:
    def settings(**given: object) -> PriorTraining:
        return PriorTraining(output=tmp_path, autoencoder=tmp_path, indices=[], **given)

    bottom = settings(level=1, preset="vqvae2-imagenet256")
    assert (bottom.channels, bottom.blocks, bottom.context_blocks) == (512, 20, 20)
    assert settings(level=1, preset="vqvae2-imagenet256", channels=64).channels == 64
    with pytest.raises(CodecError, match="unknown preset 'x'"):
        settings(level=0, preset="x")
    with pytest.raises(CodecError, match="its levels are 0 to 1"):
        settings(level=2, preset="vqvae2-imagenet256")
