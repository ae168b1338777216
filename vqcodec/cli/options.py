"""The options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from click.shell_completion import CompletionItem

from vqcodec import limits
from vqcodec.choosing.effort import DEFAULT_EFFORT, MAX_EFFORT
from vqcodec.choosing.keeping import AUTO, LOSSLESS
from vqcodec.choosing.tunes import DEFAULT_TUNE, TUNES
from vqcodec.container import MAX_QUALITY
from vqcodec.registry import MODELS

if TYPE_CHECKING:
    from vqcodec.piece import Region

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _models(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What a shell offers for a model: its id, or any file."""
    found = [CompletionItem(each) for each in MODELS if each.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


model_option = click.option(
    "--model",
    metavar="ID|FILE",
    shell_complete=_models,
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


def _quality(ctx: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    """A quality that a file can have; which ones there are is the model's business."""
    if value is not None and not 1 <= value <= MAX_QUALITY:
        raise click.BadParameter(f"{value} is no quality; give one from 1 up.")
    return value


quality_option = click.option(
    "--quality",
    type=int,
    callback=_quality,
    metavar="N",
    help="One of the model's qualities, 1 to 100 for the default model; the middle one if not "
    "given.",
)

effort_option = click.option(
    "--effort",
    type=click.IntRange(1, MAX_EFFORT),
    default=DEFAULT_EFFORT,
    show_default=True,
    metavar="N",
    help=f"1 to {MAX_EFFORT}; higher is slower, and better for the bytes it takes.",
)

tune_option = click.option(
    "--tune",
    type=click.Choice(list(TUNES)),
    default=DEFAULT_TUNE,
    show_default=True,
    help="What the search for indices is for: the least squared error, the best SSIMULACRA 2 and "
    "MS-SSIM, or what suits the natural synthesis.",
)


lossless_option = click.option(
    "--lossless",
    type=click.Choice(LOSSLESS),
    default=AUTO,
    show_default=True,
    help="Keep every pixel: where that takes no more bytes, fits the size, or alone has the score; "
    "always; or never.",
)


def byte_size(text: str) -> int:
    """A number of bytes, such as 40000, 40kB, 1.5MB, 64KiB or 1e4, rounded down; in any case.

    Raises:
        click.BadParameter: it is none.
    """
    number, unit = r"([0-9]{0,15}\.?[0-9]{1,15}(?:e\+?[0-9]{1,2})?)", r"([km]i?)?b?"
    match = re.fullmatch(f"{number} ?{unit}", text.strip().lower(), re.ASCII)
    units = {None: 1, "k": 10**3, "m": 10**6, "ki": 2**10, "mi": 2**20}
    size = int(Decimal(match[1]) * units[match[2]]) if match else 0
    if size < 1:
        raise click.BadParameter(f"{text!r} is no size; give bytes, such as 40000, 40kB or 1.5MB.")
    return size


def region(ctx: click.Context, parameter: click.Parameter, text: str | None) -> Region | None:
    """A part of an image such as 0,0,512,384.

    Raises:
        click.BadParameter: it is none.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", text, re.ASCII)
    if not match:
        raise click.BadParameter(f"{text!r} is no region; give X,Y,W,H in pixels.")
    x, y, width, height = map(int, match.groups())
    return x, y, width, height


def piece_options(function: _Function) -> _Function:
    """The options that ask for a part of an image, or for a smaller one."""
    for option in reversed(
        (
            click.option(
                "--region",
                callback=region,
                metavar="X,Y,W,H",
                help="This part only, in pixels from the top left; decodes the tiles around it.",
            ),
            click.option(
                "--max-side",
                type=click.IntRange(min=1),
                metavar="N",
                help="No side longer than N pixels; decodes the levels that are seen at that size.",
            ),
        )
    ):
        function = option(function)
    return function


def target_options(function: _Function) -> _Function:
    """The options that ask for a size or a score instead of a quality."""
    positive = click.FloatRange(min=0.0, min_open=True)
    for option in reversed(
        (
            click.option(
                "--bpp",
                type=positive,
                metavar="B",
                help="Bits of the file per pixel, met within 2 %.",
            ),
            click.option(
                "--size",
                type=byte_size,
                metavar="BYTES",
                help="Size of the file, such as 40kB: never more, and at least 98 % of it.",
            ),
            click.option(
                "--max-size",
                type=byte_size,
                metavar="BYTES",
                help="The best that fits into so many bytes; less if the best quality needs less.",
            ),
            click.option(
                "--psnr",
                type=positive,
                metavar="DB",
                help="PSNR of the restored image, met within 0.1 dB, or without loss.",
            ),
            click.option(
                "--ssimulacra2",
                type=float,
                metavar="N",
                help="SSIMULACRA 2 of the restored image, met within 0.5, or without loss.",
            ),
        )
    ):
        function = option(function)
    return function


def _remember(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    """For the functions of `console`, of this command and of those below it."""
    if value:
        ctx.meta[f"vqcodec.{parameter.name}"] = True


def verbosity_options(function: _Function) -> _Function:
    """The options of what is told on standard error; what prints there knows of them."""
    for option in reversed(
        (
            click.option(
                *("--quiet", "-q"),
                is_flag=True,
                expose_value=False,
                callback=_remember,
                help="Show no progress, and say nothing of what is left out.",
            ),
            click.option(
                *("--verbose", "-v"),
                is_flag=True,
                expose_value=False,
                callback=_remember,
                help="Tell stages and their seconds.",
            ),
        )
    ):
        function = option(function)
    return function


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def _limit(ctx: click.Context, parameter: click.Parameter, value: int | None) -> None:
    """Has the limit hold for the command and the processes it starts."""
    if value is not None:
        before = os.environ.get(limits.VARIABLE)
        os.environ[limits.VARIABLE] = str(value)
        ctx.call_on_close(partial(_put_back, before))


def _put_back(before: str | None) -> None:
    os.environ.pop(limits.VARIABLE)
    if before is not None:
        os.environ[limits.VARIABLE] = before


max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1, 10**18 - 1),
    metavar="N",
    expose_value=False,
    callback=_limit,
    help="Refuse pictures and files of more pixels before they take memory; if not given, "
    f"${limits.VARIABLE} or {limits.DEFAULT:,}.",
)


def reading_options(function: _Function) -> _Function:
    """The options of reading a picture."""
    for option in reversed(
        (
            click.option(
                "--strip", is_flag=True, help="Keep no metadata, not even the colour profile."
            ),
            click.option(
                "--keep-metadata",
                is_flag=True,
                help="Keep all metadata: EXIF whole, XMP, IPTC, texts. If neither is given, the "
                "colour profile unless it is sRGB, and EXIF without GPS position and maker notes.",
            ),
            click.option(
                "--frame",
                type=click.IntRange(min=0),
                metavar="N",
                help="Of an animation or several pages take this one; the first is 0.",
            ),
            click.option(
                "--frames",
                type=click.Choice(["all"]),
                help="Every frame or page to a file of its own, named OUT-000.vqz and so on.",
            ),
            click.option(
                "--tone-map",
                is_flag=True,
                help="Make a picture of floating-point light (HDR, EXR, float TIFF).",
            ),
            click.option(
                "--allow-damaged",
                is_flag=True,
                help="Take of a damaged picture what can be read.",
            ),
        )
    ):
        function = option(function)
    return function


def many_options(function: _Function) -> _Function:
    """The options of commands that take many files."""
    for option in reversed(
        (
            click.option(
                "--out",
                metavar="DIR",
                help="Write to this folder, made if it is not there; IN may be many files, "
                "folders, and patterns such as '*.png'.",
            ),
            click.option(
                "--recursive",
                "-r",
                is_flag=True,
                help="Look into the folders of folders; DIR mirrors them.",
            ),
            click.option(
                "--jobs",
                "-j",
                type=click.IntRange(min=1),
                default=1,
                show_default=True,
                metavar="N",
                help="Processes that work on as many files at a time.",
            ),
            click.option(
                "--skip-existing",
                is_flag=True,
                help="Leave outputs that exist as they are: goes on where a run was stopped.",
            ),
            click.option(
                "--dry-run", is_flag=True, help="Only say what would be written of which file."
            ),
        )
    ):
        function = option(function)
    return function


def check_exclusive(**given: object) -> None:
    """Checks that of some options at most one is given.

    Args:
        given: Their values; None and False are not given.

    Raises:
        click.UsageError: Several are.
    """
    names = [name for name, value in given.items() if value is not None and value is not False]
    if len(names) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in names[:2])
        raise click.UsageError(f"{first} and {second} exclude each other; give one of them.")


def keep_of(strip: bool, keep_metadata: bool) -> Literal["none", "common", "all"]:
    """The `Keep` that two options ask for.

    Raises:
        click.UsageError: both are given.
    """
    check_exclusive(strip=strip, keep_metadata=keep_metadata)
    return "none" if strip else "all" if keep_metadata else "common"


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
