from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import (
    system_training,
)

from vqcodec.errors import CodecError
from vqcodec.training.settings import (
    AutoencoderTraining,
    PriorTraining,
    resolve,
)


def autoencoder(**given: object) -> AutoencoderTraining:
    return resolve(AutoencoderTraining, output=Path(), sources=[], **given)


def prior(**given: object) -> PriorTraining:
    return resolve(PriorTraining, output=Path(), autoencoder=Path(), indices=[], **given)


def test_a_preset_wins_over_defaults_and_a_user_over_the_preset() -> None:
    razavi = autoencoder(preset="vqvae2-imagenet256")
    assert (razavi.batch, razavi.learning_rate, razavi.average_decay) == (128, 2e-4, 0.9999)
    assert (razavi.crop, razavi.commitment_cost) == (256, 0.25)
    assert (razavi.betas, razavi.weight_decay) == ((0.9, 0.999), 0.0)
    default = autoencoder()
    assert (default.batch, default.preset, default.weight_decay) == (8, "photo", 1e-4)
    # The default, given by the user, is no default.
    given = autoencoder(preset="vqvae2-imagenet256", batch=default.batch, crop=64)
    assert (given.batch, given.crop, given.learning_rate) == (8, 64, 2e-4)


def test_what_is_none_is_not_given() -> None:
    assert autoencoder(preset=None, batch=None, mirror=False) == autoencoder(mirror=False)


def test_a_papers_preset_sets_a_prior() -> None:
    bottom = prior(level=1, preset="vqvae2-imagenet256")
    assert (bottom.channels, bottom.blocks, bottom.context_blocks) == (512, 20, 20)
    assert prior(level=1, preset="vqvae2-imagenet256", channels=64).channels == 64
    assert prior(level=0).channels == PriorTraining.channels
    with pytest.raises(CodecError, match="its levels are 0 to 1"):
        prior(level=2, preset="vqvae2-imagenet256")


def test_a_system_has_the_crop_of_its_preset() -> None:
    assert system_training(Path(), crop=None, preset="vqvae2-mnist").crop == 32
    assert system_training(Path(), crop=64, preset="vqvae2-mnist").crop == 64
    with pytest.raises(CodecError, match="'tiny' has no crop of its own; give it with --crop"):
        system_training(Path(), crop=None)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(CodecError, match=r"'huge'; there are: photo, .*tiny.*hrvqvae-mnist"):
        autoencoder(preset="huge")
    with pytest.raises(CodecError, match="'huge' of priors; there are: vqvae-mnist"):
        prior(level=0, preset="huge")
    with pytest.raises(CodecError, match="unknown preset 'huge'"):
        system_training(Path(), crop=None, preset="huge")
