"""Architectures and settings by name: the codec's own, and the papers'.

`PRESETS.md` beside this file says where each value comes from, and why where it is not the papers'.

Source: van den Oord et al. 2017, equation 3 and section 4; Razavi et al. 2019, algorithm 1 and
section 3; Adiban et al. 2022, section 3 and tables 4 to 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vqcodec.errors import CodecError
from vqcodec.models.autoencoder import AutoencoderConfig, LevelConfig
from vqcodec.models.family import FamilyConfig
from vqcodec.models.quantizer import CodebookConfig
from vqcodec.models.vqvae import VQVAEConfig, VQVAELevel


@dataclass(frozen=True)
class Preset:
    """An architecture and how it is trained.

    Attributes:
        config: The architecture.
        settings: Fields of `vqcodec.training.settings.AutoencoderTraining` that are not the
            defaults.
    """

    config: FamilyConfig
    settings: Mapping[str, Any] = field(default_factory=dict)


def books(*codebooks: tuple[int, int]) -> tuple[CodebookConfig, ...]:
    """Codebooks (K, D) one after the other."""
    return tuple(CodebookConfig(*each) for each in codebooks)


def group(share: float, *slices: tuple[int, int]) -> tuple[CodebookConfig, ...]:
    """A group of codebooks of 128 codes for slices (D, start), used from that share on."""
    return tuple(
        CodebookConfig(128, dim, start, share, n > 0) for n, (dim, start) in enumerate(slices)
    )


PHOTO = AutoencoderConfig(
    levels=(
        LevelConfig(32, books((128, 1), (128, 2), (128, 4), (128, 8)), 160, 2, 2),
        LevelConfig(16, books((128, 2), (128, 4), (128, 8), (128, 8)), 192, 2, 3),
        LevelConfig(
            8,
            books((128, 2), (128, 2), (128, 4), (128, 4), (128, 8), (128, 8), (128, 16)),
            160,
            3,
            4,
        ),
    ),
    lmbdas=tuple(1280.0 * 2 ** (-5 * q / 7) for q in range(8)),
)
"""Of `hvq-photo-1`: photographs, 8 qualities."""

WIDE = AutoencoderConfig(
    levels=(
        LevelConfig(32, books((128, 1), (128, 2), (128, 4), (128, 8)), 160, 2, 2),
        LevelConfig(16, books((128, 2), (128, 4), (128, 8), (128, 8)), 192, 2, 3),
        LevelConfig(
            8,
            (
                *books(*((128, dim) for dim in (2, 2, 4, 4, 8, 8, 16))),
                # Each group adds latents, and refines those that run out of codes first.
                *group(0.30, (16, 44), (4, 12), (4, 16), (4, 20), (4, 24)),
                *group(0.43, (4, 4), (4, 8), (8, 28), (8, 36)),
                *group(0.56, (4, 0), (8, 44), (8, 52), (8, 60), (8, 68), (8, 76), (8, 84)),
                *group(
                    0.72,
                    *((4, start) for start in range(4, 44, 4)),
                    *((8, start) for start in range(44, 76, 8)),
                ),
            ),
            160,
            3,
            4,
            64,
        ),
    ),
    lmbdas=tuple(2048.0 * 2 ** (-1.05 * knot) for knot in range(9)),
    qualities=100,
    scaled_blocks=True,
)
"""Of `hvq-photo-2`: photographs, 100 qualities, lmbda 2048 to 6."""

IMAGENET64 = AutoencoderConfig(
    levels=(
        LevelConfig(16, books((128, 1), (128, 2), (128, 4), (128, 8)), 128, 2, 2),
        LevelConfig(8, books((128, 2), (128, 4), (128, 8), (128, 8)), 128, 2, 3),
        LevelConfig(4, books((128, 2), (128, 4), (128, 8)), 96, 2, 3),
    ),
    lmbdas=(300.0,),
    refine_stride=2,
    refine_channels=48,
)
"""Images of 64 x 64 pixels, for generation."""

TINY = AutoencoderConfig(
    levels=(
        LevelConfig(16, books((16, 2), (16, 4)), 16, 1, 1, 16),
        LevelConfig(8, books((16, 2), (16, 4)), 16, 1, 1, 16),
    ),
    lmbdas=(800.0, 200.0),
    refine_channels=8,
    refine_blocks=1,
)
"""Trains in seconds, to try things out."""


def _run(batch: int, steps: int) -> dict[str, int]:
    """The codes start from as many images as a step learns from."""
    return {"batch": batch, "start_crops": batch, "steps": steps}


def _epochs(batch: int, images: int, epochs: int) -> dict[str, int]:
    """So many passes over so many images."""
    return _run(batch, images * epochs // batch)


_EVERY: dict[str, Any] = {
    "betas": (0.9, 0.999),
    "weight_decay": 0.0,  # AdamW without it is Adam
    "commitment_cost": 0.25,
    "restart_every": 20,
    "restart_threshold": 3e-4,
}
_OORD = {**_EVERY, **_run(128, 250_000), "learning_rate": 2e-4, "average_decay": 0.999}
_RAZAVI = {**_EVERY, "learning_rate": 2e-4, "average_decay": 0.9999}
_ADIBAN = {**_EVERY, "learning_rate": 3e-3, "average_decay": 0.9}

# Of Adiban et al., with the sides of their images.
_FFHQ = {**_ADIBAN, **_epochs(32, 70_000, 400), "crop": 256}
_IMAGENET = {**_ADIBAN, **_epochs(64, 1_281_167, 400), "crop": 128}
_CIFAR10 = {**_ADIBAN, **_epochs(128, 50_000, 999), "crop": 32}
_MNIST = {**_ADIBAN, **_epochs(128, 60_000, 999), "crop": 32}


def _pyramid(strides: tuple[int, ...], k: int, d: int, **networks: Any) -> VQVAEConfig:
    return VQVAEConfig(tuple(VQVAELevel(stride, k, d) for stride in strides), **networks)


def _linked(stride: int, branching: int, d: int, **networks: Any) -> VQVAEConfig:
    return VQVAEConfig((VQVAELevel(stride, branching, d),) * 3, linked=True, **networks)


_WIDE = {"channels": 256, "residual_channels": 256}
_NARROW = {"channels": 64, "residual_channels": 64}

PRESETS = {
    "photo": Preset(PHOTO),
    "wide": Preset(WIDE),
    "imagenet64": Preset(IMAGENET64),
    "tiny": Preset(TINY),
    "vqvae-mnist": Preset(_pyramid((2,), 64, 8, **_NARROW), _MNIST),
    "vqvae-cifar10": Preset(_pyramid((4,), 512, 64, **_WIDE), {**_OORD, "crop": 32}),
    "vqvae-imagenet128": Preset(_pyramid((4,), 512, 64, **_WIDE), {**_OORD, "crop": 128}),
    "vqvae2-imagenet256": Preset(
        _pyramid((8, 4), 512, 64), {**_RAZAVI, **_run(128, 2_207_444), "crop": 256}
    ),
    "vqvae2-ffhq1024": Preset(
        _pyramid((32, 16, 8), 512, 64), {**_RAZAVI, **_run(128, 304_741), "crop": 1024}
    ),
    "vqvae2-ffhq256": Preset(_pyramid((32, 16, 8), 512, 32), _FFHQ),
    "vqvae2-imagenet128": Preset(_pyramid((16, 8, 4), 512, 32), _IMAGENET),
    "vqvae2-cifar10": Preset(_pyramid((8, 4, 2), 512, 16, **_NARROW), _CIFAR10),
    "vqvae2-mnist": Preset(_pyramid((8, 4, 2), 64, 8, **_NARROW), _MNIST),
    "hrvqvae-ffhq256": Preset(_linked(8, 8, 32), _FFHQ),
    "hrvqvae-imagenet128": Preset(_linked(4, 8, 32), _IMAGENET),
    "hrvqvae-cifar10": Preset(_linked(2, 8, 16, **_NARROW), _CIFAR10),
    "hrvqvae-mnist": Preset(_linked(2, 4, 8, **_NARROW), _MNIST),
}
"""By name; the crop of a paper's is the whole image, `mnist` extended to 32 x 32."""


