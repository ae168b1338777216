"""`vqcodec train`: an autoencoder, its indices of many photographs, a prior for each level.

Options that are not given keep the library's defaults, so that they stand in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vqcodec.cli.console import examples
from vqcodec.cli.options import max_pixels_option

_Function = TypeVar("_Function", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)
_POSITIVE = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)
_SHARE = click.FloatRange(0, 1)


def _several(*decorators: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    """Decorators as one, in the order of the help page."""

    def decorate(function: _Function) -> _Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


_photograph_options = _several(
    click.option(
        "--images",
        "sources",
        metavar="PATH[=WEIGHT]",
        multiple=True,
        required=True,
        help="Folder or tar archive of photographs, or .npz file with the arrays of MNIST, and how "
        "often to draw from it; repeatable.",
    ),
    click.option(
        "--split",
        type=click.Choice(["all", "train", "validation"]),
        help="Which images: every eleventh of a folder is kept for validation.",
    ),
    click.option(
        "--short-side",
        type=_COUNT,
        metavar="N",
        help="Scale larger images until their shorter side has N pixels.",
    ),
    click.option(
        "--mirror/--no-mirror", default=None, help="Mirror half of the crops (the default)."
    ),
    click.option(
        "--shift",
        type=click.IntRange(min=0),
        metavar="N",
        help="Crops may leave an image by N pixels, which mirror those within.",
    ),
    click.option(
        "--zoom",
        type=click.FloatRange(min=1),
        metavar="Z",
        help="Enlarge crops, each by another factor up to Z.",
    ),
    click.option("--limit", type=_COUNT, metavar="N", help="Images of each source at most."),
    click.option("--crop", type=_COUNT, metavar="N", help="Side of a crop in pixels."),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        metavar="N",
        help="Processes that decode images ahead (half of the cores, at most 4).",
    ),
    click.option(
        "--cache",
        type=click.IntRange(min=0),
        metavar="MIB",
        help="Mebibytes of decoded images that are kept (256).",
    ),
    max_pixels_option,
)

_autoencoder_option = click.option(
    "--autoencoder",
    type=_PATH,
    metavar="FILE",
    required=True,
    help="Checkpoint of `train autoencoder`, or a weights file.",
)

_run_options = _several(
    click.option("--steps", type=_COUNT, metavar="N", help="Steps at most."),
    click.option(
        "--minutes",
        type=_POSITIVE,
        metavar="M",
        help="Minutes at most; the learning rate's schedule fits them.",
    ),
    click.option("--learning-rate", type=_POSITIVE, metavar="R", help="Peak of the schedule."),
    click.option(
        "--warm-up", type=_COUNT, metavar="N", help="Steps over which the learning rate rises."
    ),
    click.option(
        "--average-decay",
        type=click.FloatRange(0, 1, max_open=True),
        metavar="D",
        help="Decay of the weights' moving average, which is what is used in the end.",
    ),
    click.option(
        "--optimizer",
        type=click.Choice(["adamw", "muon"]),
        help="Muon is for hidden matrices alone.",
    ),
    click.option(
        "--checkpoint-minutes", type=_POSITIVE, metavar="M", help="Minutes between checkpoints."
    ),
    click.option(
        "--compile", is_flag=True, default=None, help="Compile the residual blocks; for GPUs."
    ),
)

_machine_options = _several(
    click.option("--batch", type=_COUNT, metavar="N", help="Examples at a time and process."),
    click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of random numbers."),
    click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        help="Where to run; a GPU if there is one, if not given.",
    ),
)


_classes_option = click.option(
    "--classes",
    metavar="FILE|folders",
    help="Label the crops: by a JSON list of {wnid, name}, wnid being the folders' names, or by "
    "the folders alone.",
)


@click.group(
    epilog=examples(
        "train system runs/all --preset wide --images photos/ --model-id mine-1 --minutes 480",
        "train autoencoder runs/ae --images photos/ --minutes 60",
    )
)
def command() -> None:
    """Train a model.

    First `autoencoder`, then `indices`, then one `prior` a level, then `vqcodec export`; or all of
    it by `system`. A run whose FOLDER holds a checkpoint goes on from it. Under torchrun all
    processes share one run: torchrun --nproc-per-node 2 -m vqcodec train ...
    """


@command.command(
    epilog=examples(
        "train autoencoder runs/ae --images photos/ --minutes 60",
        "train autoencoder runs/ae --images photos.tar=0.5 --images more/ --preset wide",
    )
)
@click.argument("output", metavar="FOLDER", type=_PATH)
@_photograph_options
@click.option("--preset", metavar="NAME", help="Architecture.")
@_run_options
@_machine_options
def autoencoder(output: Path, sources: tuple[str, ...], **options: Any) -> None:
    """Train the autoencoder.

    FOLDER takes checkpoint, log and settings; prints the checkpoint's name.
    """
    from vqcodec.photos import parse_source
    from vqcodec.training.autoencoder import train
    from vqcodec.training.settings import AutoencoderTraining, resolve

    images = [parse_source(source) for source in sources]
    click.echo(train(resolve(AutoencoderTraining, output=output, sources=images, **options)))


@command.command(
    epilog=examples(
        "train indices runs/indices.safetensors --images photos/ \\",
        " --autoencoder runs/ae/checkpoint.safetensors",
    )
)
@click.argument("output", metavar="FILE", type=_PATH)
@_autoencoder_option
@_photograph_options
@click.option("--count", type=_COUNT, metavar="N", help="Number of crops.")
@click.option("--levels", type=_COUNT, metavar="N", help="Only so many levels, coarsest first.")
@_classes_option
@_machine_options
def indices(output: Path, sources: tuple[str, ...], **options: Any) -> None:
    """Extract indices to train priors on.

    FILE takes the indices of random crops, each at a random quality.
    """
    from vqcodec.photos import parse_source
    from vqcodec.training.indices import extract
    from vqcodec.training.settings import Extraction, resolve

    images = [parse_source(source) for source in sources]
    click.echo(extract(resolve(Extraction, output=output, sources=images, **options)))


@command.command(
    epilog=examples(
        "train prior runs/prior-0 --level 0 --indices runs/indices.safetensors \\",
        " --autoencoder runs/ae/checkpoint.safetensors",
    )
)
@click.argument("output", metavar="FOLDER", type=_PATH)
@_autoencoder_option
@click.option(
    "--indices",
    type=_PATH,
    metavar="FILE",
    multiple=True,
    required=True,
    help="File of `train indices`; repeatable.",
)
@click.option(
    "--level",
    type=click.IntRange(min=0),
    metavar="N",
    required=True,
    help="Whose indices to predict; 0 is the coarsest.",
)
@click.option(
    "--preset", metavar="NAME", help="A paper's system, whose hyper-parameters are the defaults."
)
@click.option(
    "--start",
    type=_PATH,
    metavar="FILE",
    help="Start from the weights of this checkpoint, of a prior of the same shape.",
)
@click.option("--channels", type=_COUNT, metavar="N", help="Width of the streams.")
@click.option("--blocks", type=_COUNT, metavar="N", help="Gated blocks of the trunk.")
@click.option(
    "--context-blocks",
    type=click.IntRange(min=0),
    metavar="N",
    help="Gated blocks at every coarser level's resolution.",
)
@click.option(
    "--attention-heads",
    type=click.IntRange(min=0),
    metavar="N",
    help="Heads of the causal attention; 0 for none.",
)
@click.option("--attention-layers", type=_COUNT, metavar="N", help="Layers of that attention.")
@click.option("--head-channels", type=_COUNT, metavar="N", help="Width of a codebook's head.")
@click.option("--dropout", type=_SHARE, metavar="P", help="After each residual block.")
@click.option("--attention-dropout", type=_SHARE, metavar="P", help="On the attention's logits.")
@click.option(
    "--label-dropout", type=_SHARE, metavar="P", help="Share of examples whose class is hidden."
)
@click.option(
    "--class-power",
    type=_SHARE,
    metavar="P",
    help="How often a class is drawn: as its number of examples to the power of P (1).",
)
@click.option(
    "--at-once",
    type=_COUNT,
    metavar="N",
    help="Examples that pass at once; a batch of more takes several passes, and less memory.",
)
@_run_options
@_machine_options
def prior(output: Path, indices: tuple[Path, ...], **options: Any) -> None:
    """Train the prior of one level.

    FOLDER takes checkpoint, log and settings; prints the checkpoint's name.
    """
    from vqcodec.training.prior import train
    from vqcodec.training.settings import PriorTraining, resolve

    click.echo(train(resolve(PriorTraining, output=output, indices=list(indices), **options)))


@command.command(
    epilog=examples(
        "train synthesis runs/natural --model hvq-photo-2 --images photos/ \\",
        " --lpips vgg.safetensors --lpips alex.safetensors",
    )
)
@click.argument("output", metavar="FOLDER", type=_PATH)
@_photograph_options
@click.option(
    "--model", metavar="ID|FILE", required=True, help="Whose indices it is to restore images from."
)
@click.option(
    "--lpips",
    type=_PATH,
    metavar="FILE",
    multiple=True,
    required=True,
    help="Weights of LPIPS, once of VGG16 and once of AlexNet; benchmarks/lpips_weights.py makes "
    "them.",
)
@click.option(
    "--start",
    type=_PATH,
    metavar="FILE",
    help="Start from the weights of this checkpoint of `train synthesis`.",
)
@click.option(
    "--part", type=_COUNT, metavar="N", help="Side of what VGG16 sees of a crop, in pixels (64)."
)
@click.option(
    "--adversarial",
    type=click.FloatRange(min=0),
    metavar="R",
    help="Train a discriminator as well, whose gradient at the pixels has R times the size of the "
    "other losses'.",
)
@_run_options
@_machine_options
def synthesis(output: Path, sources: tuple[str, ...], **options: Any) -> None:
    """Train a natural synthesis for the indices of a model, which stay as they are.

    FOLDER takes checkpoint, log and settings; prints the checkpoint's name.
    """
    from vqcodec.photos import parse_source
    from vqcodec.training.settings import SynthesisTraining, resolve
    from vqcodec.training.synthesis import train

    images = [parse_source(source) for source in sources]
    options["lpips"] = list(options["lpips"])
    click.echo(train(resolve(SynthesisTraining, output=output, sources=images, **options)))


@command.command(
    epilog=examples(
        "train system runs/digits --preset hrvqvae-mnist --images mnist.npz --classes folders \\",
        " --model-id digits-1 --minutes 8",
    )
)
@click.argument("output", metavar="FOLDER", type=_PATH)
@_photograph_options
@click.option("--preset", metavar="NAME", required=True, help="Architecture.")
@click.option("--model-id", metavar="ID", required=True, help="See `vqcodec export`.")
@click.option("--minutes", type=_POSITIVE, metavar="M", required=True, help="Of the whole.")
@click.option(
    "--autoencoder-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="Share of the minutes it gets (0.4).",
)
@click.option("--count", type=_COUNT, metavar="N", help="Crops whose indices priors train on.")
@_classes_option
@click.option("--channels", type=_COUNT, metavar="N", help="Width of the priors.")
@click.option("--dropout", type=_SHARE, metavar="P", help="Of the priors.")
@_machine_options
def system(output: Path, sources: tuple[str, ...], **options: Any) -> None:
    """Train everything: autoencoder, indices, priors, weights.

    FOLDER takes it all; prints the name of the weights file. What is in FOLDER already is gone on
    with; once there is a prior, more minutes go to the priors alone. Without --crop it is that of
    the preset, if it is a paper's.
    """
    from vqcodec.photos import parse_source
    from vqcodec.training.settings import SystemTraining, resolve
    from vqcodec.training.system import train

    images = [parse_source(source) for source in sources]
    click.echo(train(resolve(SystemTraining, output=output, sources=images, **options)))
