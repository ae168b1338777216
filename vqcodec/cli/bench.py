"""`vqcodec bench`: bitrate, distortion and speed beside the codecs a user would pick instead."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from vqcodec.ambient import ordinary_state
from vqcodec.choosing.tunes import DEFAULT_TUNE, TUNES
from vqcodec.cli.console import examples, extra_for, print_values, progress
from vqcodec.cli.options import (
    effort_option,
    force_option,
    max_pixels_option,
    model_option,
    verbosity_options,
)
from vqcodec.registry import DEFAULT_MODEL

_PATH = click.Path(path_type=Path)
FILE_PEERS = ("jpeg", "webp", "avif", "avif-psnr", "jpeg2000", "jxl")
_SPEED_PEERS = ("bmshj2018-factorized", "mbt2018", "cheng2020-anchor")
_OF_MEASURING = ("qualities", "variants", "views", "lpips", "dists", "runs", "profile", "keep")
_OF_BLIND = ("rates", "crops", "seed")
_BLIND_PEERS = ("avif",)


@click.command(
    epilog=examples(
        "bench photos/ --out results",
        "bench photos/ --out results --quality 20 --quality 60 --peer avif --profile",
        "bench photos/ --out blind --blind --bpp 0.12",
    )
)
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True, type=_PATH)
@click.option(
    "--out", metavar="DIR", required=True, type=_PATH, help="Folder for results, page and plots."
)
@model_option
@click.option(
    "--quality",
    "qualities",
    type=click.IntRange(1, 255),
    multiple=True,
    metavar="N",
    help="One of the model's qualities; repeatable. All if not given, or 12 of many.",
)
@effort_option
@click.option(
    "--variant",
    "variants",
    multiple=True,
    default=[DEFAULT_TUNE],
    metavar="TUNE|FILE",
    help=f"How to compress: {', '.join(TUNES)}, or {DEFAULT_TUNE} and weights that `export "
    "--synthesis` wrote to restore; repeatable. The first is the main one, each other one has "
    "curves of its own.",
)
@click.option(
    "--peer",
    "peers",
    type=click.Choice([*FILE_PEERS, *_SPEED_PEERS, "none"]),
    multiple=True,
    default=[*FILE_PEERS, *_SPEED_PEERS],
    metavar="NAME",
    help="A codec to measure beside: "
    f"{', '.join(FILE_PEERS)}; for time alone {', '.join(_SPEED_PEERS)}; none. Repeatable; all if "
    f"not given, with --blind {', '.join(_BLIND_PEERS)}. What is not installed is named in the "
    "results.",
)
@click.option(
    "--view",
    "views",
    type=_PATH,
    multiple=True,
    metavar="IMAGE",
    help="An image to look at side by side in the page; repeatable. The first of IMAGES if not "
    "given.",
)
@click.option("--lpips", type=_PATH, metavar="FILE", help="Weights of LPIPS, to measure that too.")
@click.option("--dists", type=_PATH, metavar="FILE", help="Weights of DISTS, to measure that too.")
@click.option(
    "--runs",
    type=click.IntRange(1),
    metavar="N",
    help="Encode and decode each image N times. If not given, so often that a quality has five "
    "timings.",
)
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="torch's default if not given."
)
@click.option(
    "--profile",
    is_flag=True,
    help="Also find out where the bits and the time go, to 25 megapixels.",
)
@click.option("--keep", is_flag=True, help="Keep the files of all codecs in DIR/files.")
@click.option(
    "--blind",
    is_flag=True,
    help="Measure nothing: write DIR/blind.html, which asks a person which of two restorations "
    "from equal bytes is nearer to the original, and tells at the end whose they were.",
)
@click.option(
    "--bpp",
    "rates",
    type=click.FloatRange(min=0.0, min_open=True),
    multiple=True,
    default=[0.06, 0.12, 0.25],
    show_default=True,
    metavar="B",
    help="Bits per pixel at which --blind compares; repeatable.",
)
@click.option(
    "--crops",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Crops that --blind shows of each image at each rate.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the crops, order and sides of --blind.",
)
@force_option
@max_pixels_option
@verbosity_options
@click.pass_context
@ordinary_state()
def command(
    context: click.Context,
    images: tuple[Path, ...],
    out: Path,
    model: str | None,
    qualities: tuple[int, ...],
    effort: int,
    variants: tuple[str, ...],
    peers: tuple[str, ...],
    views: tuple[Path, ...],
    lpips: Path | None,
    dists: Path | None,
    runs: int | None,
    threads: int | None,
    profile: bool,
    keep: bool,
    blind: bool,
    rates: tuple[float, ...],
    crops: int,
    seed: int,
    force: bool,
) -> None:
    """Measure IMAGES, files or folders, and write DIR/report.html and DIR/results.json.

    Every image is compressed to a real file at every quality, by vqcodec and by other codecs;
    bitrate, distortion, seconds and memory are compared.

    With --blind a person compares instead.
    """
    _check_given(context, blind)
    asked = shlex.join(["vqcodec", *sys.argv[1:]])
    if blind:
        if not _is_given(context, "peers"):
            peers = _BLIND_PEERS
        with extra_for("bench"):
            from vqcodec.bench import blind as comparing

        with progress("bench") as advance:
            session = comparing.run(
                comparing.Settings(
                    images=images,
                    out=out,
                    model=model or DEFAULT_MODEL,
                    effort=effort,
                    peers=[peer for peer in peers if peer != "none"],
                    rates=rates,
                    crops=crops,
                    seed=seed,
                    threads=threads,
                    force=force,
                    command=asked,
                ),
                advance,
            )
        for line in session.left_out:
            click.echo(f"left out: {line}", err=True)
        print_values({"comparisons": len(session.comparisons), "page": out / comparing.PAGE})
        return

    with extra_for("bench"):
        from vqcodec.bench.codecs import Variant
        from vqcodec.bench.report import PAGE
        from vqcodec.bench.run import RESULTS, Settings, run
        from vqcodec.bench.tables import own_names

    settings = Settings(
        images=images,
        out=out,
        model=model or DEFAULT_MODEL,
        qualities=qualities,
        effort=effort,
        variants=[Variant.of(name) for name in variants],
        peers=[peer for peer in peers if peer != "none"],
        views=views,
        weights={
            metric: path
            for metric, path in (("lpips", lpips), ("dists", dists))
            if path is not None
        },
        runs=runs,
        threads=threads,
        profile=profile,
        keep=keep,
        force=force,
        command=asked,
    )
    with progress("bench") as advance:
        results = run(settings, advance)
    for missing in results["missing"]:
        click.echo(
            f"missing: {missing['name']}: {missing['reason']}; {missing['remedy']}", err=True
        )
    of = {key: f" of {name}" if name else "" for key, name in own_names(results).items()}
    print_values(
        {
            f"quality {each['quality']}{of[each['codec']]}": point_text(each)
            for each in results["points"]
            if each["codec"] in of
        }
        | {
            f"BD-rate{of[each['codec']]} against {each['anchor']}": _delta(each)
            for each in _measured(results)
        }
        | {"seconds": f"{results['made']['seconds']:.0f}"}
        | {"results": out / RESULTS, "page": out / PAGE}
    )


def _check_given(context: click.Context, blind: bool) -> None:
    """Refuses options, and peers, that what is asked for has no use of."""
    useless = _OF_MEASURING if blind else _OF_BLIND
    for parameter in context.command.params:
        if parameter.name in useless and _is_given(context, parameter.name):
            why = "measures, and --blind doesn't" if blind else "is for --blind"
            raise click.UsageError(f"{parameter.opts[0]} {why}; leave it out.")
    if blind and _is_given(context, "peers"):
        for peer in context.params["peers"]:
            if peer in _SPEED_PEERS:
                raise click.UsageError(f"{peer} has time alone to show, and --blind shows images.")


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def _ours(point: dict[str, Any]) -> bool:
    return bool(point["codec"] == "vqcodec")


def point_text(point: dict[str, Any]) -> str:
    """What the command prints of a point of the results."""
    psnr = "an image without loss" if point["psnr"] is None else f"{point['psnr']:.2f} dB"
    seconds = f"{point['encode_seconds']:.2f} s, {point['decode_seconds']:.2f} s back"
    return f"{point['bpp']:.4f} bpp, {psnr}, {seconds}"


def _delta(comparison: dict[str, Any]) -> str:
    rate, span = comparison["bd_rate_percent"]["pchip"], comparison["overlap_metric"]
    if rate is None:
        return "-, there are no two curves with a range in common"
    return f"{rate:+.1f} % from {span[0]:.1f} to {span[1]:.1f} dB"


def _measured(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        each
        for each in results["comparisons"]
        if each["source"] == "measured" and each["metric"] == "psnr"
    ]