Row = Mapping[str, float | int]
"""Fields of `vqcodec.training.settings.PriorTraining`."""


def _prior(
    channels: int, blocks: int, batch: int, dropout: float, attention: int = 0, **fields: Any
) -> Row:
    """A row, with layers of attention of 8 heads each and the same dropout."""
    return {
        "channels": channels,
        "blocks": blocks,
        "context_blocks": 0,
        "attention_heads": 8 if attention else 0,
        "attention_layers": max(1, attention),
        "batch": batch,
        "dropout": dropout,
        "attention_dropout": dropout if attention else 0.0,
        "learning_rate": 2e-4,
        "average_decay": 0.99,
        **fields,
    }


_Size = tuple[int, int, int]
"""Channels, blocks, and blocks at every coarser level's resolution."""


def _linked_priors(size: _Size, batch: int, dropout: float, **fields: Any) -> list[Row]:
    """Of Adiban et al., table 8: one row for all levels."""
    channels, blocks, context = size
    return [
        _prior(channels, blocks, batch, dropout, 4, context_blocks=each, **fields)
        for each in (0, context, context)
    ]


def _pyramid_priors(size: _Size, batches: tuple[int, int, int], **fields: Any) -> list[Row]:
    """Of Adiban et al., table 9: top, middle, bottom."""
    channels, blocks, context = size
    top, middle, bottom = batches
    return [
        _prior(channels, blocks, top, 0.5, 4, **fields),
        _prior(channels, blocks, middle, 0.3, 1, context_blocks=context, **fields),
        _prior(channels, blocks, bottom, 0.25, context_blocks=context, **fields),
    ]


