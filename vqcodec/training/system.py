"""A whole system in one go: autoencoder, indices, one prior a level, weights file.

Source: algorithms 1 and 2 of Razavi et al. 2019: the autoencoder first, then every level's prior
apart, on indices that the finished autoencoder gives.

A run goes on with what is in its folder. The autoencoder is finished as soon as a prior has been
trained on its indices: more minutes then go to the priors alone, which fit no other autoencoder.
Its indices are extracted again when they are not those of its present checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqcodec.errors import CodecError
from vqcodec.training import autoencoder, indices, prior
from vqcodec.training.checkpoint import load_state
from vqcodec.training.export import export, fingerprint, load_autoencoder
from vqcodec.training.loop import Training
from vqcodec.training.vqvae import PRESETS, PRIOR_PRESETS
from vqcodec.weights_file import check_model_id


@dataclass(kw_only=True)
class SystemTraining:
    """Settings of all steps.

    Attributes:
        output: Folder for all checkpoints, logs and indices.
        sources: (folder, tar archive or `.npz` file, weight) of the training images.
        model_id: What files coded with the weights will name, and the weights file's own name.
        preset: Name of the architecture.
        crop: Side of the images that are trained on, in pixels; None for that of a paper's preset.
        minutes: Of the whole, extraction of indices and export apart.
        autoencoder_share: Share of the minutes that the autoencoder gets; the priors share the
            rest evenly. Above 0 and below 1.
        batch: Examples a step of the autoencoder and of the finest level's prior; coarser priors
            take more, up to 8 times as many, as their maps are smaller. None for the defaults, or
            those of a paper's preset.
        count: Number of crops whose indices the priors are trained on.
        classes: See `indices.Extraction.classes`.
        short_side: Scale larger images until their shorter side has so many pixels, or None.
        split: Which images of a source: "all", "train" or "validation".
        mirror: Mirror half of the crops.
        channels: Width of the priors, or None for the default or the preset's.
        dropout: Of the priors, or None for the default or the preset's.
        seed: Of all random numbers.
        device: "cpu", "cuda", or None for whichever there is.
    """

    output: Path
    sources: list[tuple[Path, float]]
    model_id: str
    preset: str
    minutes: float
    crop: int | None = None
    autoencoder_share: float = 0.4
    batch: int | None = None
    count: int = 60_000
    classes: str | None = None
    short_side: int | None = None
    split: str = "train"
    mirror: bool = True
    channels: int | None = None
    dropout: float | None = None
    seed: int = 0
    device: str | None = None


def train(config: SystemTraining) -> Path:
    """Trains what is not yet trained in `config.output`; returns the weights file.

    Raises:
        CodecError: as of the single steps, no model id, a preset that has no crop of its own and
            none is given, or priors in `config.output` of another autoencoder.
    """
    check_model_id(config.model_id)
    images: dict[str, Any] = {
        "sources": config.sources,
        "crop": _crop(config),
        "short_side": config.short_side,
        "split": config.split,
        "mirror": config.mirror,
        "seed": config.seed,
        "device": config.device,
    }
    batch: dict[str, Any] = {} if config.batch is None else {"batch": config.batch}
    paper = config.preset if config.preset in PRIOR_PRESETS else None
    chosen = {"channels": config.channels, "dropout": config.dropout}
    sizes: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    finished = any(config.output.glob("prior-*/checkpoint.safetensors"))
    trained = autoencoder.train(
        autoencoder.AutoencoderTraining(
            output=config.output / "autoencoder",
            preset=config.preset,
            minutes=0.0 if finished else config.minutes * config.autoencoder_share,
            **images,
            **batch,
        )
    )
    present = load_autoencoder(trained)
    strides, mark = present.config.strides, fingerprint(present)
    extracted = config.output / "indices.safetensors"
    if not extracted.exists() or load_state(extracted).get("autoencoder_sha256", mark) != mark:
        indices.extract(
            indices.Extraction(
                output=extracted,
                autoencoder=trained,
                count=config.count,
                classes=config.classes,
                batch=64,
                **images,
            )
        )
    priors = []
    for level, stride in enumerate(strides):
        priors.append(
            prior.train(
                prior.PriorTraining(
                    output=config.output / f"prior-{level}",
                    autoencoder=trained,
                    indices=[extracted],
                    level=level,
                    minutes=config.minutes * (1 - config.autoencoder_share) / len(strides),
                    preset=paper,
                    seed=config.seed,
                    device=config.device,
                    **sizes,
                    **_prior_batch(config, stride // strides[-1]),
                )
            )
        )
    weights = config.output / f"{config.model_id}.safetensors"
    export(trained, priors, weights, config.model_id)
    return weights


def _crop(config: SystemTraining) -> int:
    if config.crop is not None:
        return config.crop
    if config.preset not in PRESETS:
        raise CodecError(f"preset {config.preset!r} has no crop of its own; give it with --crop")
    crop: int = PRESETS[config.preset].settings["crop"]
    return crop


def _prior_batch(config: SystemTraining, factor: int) -> dict[str, int]:
    if config.batch is None and config.preset in PRIOR_PRESETS:
        return {}
    return {"batch": (config.batch or Training.batch) * min(8, factor)}
