"""`vqcodec sample`, also `generate`: new images from the priors."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqcodec.cli.console import examples, print_json, progress
from vqcodec.cli.options import (
    device_option,
    drawing_options,
    force_option,
    json_option,
    model_option,
    quality_option,
    verbosity_options,
)
from vqcodec.files import (
    STANDARD_STREAM,
    check_writable,
    class_folder,
    is_standard_stream,
    make_folder,
    write_atomically,
)

if TYPE_CHECKING:
    from vqcodec.weights_file import Model

DEFAULT_NAME = "sample.png"


def _parse_size(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """`WIDTHxHEIGHT` as (width, height)."""
    if value is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]*)[xX]([1-9][0-9]*)", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT in pixels, such as 640x480.")
    return int(match[1]), int(match[2])


@click.command(
    epilog=examples(
        "sample --class 97                                  # sample-97-0.png",
        "sample ducks.png --class drake --count 16 --grid --seed 1",
        "sample ducks.png --class drake --count 16 --grid --steps ducks.webp",
        "sample texture.png --model hvq-photo-2 --size 256x256",
    )
)
@click.argument("target", metavar="[OUT]", required=False, type=click.Path())
@click.option(
    "--class",
    "wanted",
    multiple=True,
    metavar="NAME",
    help="Draw images of this class: an index, a key, a name or a synonym of `models --classes`, "
    "or all. Can be given several times.",
)
@click.option(
    "--size",
    callback=_parse_size,
    metavar="WxH",
    help="Width and height in pixels; the model's own if not given, 256x256 if it has none.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many images, of each class; several are written to OUT-0.png, OUT-1.png, ..., of a "
    "class to OUT-CLASS-0.png, ...",
)
@click.option(
    "--folders",
    is_flag=True,
    help="Write PNG files to a folder a class, OUT/KEY/0.png, as `evaluate cas` reads them.",
)
@click.option("--grid", "as_grid", is_flag=True, help="Write one image of all, row by row.")
@click.option(
    "--columns", type=click.IntRange(min=1), metavar="N", help="Images a row of the grid."
)
@click.option(
    "--levels",
    is_flag=True,
    help="Also decode from fewer levels: in a grid one row a sample, coarse to fine; else files "
    "OUT-levels1.png, ...",
)
@click.option(
    "--steps",
    "film",
    metavar="FILE",
    help="Also write an animation, .gif or .webp, of how the images come about: coarse to fine, "
    "position by position.",
)
@drawing_options
@click.option(
    "--guidance",
    type=click.FloatRange(min=0.0),
    metavar="W",
    help="Above 1 nearer to the class and less varied, at twice the work.",
)
@click.option(
    "--keep",
    type=click.FloatRange(min=0.001, max=1.0),
    default=1.0,
    show_default=True,
    metavar="SHARE",
    help="Draw more images, and keep the share that is likeliest of its class, by the model's own "
    "priors or by a classifier.",
)
@click.option(
    "--classifier",
    metavar="SPEC",
    help="For --keep: a classifier of the model's classes, named as for `evaluate`; where two "
    "images come close, another machine may keep the other.",
)
@click.option(
    "--synthesis",
    metavar="NAME|FILE",
    help="What restores pixels: faithful, natural, or a file; natural where a model of classes has "
    "it, if not given.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Images at a time; by their size if not given. The images are the same.",
)
@quality_option
@model_option
@device_option
@force_option
@json_option
@verbosity_options
def command(
    target: str | None,
    wanted: tuple[str, ...],
    size: tuple[int, int] | None,
    count: int,
    folders: bool,
    as_grid: bool,
    columns: int | None,
    levels: bool,
    film: str | None,
    seed: int,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    guidance: float | None,
    keep: float,
    classifier: str | None,
    synthesis: str | None,
    batch: int | None,
    quality: int | None,
    model: str | None,
    device: str,
    force: bool,
    as_json: bool,
) -> None:
    """Draw new images from the priors.

    Without OUT, files in this folder are named after the class: sample-97-0.png. A seed gives the
    same indices on every machine and the same pixels whatever the batch; between machines these may
    differ by 1. Temperature, top-p and guidance are those of the model, level by level, where they
    are not given.
    """
    if columns is not None and not as_grid:
        raise click.UsageError("--columns is for --grid.")
    if classifier is not None and keep == 1:
        raise click.UsageError("--classifier needs --keep below 1.")
    if keep < 1 and not wanted:
        raise click.UsageError("--keep needs --class.")

    if folders and (as_grid or not wanted or target in (None, STANDARD_STREAM)):
        raise click.UsageError("--folders needs OUT and --class, and no --grid.")

    from vqcodec.image import dump, format_for

    image_format = "PNG" if folders or target is None else format_for(target)

    from vqcodec.drawing import animation
    from vqcodec.drawing.grid import grid, grid_size
    from vqcodec.drawing.sampling import Keeping, Place, Request, draw
    from vqcodec.drawing.shaping import shapings

    if film is not None:
        animation.check_name(film)
        check_writable(film, force=force)
    place = Place(model, device, batch)
    loaded = place.load(of_classes=bool(wanted))
    classes = _classes(loaded, wanted) if wanted else None
    width, height = size or (None, None)
    every = levels or film is not None
    request = Request(height, width, classes, count, seed, quality, every, synthesis)
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance}
    shaping = shapings(loaded, of_classes=bool(wanted), **given)
    steps = len(loaded.strides) if levels else 1
    samples = count * len(classes or [None])
    total = samples * steps
    in_rows = count if classes and len(classes) > 1 and count > 1 else None
    across = in_rows or math.ceil(math.sqrt(samples))
    if film is not None:
        animation.check_size(samples, across, *request.sides(loaded), loaded.strides)
    if as_grid:
        if columns is None:
            columns = steps if levels else in_rows or math.ceil(math.sqrt(total))
        grid_size(total, columns, *request.sides(loaded))
        targets = [[target or DEFAULT_NAME]]
    else:
        keys = [loaded.classes[n].key for n in classes or []] if folders else None
        targets = _targets(target, classes, count, steps, keys)
    if target == STANDARD_STREAM and not as_grid and total > 1:
        raise click.UsageError("Standard output takes one image: use --grid or a file name.")
    if film is not None and film in itertools.chain(*targets):
        raise click.UsageError("OUT and --steps name the same file.")
    for folder in dict.fromkeys(Path(path).parent for path, *_ in targets if folders):
        make_folder(folder)
    for path in itertools.chain(*targets):
        check_writable(path, force=force)
    keeping = Keeping(keep) if keep < 1 else None
    if classifier is not None:
        from vqcodec.metrics.classifiers import load_classifier

        keeping = Keeping(keep, load_classifier(classifier, device=device))

    with progress("sample") as advance:
        drawn = draw(request, shaping, place, keeping=keeping, progress=advance)
        if film is not None:
            kept = list(drawn)
            shown = list(animation.frames(kept, across, loaded.strides))
            write_atomically(film, animation.dump(shown, film), force=force)
            drawn = iter(kept)
        rows = ((*(each.coarser if levels else ()), each.image) for each in drawn)
        if as_grid:
            assert columns is not None
            whole = grid(list(itertools.chain(*rows)), columns)
            write_atomically(targets[0][0], dump(whole, image_format), force=force)
        else:
            for paths, images in zip(targets, rows, strict=True):
                for path, image in zip(paths, images, strict=True):
                    write_atomically(path, dump(image, image_format), force=force)
    if as_json:
        written = [*itertools.chain(*targets), *([] if film is None else [film])]
        found = {"files": written, "model": loaded.model_id, "seed": seed, "classes": classes}
        print_json(found, err=is_standard_stream(written[0]))


def _classes(model: Model, wanted: tuple[str, ...]) -> list[int]:
    """Indices of the classes that are meant, each once."""
    from vqcodec.drawing.classes import check_classes, find_classes

    check_classes(model)
    found = itertools.chain(*(find_classes(model.classes, text) for text in wanted))
    return list(dict.fromkeys(found))


def _targets(
    target: str | None,
    classes: list[int] | None,
    count: int,
    steps: int,
    keys: list[str] | None,
) -> list[list[str]]:
    """Per sample the files of what its first level gives, its first two, ..., and all of them.

    Args:
        target: OUT.
        classes: Indices of the classes, if there are any.
        count: Samples of each class.
        steps: Files a sample.
        keys: Of the classes, if each has a folder in OUT.
    """
    parts = [*(f"-levels{n}" for n in range(1, steps)), ""]
    if keys is not None:
        folders = [class_folder(Path(str(target)), key) for key in keys]
        places = [folder / str(n) for folder in folders for n in range(count)]
        return [[f"{place}{part}.png" for part in parts] for place in places]
    path = Path(target or DEFAULT_NAME)
    labels = [""] if classes is None else [f"-{index}" for index in classes]
    endings = [f"{label}-{n}" for label in labels for n in range(count)]
    if target is not None and len(endings) == 1:
        endings = [""]
    if target == STANDARD_STREAM:
        return [[STANDARD_STREAM]] * len(endings)
    return [
        [str(path.with_name(f"{path.stem}{ending}{part}{path.suffix}")) for part in parts]
        for ending in endings
    ]