_LARGE, _MIDDLE, _SMALL = (128, 20, 20), (64, 12, 8), (64, 4, 1)
# Trains in minutes on a CPU.
_FAST: dict[str, Any] = {"learning_rate": 3e-3, "warm_up": 50, "at_once": 64}
# As many as attention over 1,024 positions leaves memory for.
_WIDE_MAPS: dict[str, Any] = {"at_once": 8}

PRIOR_PRESETS: dict[str, Sequence[Row]] = {
    "vqvae-mnist": _linked_priors(_SMALL, 512, 0.1, **_FAST)[:1],
    "vqvae-cifar10": _linked_priors(_MIDDLE, 512, 0.1, at_once=64)[:1],
    "vqvae-imagenet128": _linked_priors(_LARGE, 128, 0.15, **_WIDE_MAPS)[:1],
    "vqvae2-imagenet256": (
        _prior(512, 20, 1024, 0.1, 4, average_decay=0.9999, **_WIDE_MAPS),
        _prior(512, 20, 512, 0.1, context_blocks=20, average_decay=0.9999, **_WIDE_MAPS),
    ),
    "vqvae2-ffhq1024": (
        _prior(512, 20, 1024, 0.5, 4, average_decay=0.9999, **_WIDE_MAPS),
        _prior(512, 20, 512, 0.3, 1, context_blocks=8, average_decay=0.9999, at_once=1),
        _prior(512, 10, 256, 0.25, context_blocks=8, average_decay=0.9999, at_once=2),
    ),
    "vqvae2-ffhq256": _pyramid_priors(_LARGE, (128, 64, 32), at_once=32),
    "vqvae2-imagenet128": _pyramid_priors(_LARGE, (256, 128, 64), at_once=32),
    "vqvae2-cifar10": _pyramid_priors(_MIDDLE, (512, 512, 512), at_once=64),
    "vqvae2-mnist": _pyramid_priors(_SMALL, (512, 512, 512), **_FAST),
    "hrvqvae-ffhq256": _linked_priors(_LARGE, 32, 0.15, **_WIDE_MAPS),
    "hrvqvae-imagenet128": _linked_priors(_LARGE, 128, 0.15, **_WIDE_MAPS),
    "hrvqvae-cifar10": _linked_priors(_MIDDLE, 512, 0.1, at_once=64),
    "hrvqvae-mnist": _linked_priors(_SMALL, 512, 0.1, **_FAST),
}
"""By name and level."""


def autoencoder(name: str) -> Preset:
    """The preset of this name.

    Raises:
        CodecError: there is none.
    """
    if name not in PRESETS:
        raise CodecError(f"unknown preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]


def prior(name: str, level: int) -> Row:
    """Settings of a level's prior in a paper's system.

    Raises:
        CodecError: there is no such system, or no such level.
    """
    if name not in PRIOR_PRESETS:
        known = ", ".join(PRIOR_PRESETS)
        raise CodecError(f"unknown preset {name!r} of priors; there are: {known}")
    rows = PRIOR_PRESETS[name]
    if level >= len(rows):
        raise CodecError(f"{name} has no level {level}; its levels are 0 to {len(rows) - 1}")
    return rows[level]


def crop(name: str) -> int:
    """Side of the images of a preset, in pixels.

    Raises:
        CodecError: there is no such preset, or it is for images of any size.
    """
    settings = autoencoder(name).settings
    if "crop" not in settings:
        raise CodecError(f"preset {name!r} has no crop of its own; give it with --crop")
    side: int = settings["crop"]
    return side
