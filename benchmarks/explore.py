"""A short training of a variant of the preset `wide`, for the table in ablations.md.

Everything but the variant is the same: crops and their qualities, steps, seed. What needs no
variant has an option here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vqcodec.bench.command import Command
from vqcodec.models.autoencoder import AutoencoderConfig, LevelConfig
from vqcodec.photos import parse_source
from vqcodec.training.autoencoder import train
from vqcodec.training.presets import PRESETS, WIDE, Preset, books
from vqcodec.training.settings import AutoencoderTraining, resolve

COARSE, MIDDLE, FINE = WIDE.levels
FIRST_GROUPS = 12  # codebooks of FINE before the group of share 0.43


def every_level(change: Callable[[LevelConfig], LevelConfig]) -> AutoencoderConfig:
    return replace(WIDE, levels=tuple(map(change, WIDE.levels)))


def codes(count: int) -> AutoencoderConfig:
    """All codebooks with so many codes."""

    def change(level: LevelConfig) -> LevelConfig:
        sized = tuple(book._replace(num_embeddings=count) for book in level.codebooks)
        return replace(level, codebooks=sized)

    return every_level(change)


def width(factor: float) -> AutoencoderConfig:
    """The networks so many times as wide, in multiples of 16 channels."""
    return every_level(lambda each: replace(each, channels=round(each.channels * factor / 16) * 16))


def depth(more: int) -> AutoencoderConfig:
    """So many blocks more in every analysis and synthesis."""
    return every_level(
        lambda each: replace(
            each,
            analysis_blocks=each.analysis_blocks + more,
            synthesis_blocks=each.synthesis_blocks + more,
        )
    )


def slices(level: LevelConfig, *dims: int) -> LevelConfig:
    """The level with slices of these sizes in place of those that all qualities have."""
    kept = tuple(book for book in level.codebooks if book.share)
    return replace(level, codebooks=(*books(*((128, dim) for dim in dims)), *kept))


def levels(*configs: LevelConfig) -> AutoencoderConfig:
    return replace(WIDE, levels=configs)


VARIANTS = {
    "wide": WIDE,
    "codes-64": codes(64),
    "codes-256": codes(256),
    "strides-16-8": levels(slices(MIDDLE, 1, 2, 4, 8, 8), FINE),
    "strides-32-16-8-4": levels(
        COARSE,
        MIDDLE,
        replace(FINE, codebooks=FINE.codebooks[:FIRST_GROUPS]),
        LevelConfig(4, books(*((128, dim) for dim in (2, 2, 4, 8))), 96, 2, 3, 64),
    ),
    "largest-first": levels(COARSE, MIDDLE, slices(FINE, 16, 8, 8, 4, 4, 2, 2)),
    "smaller-fine": levels(COARSE, MIDDLE, slices(FINE, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8)),
    "smaller-coarse": levels(
        slices(COARSE, 1, 1, 1, 2, 2, 4, 4), slices(MIDDLE, 1, 1, 2, 2, 4, 4, 8), FINE
    ),
    "narrow": width(0.67),
    "wider": width(1.5),
    "deeper": depth(2),
    "choice-1": replace(WIDE, choice_weight=1.0),
}


@click.command(cls=Command)
@click.argument("variant", type=click.Choice(list(VARIANTS)))
@click.argument("output", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--images",
    metavar="PATH[=WEIGHT]",
    multiple=True,
    required=True,
    help="As of `vqcodec train`; repeatable.",
)
@click.option("--steps", type=click.IntRange(min=1), default=600, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--crop", type=click.IntRange(min=1), default=128, show_default=True)
@click.option(
    "--optimizer", type=click.Choice(["adamw", "muon"]), default="muon", show_default=True
)
def main(variant: str, output: Path, images: tuple[str, ...], **options: Any) -> None:
    """Train a VARIANT briefly; FOLDER takes its checkpoint, log and settings."""
    PRESETS[variant] = Preset(VARIANTS[variant])
    train(
        resolve(
            AutoencoderTraining,
            output=output,
            sources=[parse_source(each) for each in images],
            preset=variant,
            warm_up=100,
            average_decay=0.99,
            **options,
        )
    )


if __name__ == "__main__":
    main()
