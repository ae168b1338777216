"""`vqcodec corpus`: sets of images, as many as there are, to `.vqz` files or tokens and back."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vqcodec.cli.console import (
    error_line,
    examples,
    is_quiet,
    print_error,
    print_json,
    print_values,
    progress,
    size_text,
)
from vqcodec.cli.options import (
    byte_size,
    check_exclusive,
    device_option,
    json_option,
    lossless_option,
    max_pixels_option,
    model_option,
    quality_option,
    target_options,
    verbosity_options,
)
from vqcodec.corpus.names import ENGINES, FILES, FORMATS, LOCAL
from vqcodec.errors import CodecError, OutputError, one_line
from vqcodec.progress import images_bar

if TYPE_CHECKING:
    from vqcodec.corpus.site import Outcome

_Function = TypeVar("_Function", bound=Callable[..., Any])

_DEFAULT_SECONDS = 600.0
_ERRORS_SHOWN = 20


@click.group(
    epilog=examples(
        "corpus compress photos small --quality 40",
        "corpus tokenize 'shards/*.tar' tokens --format parquet --bits",
        "corpus compress s3://bucket/photos s3://bucket/small --engine ray --workers 64",
        "corpus verify small --deep",
    )
)
def command() -> None:
    """Compress, restore or tokenize sets of images, as many as there are.

    SRC and DST are folders, or URLs such as s3://bucket/photos; SRC may also be tar shards
    (WebDataset) or Parquet files, such as 'shards/*.tar'. The same command again goes on where it
    was stopped or killed. DST/errors.csv lists what failed, DST/_vqcodec has the plan, and
    manifests with a row an image.
    """


def _effort_option(default: int) -> Callable[[_Function], _Function]:
    return click.option(
        "--effort",
        type=click.IntRange(1, 9),
        default=default,
        show_default=True,
        metavar="N",
        help="1 to 9; higher is slower, and better for the bytes it takes.",
    )


_to_option = click.option(
    "--to",
    default="PNG",
    show_default=True,
    metavar="NAME",
    help="Format of the pictures, such as PNG or WEBP.",
)

_strip_option = click.option(
    "--strip", is_flag=True, help="Keep no metadata, not even the colour profile."
)


def _memory(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    return None if text is None else byte_size(text)


def _corpus_options(function: _Function) -> _Function:
    """What all commands but `verify` have."""
    for option in reversed(
        (
            click.argument("source", metavar="SRC"),
            click.argument("target", metavar="DST"),
            click.option(
                "--format",
                "output_format",
                type=click.Choice(FORMATS),
                default=FILES,
                show_default=True,
                help="A file for every image, or shards: tar files as of WebDataset, or Parquet.",
            ),
            click.option(
                "--source-format",
                type=click.Choice(FORMATS),
                help="What SRC holds; if not given, what its first file says.",
            ),
            click.option(
                "--shard-size",
                type=click.IntRange(min=1),
                default=10_000,
                show_default=True,
                metavar="N",
                help="Images of a shard.",
            ),
            click.option(
                "--engine",
                type=click.Choice(ENGINES),
                default=LOCAL,
                show_default=True,
                help="Processes of this machine, or Ray Data on a cluster.",
            ),
            click.option(
                "--workers",
                "-j",
                type=click.IntRange(min=0),
                metavar="N",
                help="How many; as many as this machine, or the cluster, has processors for if "
                "not given; 0 for this process alone, without limits.",
            ),
            click.option(
                "--threads",
                type=click.IntRange(min=1),
                default=1,
                show_default=True,
                metavar="N",
                help="Of each worker.",
            ),
            click.option(
                "--on-error",
                type=click.Choice(["skip", "fail"]),
                default="skip",
                show_default=True,
                help="What an image does that fails: it is listed, or ends the run.",
            ),
            click.option(
                "--max-seconds",
                type=click.FloatRange(min=0.0, min_open=True),
                default=_DEFAULT_SECONDS,
                show_default=True,
                metavar="S",
                help="Of one image, or it has failed.",
            ),
            click.option(
                "--max-memory",
                callback=_memory,
                metavar="BYTES",
                help="Of a worker, such as 4000MB, or its image has failed; its share of the "
                "machine's if not given.",
            ),
        )
    ):
        function = option(function)
    return verbosity_options(json_option(max_pixels_option(function)))


@command.command(
    epilog=examples(
        "corpus compress photos small --quality 40",
        "corpus compress photos small --bpp 0.25 --format webdataset --shard-size 1000",
    )
)
@_corpus_options
@quality_option
@target_options
@_effort_option(5)
@lossless_option
@_strip_option
@model_option
@device_option
def compress(**given: Any) -> None:
    """Compress images to .vqz files."""
    _run("compress", given)


@command.command(epilog=examples("corpus decompress small photos --to WEBP"))
@_corpus_options
@_to_option
@model_option
@device_option
def decompress(**given: Any) -> None:
    """Restore images from .vqz files."""
    _run("decompress", given)


def _pixels(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    """Width and height such as 64x64."""
    if text is None:
        return None
    if not (match := re.fullmatch(r"([1-9]\d{0,6})x([1-9]\d{0,6})", text, re.ASCII)):
        raise click.BadParameter(f"{text!r} is no size; give WxH in pixels, such as 64x64.")
    return int(match[1]), int(match[2])


@command.command(
    epilog=examples(
        "corpus tokenize photos tokens --format parquet --pixels 64x64 --quality 40",
        "corpus tokenize small tokens --format parquet --bits  # of .vqz files",
    )
)
@_corpus_options
@quality_option
@target_options
@_effort_option(1)
@_strip_option
@click.option(
    "--bits",
    is_flag=True,
    help="Also the bits of every image's tokens under the model's priors; takes longer.",
)
@click.option(
    "--pixels",
    callback=_pixels,
    metavar="WxH",
    help="All images have this size, so that lists of tokens are of fixed size; others fail.",
)
@model_option
@device_option
def tokenize(**given: Any) -> None:
    """Turn images or .vqz files into index maps.

    Files and members of shards are safetensors files, rows of Parquet files have a list of
    integers for every level.
    """
    _run("tokenize", given)


@command.command(
    epilog=examples(
        "corpus detokenize tokens photos",
        "corpus detokenize tokens small --to VQZ               # files, bit for bit",
    )
)
@_corpus_options
@_to_option
@model_option
@device_option
def detokenize(**given: Any) -> None:
    """Restore images, or .vqz files, from index maps."""
    _run("detokenize", given)


@command.command(
    epilog=examples("corpus verify small", "corpus verify small --source photos --deep")
)
@click.argument("target", metavar="DST")
@click.option(
    "--source", metavar="SRC", help="Compare the SHA-256 of every source, too; it may have moved."
)
@click.option("--deep", is_flag=True, help="Also decode everything.")
@json_option
@verbosity_options
@click.pass_context
def verify(ctx: click.Context, target: str, source: str | None, deep: bool, as_json: bool) -> None:
    """Check a finished corpus.

    Its plan, its manifests and its files have to agree: every image there once, with the bytes
    that were made, and nothing else.
    """
    from vqcodec.corpus import plan as plans
    from vqcodec.corpus import sources, verification
    from vqcodec.corpus.store import absolute, open_store

    plan = plans.read(open_store(absolute(target)))
    if plan is None:
        raise CodecError("is no corpus; name the DST of a run").in_file(target)
    store = None if source is None else open_store(sources.split(absolute(source))[0])
    images = failed = 0
    faults: list[str] = []
    with images_bar(plan.images, shown=not is_quiet()) as bar:
        for found in verification.verify(plan, deep=deep, source=store):
            images, failed = images + found.images, failed + found.failed
            bar.advance(found.images, found.failed, 0, 0, 0)
            for fault in found.faults:
                bar.say(error_line(one_line(fault)))
            faults += found.faults
    values = {"images": images, "failed": failed, "faults": len(faults)}
    if as_json:
        print_json({**values, "lines": faults})
    else:
        print_values(values)
    if faults:
        ctx.exit(1)


def _run(name: str, given: dict[str, Any]) -> None:
    """Make or find the plan, do what is left of it, and print the account.

    Raises:
        click.exceptions.Exit: Some image has failed, now or before.
    """
    targets = {
        each: given[each]
        for each in ("bpp", "size", "max_size", "psnr", "ssimulacra2")
        if each in given
    }
    check_exclusive(quality=given.get("quality"), **targets)
    if given.get("pixels") and any(value is not None for value in targets.values()):
        raise click.UsageError("--pixels is of one quality; give --quality.")

    from vqcodec.corpus import run
    from vqcodec.corpus.local import Limits
    from vqcodec.corpus.store import absolute
    from vqcodec.corpus.work import Work

    start = time.perf_counter()
    names = ("quality", "effort", "lossless", "strip", "bits", "pixels", "device")
    asked = {each: given[each] for each in names if each in given} | targets
    if "to" in given:
        asked["to"] = _checked_format(given["to"], tokens=name == "detokenize")
    model = given["model"]
    if model is not None and model.endswith(".safetensors"):
        model = absolute(model)
    wish = run.Wish(
        source=given["source"],
        target=given["target"],
        work=Work(name, model=model, **asked),
        format=given["output_format"],
        source_format=given["source_format"],
        shard_size=given["shard_size"],
        threads=given["threads"],
    )
    workers = given["workers"]
    if workers is None:
        workers = _workers(given["engine"], given["threads"])
    with progress("plan") as advance:
        plan = wish.plan(lambda images: advance(f"plan, {images} images", images, images))
    limits = Limits(given["max_seconds"], given["max_memory"])
    shown = 0
    with images_bar(plan.images, shown=not is_quiet()) as bar:

        def tell(outcome: Outcome) -> None:
            nonlocal shown
            bar.advance(*outcome[:5])
            for line in outcome.errors[: max(0, _ERRORS_SHOWN - shown)]:
                bar.say(error_line(one_line(line)))
            shown += len(outcome.errors)

        summary = run.run(
            plan,
            workers=workers,
            engine=given["engine"],
            limits=limits,
            fail=given["on_error"] == "fail",
            begin=bar.begin,
            tell=tell,
        )
    if shown > _ERRORS_SHOWN:
        print_error(f"... and {shown - _ERRORS_SHOWN} more; see errors.csv")
    seconds = time.perf_counter() - start
    _report(summary, seconds, given["as_json"])
    if summary.failed:
        raise click.exceptions.Exit(1)


def _report(summary: Any, seconds: float, as_json: bool) -> None:
    now = summary.images + summary.failed - summary.before
    rate = now / seconds if seconds else math.inf
    if as_json:
        print_json({**summary._asdict(), "seconds": seconds, "images_per_second": rate})
        return
    print_values(
        {
            "images": summary.images,
            "failed": summary.failed,
            "before": summary.before,
            "megapixels": f"{summary.pixels / 1e6:.2f}",
            "bytes in": f"{summary.bytes_in} ({size_text(summary.bytes_in)})",
            "bytes out": f"{summary.bytes_out} ({size_text(summary.bytes_out)})",
            "seconds": f"{seconds:.2f}",
            "images/s": f"{rate:.2f}",
        }
    )


def _workers(engine: str, threads: int) -> int:
    from vqcodec.corpus.local import workers_for

    if engine == LOCAL:
        return workers_for(threads)

    from vqcodec.corpus import cluster

    return max(1, cluster.processors() // threads)


def _checked_format(name: str, *, tokens: bool) -> str:
    """A format of pictures, or VQZ of tokens.

    Raises:
        OutputError: there is none of this name.
    """
    from vqcodec.image import check_format

    if name.upper().lstrip(".") == "VQZ":
        if tokens:
            return "VQZ"
        raise OutputError("a .vqz file is restored to pictures; give another --to")
    return check_format(name)
