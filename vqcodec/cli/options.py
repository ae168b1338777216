"""What several commands share: arguments, options, and where images of a class go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vqcodec.errors import CodecError

_Function = TypeVar("_Function", bound=Callable[..., Any])

model_option = click.option(
    "--model",
    metavar="ID|FILE",
    help="A model of `vqcodec models`, or the path of a .safetensors file.",
)

device_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="NAME",
    help="Where to run the networks: cpu, or cuda for a GPU. The indices are the same.",
)

force_option = click.option("--force", is_flag=True, help="Replace OUT if it exists.")

quality_option = click.option(
    "--quality",
    type=click.IntRange(1, 255),
    metavar="N",
    help="One of the model's qualities; its default if not given.",
)


def drawing_options(function: _Function) -> _Function:
    """The options of commands that draw indices."""
    for option in reversed(
        (
            click.option(
                "--seed",
                type=click.IntRange(0, 2**63 - 1),
                default=0,
                show_default=True,
                metavar="N",
                help="Seed of the random numbers.",
            ),
            click.option(
                "--temperature",
                type=click.FloatRange(min=0.0, min_open=True),
                default=1.0,
                show_default=True,
                metavar="T",
                help="Below 1 nearer to the likeliest indices, above 1 more varied.",
            ),
            click.option(
                "--top-k",
                type=click.IntRange(min=1),
                metavar="K",
                help="Draw from the K likeliest indices only.",
            ),
            click.option(
                "--top-p",
                type=click.FloatRange(min=0.0, min_open=True, max=1.0),
                metavar="P",
                help="Draw from the fewest of the likeliest indices whose probabilities reach P.",
            ),
        )
    ):
        function = option(function)
    return function


def class_folder(folder: Path, name: str) -> Path:
    """The folder of a class in another one, which is itself that of images without a class.

    Args:
        folder: The other one.
        name: Of the class, "" for none. Models and archives may bring any.

    Raises:
        CodecError: it is no name, but a way out of the folder.
    """
    if name != Path(name).name or name == ".." or "\0" in name:
        raise CodecError(f"the class {name!r} cannot name a folder in {folder}; rename it")
    return folder / name
