"""A whole system in one go: autoencoder, indices, one prior a level, weights file.

Source: algorithms 1 and 2 of Razavi et al. 2019: the autoencoder first, then every level's prior
apart, on indices that the finished autoencoder gives.

A run goes on with what is in its folder. The autoencoder is finished as soon as a prior has been
trained on its indices: more minutes then go to the priors alone, which fit no other autoencoder.
Its indices are extracted again when they are not those of its present checkpoint.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from vqcodec.training import autoencoder, indices, prior
from vqcodec.training.checkpoint import load_state
from vqcodec.training.export import export, fingerprint, load_autoencoder
from vqcodec.training.presets import PRIOR_PRESETS
from vqcodec.training.settings import (
    AutoencoderTraining,
    Extraction,
    Images,
    PriorTraining,
    SystemTraining,
    Training,
    resolve,
)
from vqcodec.weights_file import check_model_id


def train(config: SystemTraining) -> Path:
    """Trains what is not yet trained in `config.output`; returns the weights file.

    Raises:
        CodecError: as of the single steps, no model id, or priors in `config.output` of another
            autoencoder.
    """
    check_model_id(config.model_id)
    images: dict[str, Any] = {each.name: getattr(config, each.name) for each in fields(Images)}
    anything: dict[str, Any] = {"seed": config.seed, "device": config.device}
    finished = any(config.output.glob("prior-*/checkpoint.safetensors"))
    trained = autoencoder.train(
        resolve(
            AutoencoderTraining,
            output=config.output / "autoencoder",
            preset=config.preset,
            minutes=0.0 if finished else config.minutes * config.autoencoder_share,
            batch=config.batch,
            **images,
            **anything,
        )
    )
    present = load_autoencoder(trained)
    strides, mark = present.config.strides, fingerprint(present)
    extracted = config.output / "indices.safetensors"
    if not extracted.exists() or load_state(extracted).get("autoencoder_sha256", mark) != mark:
        indices.extract(
            resolve(
                Extraction,
                output=extracted,
                autoencoder=trained,
                count=config.count,
                classes=config.classes,
                batch=64,
                **images,
                **anything,
            )
        )
    priors = [
        prior.train(
            resolve(
                PriorTraining,
                output=config.output / f"prior-{level}",
                autoencoder=trained,
                indices=[extracted],
                level=level,
                minutes=config.minutes * (1 - config.autoencoder_share) / len(strides),
                preset=config.preset if config.preset in PRIOR_PRESETS else None,
                batch=_prior_batch(config, stride // strides[-1]),
                channels=config.channels,
                dropout=config.dropout,
                **anything,
            )
        )
        for level, stride in enumerate(strides)
    ]
    weights = config.output / f"{config.model_id}.safetensors"
    export(trained, priors, weights, config.model_id)
    return weights


def _prior_batch(config: SystemTraining, factor: int) -> int | None:
    """Examples a step, more where maps are `factor` times smaller; None for the preset's."""
    if config.batch is None and config.preset in PRIOR_PRESETS:
        return None
    return (config.batch or Training.batch) * min(8, factor)
