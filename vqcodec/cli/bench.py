"""`vqcodec bench`: bitrate, distortion and speed beside the codecs a user would pick instead."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from vqcodec.cli.console import print_values, progress
from vqcodec.cli.options import effort_option, force_option, model_option
from vqcodec.errors import CodecError
from vqcodec.registry import DEFAULT_MODEL

_PATH = click.Path(path_type=Path)
FILE_PEERS = ("jpeg", "webp", "avif", "avif-psnr", "jpeg2000", "jxl")
_SPEED_PEERS = ("bmshj2018-factorized", "mbt2018", "cheng2020-anchor")


@click.command()
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
    "--synthesis",
    "syntheses",
    multiple=True,
    default=["faithful"],
    metavar="NAME|FILE",
    help="What restores: faithful, natural, or weights that `export --synthesis` wrote; "
    "repeatable. The first is the main one, each other one has curves of its own.",
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
    "not given. What is not installed is named in the results.",
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
@force_option
def command(
    images: tuple[Path, ...],
    out: Path,
    model: str | None,
    qualities: tuple[int, ...],
    effort: int,
    syntheses: tuple[str, ...],
    peers: tuple[str, ...],
    views: tuple[Path, ...],
    lpips: Path | None,
    dists: Path | None,
    runs: int | None,
    threads: int | None,
    profile: bool,
    keep: bool,
    force: bool,
) -> None:
    """Measure IMAGES, files or folders, and write DIR/report.html and DIR/results.json.

    Every image is compressed to a real file at every quality, by vqcodec and by other codecs;
    bitrate, distortion, seconds and memory are compared.
    """
    try:
        from vqcodec.bench.codecs import Variant
        from vqcodec.bench.report import PAGE
        from vqcodec.bench.run import RESULTS, Settings, run
        from vqcodec.bench.tables import own_names
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("vqcodec"):
            raise
        raise CodecError(
            f"bench needs {error.name}, which is not installed; pip install 'vqcodec[bench]'"
        ) from error

    settings = Settings(
        images=images,
        out=out,
        model=model or DEFAULT_MODEL,
        qualities=qualities,
        effort=effort,
        variants=[Variant(synthesis) for synthesis in syntheses],
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
        command=shlex.join(["vqcodec", *sys.argv[1:]]),
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
