"""Arguments and options that several commands share."""

from __future__ import annotations

import click

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
