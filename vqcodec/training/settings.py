"""Settings of everything that `vqcodec train` does, and how a preset takes part in them.

`resolve` makes them: what is given wins over the preset, and the preset over the defaults here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vqcodec.training import presets


@dataclass(kw_only=True)
class Images:
    """Where images come from, and what is taken of them.

    Attributes:
        sources: (folder, tar archive or `.npz` file, weight) of the images.
        crop: Side of a crop, in pixels; a multiple of the coarsest stride.
        limit: At most this many images of each source, or None.
        short_side: Scale larger images until their shorter side has so many pixels, or None.
        split: Which images of a source: "all", "train" or "validation".
        mirror: Mirror half of the crops.
        shift: Crops may leave an image by so many pixels, which mirror those within, as far as the
            image is not so much larger.
        zoom: Crops show as little as this share of their sides, enlarged: 1 for none, 1.2 for five
            sixths.
        workers: Processes that decode images ahead; 0 decodes in the training's own, None takes
            half of the cores, at most 4. The crops are the same for any number.
        cache: Mebibytes of decoded images that are kept, over all workers.
    """

    sources: list[tuple[Path, float]]
    crop: int = 128
    limit: int | None = None
    short_side: int | None = None
    split: str = "all"
    mirror: bool = True
    shift: int = 0
    zoom: float = 1.0
    workers: int | None = None
    cache: int = 256


@dataclass(kw_only=True)
class Training:
    """Settings of any run.

    Attributes:
        output: Folder for checkpoint, log and config.
        steps: Steps at most.
        minutes: Minutes at most, or None.
        batch: Examples a step and process.
        learning_rate: Peak of the schedule.
        optimizer: "adamw", or "muon" for AdamW with Muon for hidden matrices.
        betas: Of AdamW.
        weight_decay: Of AdamW.
        warm_up: Steps over which the learning rate rises.
        decay: Share of the run over which the learning rate falls to zero.
        average_decay: Decay of the weights' moving average.
        largest_gradient: Gradients with a larger norm are scaled down to it.
        checkpoint_minutes: Minutes between checkpoints.
        log_every: Steps between rows of the log.
        compile: Compile the residual blocks; pays on GPUs, and takes a minute at the start.
        bfloat16: Run the networks' layers in bfloat16; None means where the device is fast at it.
        seed: Of initial weights and examples.
        device: "cpu", "cuda", or None for whichever there is.
    """

    output: Path
    steps: int = 100_000
    minutes: float | None = None
    batch: int = 8
    learning_rate: float = 1.2e-3
    optimizer: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    warm_up: int = 200
    decay: float = 0.6
    average_decay: float = 0.999
    largest_gradient: float = 2.0
    checkpoint_minutes: float = 4.0
    log_every: int = 25
    compile: bool = False
    bfloat16: bool | None = None
    seed: int = 0
    device: str | None = None

    @property
    def checkpoint(self) -> Path:
        """Where the run keeps what it needs to go on."""
        return self.output / "checkpoint.safetensors"


@dataclass(kw_only=True)
class AutoencoderTraining(Images, Training):
    """Settings of an autoencoder's training, besides those of its images and of every run.

    Attributes:
        preset: Name of the architecture, a key of `presets.PRESETS`.
        commitment_cost: Weight of the commitment loss.
        coarse_weight: Weight of the MSE of decodes from the coarser levels alone.
        restart_every: Steps between restarts of unused codes.
        restart_until: Share of the run after which codes are no longer restarted.
        restart_threshold: Share of choices below which a code counts as unused.
        start_crops: Crops that the codebooks start from.
    """

    preset: str = "photo"
    commitment_cost: float = 0.25
    coarse_weight: float = 0.05
    restart_every: int = 250
    restart_until: float = 0.5
    restart_threshold: float = 2e-5
    start_crops: int = 2400


@dataclass(kw_only=True)
class Extraction(Images):
    """Settings of an extraction of indices, besides those of its images.

    Attributes:
        autoencoder: Checkpoint of `train autoencoder`, or a weights file.
        output: The file to write.
        count: Number of crops.
        levels: Extract so many levels only, coarsest first; None for all.
        batch: Crops at a time.
        classes: JSON file with the classes in order, a list of {"wnid": folder name, "name": ...};
            None for no classes, "folders" for the sources' folder names, sorted.
        seed: Of crops and qualities.
        device: "cpu", "cuda", or None for whichever there is.
    """

    autoencoder: Path
    output: Path
    count: int = 5000
    crop: int = 256
    levels: int | None = None
    batch: int = 4
    classes: str | None = None
    seed: int = 0
    device: str | None = None


@dataclass(kw_only=True)
class PriorTraining(Training):
    """Settings of the training of one level's prior, besides those of every run.

    Attributes:
        autoencoder: Checkpoint of `train autoencoder`, or a weights file.
        indices: Files of `train indices`.
        level: Which level's prior, 0 the coarsest.
        start: Checkpoint of a prior of the same shape to start from, perhaps on the indices of an
            earlier state of the autoencoder; or None.
        preset: Name of a paper's system, a key of `presets.PRIOR_PRESETS`, or None.
        channels: Width of the streams.
        blocks: Gated residual blocks of the trunk.
        context_blocks: Gated residual blocks at every coarser level's resolution.
        attention_heads: Heads of the causal attention; 0 for none, None for 4 at level 0 only.
        attention_layers: Layers of that attention, evenly between the blocks.
        head_channels: Hidden width of a codebook's head.
        dropout: Share of what a residual block adds that is dropped.
        attention_dropout: Share of the attention's logits that is dropped.
        label_dropout: Share of the examples whose class is hidden, so that the prior also works
            without one, as the codec and guidance need.
        quantized_from: Share of the run after which values are rounded to the integer grids.
        class_power: A class is drawn in proportion to the number of its examples to this power: 1
            takes all examples alike, 0 all classes alike.
        at_once: Examples that pass at once, whose gradients are added up to those of a batch; None
            for all of them.
    """

    autoencoder: Path
    indices: list[Path]
    level: int
    start: Path | None = None
    preset: str | None = None
    channels: int = 128
    blocks: int = 5
    context_blocks: int = 2
    attention_heads: int | None = None
    attention_layers: int = 1
    head_channels: int = 96
    dropout: float = 0.0
    attention_dropout: float = 0.0
    label_dropout: float = 0.1
    quantized_from: float = 0.8
    class_power: float = 1.0
    at_once: int | None = None
    learning_rate: float = 2e-3
    largest_gradient: float = 1.0


@dataclass(kw_only=True)
class SystemTraining(Images):
    """Settings of all steps of a system, besides those of its images.

    Attributes:
        output: Folder for all checkpoints, logs and indices.
        model_id: What files coded with the weights will name, and the weights file's own name.
        preset: Name of the architecture.
        minutes: Of the whole, extraction of indices and export apart.
        crop: Side of the images that are trained on, in pixels; a paper's preset has its own.
        autoencoder_share: Share of the minutes that the autoencoder gets; the priors share the
            rest evenly. Above 0 and below 1.
        batch: Examples a step of the autoencoder and of the finest level's prior; coarser priors
            take more, up to 8 times as many, as their maps are smaller. None for the defaults, or
            those of a paper's preset.
        count: Number of crops whose indices the priors are trained on.
        classes: See `Extraction.classes`.
        channels: Width of the priors, or None for the default or the preset's.
        dropout: Of the priors, or None for the default or the preset's.
        seed: Of all random numbers.
        device: "cpu", "cuda", or None for whichever there is.
    """

    output: Path
    model_id: str
    preset: str
    minutes: float
    autoencoder_share: float = 0.4
    batch: int | None = None
    count: int = 60_000
    classes: str | None = None
    split: str = "train"
    channels: int | None = None
    dropout: float | None = None
    seed: int = 0
    device: str | None = None


@dataclass(kw_only=True)
class SynthesisTraining(Images, Training):
    """Settings of the training of a natural synthesis, besides those of its images and every run.

    Attributes:
        model: A model id or a weights file, whose indices it restores.
        lpips: Weights of LPIPS: of VGG16 and of AlexNet.
        start: Checkpoint of `train synthesis` of the same shape to start from, or None.
        part: Side of what VGG16 sees of a crop, in pixels; a multiple of 16.
        adversarial: Size of the discriminator's gradient at the pixels, against that of the other
            losses; 0 for no discriminator.
        highest: Share of the range of qualities that is trained on.
    """

    model: str | Path
    lpips: list[Path]
    start: Path | None = None
    part: int = 64
    adversarial: float = 0.0
    highest: float = 0.92
    batch: int = 4
    learning_rate: float = 4e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    decay: float = 0.4
    average_decay: float = 0.998
    largest_gradient: float = 1.0


_Settings = TypeVar(
    "_Settings", AutoencoderTraining, Extraction, PriorTraining, SystemTraining, SynthesisTraining
)


def resolve(kind: type[_Settings], **given: Any) -> _Settings:
    """Settings of a run: what is given, over what its preset says, over the defaults.

    Args:
        kind: Which settings.
        given: Fields of them; None counts as not given.

    Raises:
        CodecError: no preset of this name, it has no such level, or no crop of its own where one
            is needed.
    """
    wanted = {name: value for name, value in given.items() if value is not None}
    return kind(**{**_of_preset(kind, wanted), **wanted})


def _of_preset(kind: type, given: Mapping[str, Any]) -> Mapping[str, Any]:
    if kind is AutoencoderTraining:
        return presets.autoencoder(given.get("preset", AutoencoderTraining.preset)).settings
    if kind is PriorTraining and "preset" in given:
        return presets.prior(given["preset"], given["level"])
    if kind is SystemTraining and "crop" not in given:
        return {"crop": presets.crop(given["preset"])}
    return {}
