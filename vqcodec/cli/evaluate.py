"""`vqcodec evaluate`: sets of images, and the likelihood of images, as the papers judge them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vqcodec.ambient import ordinary_state
from vqcodec.cli.console import examples, print_values, progress
from vqcodec.cli.options import (
    device_option,
    force_option,
    max_pixels_option,
    model_option,
    quality_option,
    verbosity_options,
)
from vqcodec.files import check_writable, write_atomically

if TYPE_CHECKING:
    from vqcodec.metrics.classification_accuracy import Accuracy
    from vqcodec.metrics.photo_sets import Source

_Function = TypeVar("_Function", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)
_COUNT = click.IntRange(min=1)
_SPLIT = click.Choice(["all", "train", "validation"])
_DIGITS = 4

_json_option = click.option(
    "--json", "json_file", metavar="FILE", help="Also write the results here."
)
_limit_option = click.option(
    "--limit", type=_COUNT, metavar="N", help="Use at most N images of each set, evenly spread."
)
_seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Of random numbers.",
)


def _image_options(function: _Function) -> _Function:
    """Which images a model is measured on."""
    for option in reversed(
        [
            click.option(
                "--images",
                "source",
                type=_PATH,
                metavar="PATH",
                required=True,
                help="Folder or tar archive of images, or .npz file with the arrays of MNIST.",
            ),
            click.option(
                "--short-side",
                type=_COUNT,
                metavar="N",
                help="Scale larger images until their shorter side has N pixels.",
            ),
            click.option(
                "--crop",
                type=_COUNT,
                metavar="N",
                help="Side of the part in the middle that is taken; what the priors were trained "
                "on, or 256, if not given. Smaller images are left out.",
            ),
            click.option(
                "--count", type=_COUNT, metavar="N", help="At most N images, evenly spread."
            ),
        ]
    ):
        function = option(function)
    return function


@click.group(
    epilog=examples(
        "evaluate images real/ fake/",
        "evaluate reconstruct --images photos/ --out restored/",
        "evaluate likelihood --images photos/ --crop 256",
    )
)
def command() -> None:
    """Judge images and models.

    Numbers of different feature networks, image sizes and counts do not compare; the tables say
    which they are of.
    """


@command.command(
    epilog=examples(
        "evaluate images real/ fake/",
        "evaluate images real/ fake/ --reconstructions restored/ --limit 5000 --json fid.json",
    )
)
@click.argument("real", metavar="REAL", type=_PATH)
@click.argument("fake", metavar="FAKE", type=_PATH)
@click.option(
    "--reconstructions",
    type=_PATH,
    metavar="REC",
    help="Reconstructions of REAL (`evaluate reconstruct`); adds the distance to them, FID*.",
)
@click.option(
    "--features",
    metavar="NAME",
    help="Feature network: inception, efficientnet-lite0, a classifier of `evaluate cas --save`, "
    "an .onnx file, or package.module:callable. If not given, inception where its weights are "
    "here, else efficientnet-lite0.",
)
@click.option("--weights", type=_PATH, metavar="FILE", help="Weights of inception.")
@click.option("--split", type=_SPLIT, default="all", help="Which images of REAL.")
@_limit_option
@device_option
@_json_option
@force_option
@max_pixels_option
@verbosity_options
@ordinary_state()
def images(
    real: Path,
    fake: Path,
    reconstructions: Path | None,
    features: str | None,
    weights: Path | None,
    split: str,
    limit: int | None,
    device: str,
    json_file: str | None,
    force: bool,
) -> None:
    """Compare FAKE images with REAL ones.

    Frechet distance, classifier score, precision and recall between two folders or tar archives of
    images of any origin. The middle square of every image is scaled to the network's input. All
    images are held in memory at their own size.
    """
    _check_targets(json_file, force=force)

    from vqcodec.metrics.photo_sets import Source
    from vqcodec.metrics.realism import compare

    with progress("read") as advance:
        found = compare(
            Source(real, split, limit),
            Source(fake, limit=limit),
            _source(reconstructions, limit=limit),
            features=features,
            weights=weights,
            device=device,
            progress=advance,
        )
    distance, starred, score = "FID", "FID*", "Inception score"
    if not found.standard:
        distance = f"Frechet distance ({found.network} features)"
        starred = f"{distance} to reconstructions"
        score = f"classifier score ({found.network})"
    values: dict[str, object] = {
        "feature network": found.network,
        "real images": found.real_images,
        "fake images": found.fake_images,
        distance: f"{found.frechet:.{_DIGITS}g}",
    }
    if found.frechet_reconstructions is not None:
        values["reconstructions"] = found.reconstructions
        values[starred] = f"{found.frechet_reconstructions:.{_DIGITS}g}"
    values[score] = f"{found.score.mean:.{_DIGITS}g}"
    if found.score.parts > 1:
        values[score] = f"{values[score]} +- {found.score.deviation:.2g}"
    values |= {"precision": f"{found.precision:.4f}", "recall": f"{found.recall:.4f}"}
    print_values(values)
    restored = {"source": str(reconstructions), "images": found.reconstructions}
    results = {
        "features": found.network,
        "is_fid": found.standard,
        "real": {"source": str(real), "split": split, "images": found.real_images},
        "fake": {"source": str(fake), "images": found.fake_images},
        "reconstructions": None if reconstructions is None else restored,
        "frechet": found.frechet,
        "frechet_reconstructions": found.frechet_reconstructions,
        "score": asdict(found.score),
        "precision": found.precision,
        "recall": found.recall,
    }
    _write_json(json_file, results, force=force)


@command.command(
    epilog=examples(
        "evaluate cas --train samples/ --test photos/",
        "evaluate cas --train samples/ --test photos/ --json cas.json",
    )
)
@click.option(
    "--train",
    "train_source",
    type=_PATH,
    metavar="SOURCE",
    required=True,
    help="What to train on, samples or real images, in one folder a class: a folder, a tar "
    "archive, or an .npz file with the arrays of MNIST.",
)
@click.option("--train-split", type=_SPLIT, default="all", show_default=True)
@click.option(
    "--test", type=_PATH, metavar="SOURCE", required=True, help="Real images to test with."
)
@click.option("--test-split", type=_SPLIT, default="all", show_default=True)
@click.option(
    "--test-reconstructions",
    type=_PATH,
    metavar="SOURCE",
    help="Reconstructions of the test images (`evaluate reconstruct`), tested with as well.",
)
@click.option(
    "--baseline",
    type=_PATH,
    metavar="SOURCE",
    help="Real images; the same classifier trained on them gives what the score is a share of.",
)
@click.option("--baseline-split", type=_SPLIT, default="all", show_default=True)
@click.option(
    "--side",
    type=_COUNT,
    default=64,
    show_default=True,
    metavar="N",
    help="Pixels a side, a multiple of 16; images are scaled to it.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    metavar="M",
    help="About how long to train on this machine; makes the number of steps.",
)
@click.option(
    "--steps", type=_COUNT, metavar="N", help="Steps of 128 images, instead of --minutes."
)
@click.option(
    "--mirror/--no-mirror", default=True, help="Mirror half of the images; not for digits."
)
@_seed_option
@_limit_option
@device_option
@click.option("--save", metavar="FILE", help="Write the classifier here (.safetensors).")
@_json_option
@force_option
@max_pixels_option
@verbosity_options
@ordinary_state()
def cas(
    train_source: Path,
    train_split: str,
    test: Path,
    test_split: str,
    test_reconstructions: Path | None,
    baseline: Path | None,
    baseline_split: str,
    side: int,
    minutes: float,
    steps: int | None,
    mirror: bool,
    seed: int,
    limit: int | None,
    device: str,
    save: str | None,
    json_file: str | None,
    force: bool,
) -> None:
    """Train a classifier on images, test it on others.

    The classification accuracy score: a small residual network that saw only the images of --train
    classifies those of --test. Classes are the names of the folders; test images of other classes
    are left out. The same seed and steps give the same classifier on the same machine.
    """
    _check_targets(json_file, save, force=force)

    from vqcodec.metrics.classification_accuracy import classification_score
    from vqcodec.metrics.photo_sets import Source

    with progress("read") as advance:
        found = classification_score(
            Source(train_source, train_split, limit),
            Source(test, test_split, limit),
            reconstructions=_source(test_reconstructions, limit=limit),
            baseline=_source(baseline, baseline_split, limit),
            side=side,
            minutes=minutes,
            steps=steps,
            seed=seed,
            mirror=mirror,
            device=device,
            progress=advance,
        )
    labels = found.training.labels
    rows = [
        [name, len(each.classes), each.left_out, *_percents(found.accuracies[name])]
        for name, each in found.tests.items()
    ]
    _print_table(["tested with", "images", "left out", "top-1, %", "top-5, %"], rows)
    values: dict[str, object] = {
        "trained on": f"{len(found.training.classes)} images of {len(labels)} classes",
        "steps": found.settings.steps,
    }
    results: dict[str, Any] = {
        "train": {"source": str(train_source), "split": train_split},
        "test": {"source": str(test), "split": test_split},
        "classes": len(labels),
        "training_images": len(found.training.classes),
        "settings": {"side": side, **asdict(found.settings)},
        "accuracy": {name: asdict(each) for name, each in found.accuracies.items()},
        "images": {name: len(each.classes) for name, each in found.tests.items()},
        "left_out": {name: each.left_out for name, each in found.tests.items()},
    }
    if found.baseline is not None:
        top1, top5 = _percents(found.baseline)
        values["trained on real images"] = f"top-1 {top1} %, top-5 {top5} %"
        for name, share in found.shares.items():
            values[f"share, {name}"] = f"{100 * share:.1f} %"
        results["baseline"] = {
            "source": str(baseline),
            "split": baseline_split,
            "training_images": found.baseline_images,
            **asdict(found.baseline),
            "shares": found.shares,
        }
    print_values(values)
    if save is not None:
        found.network.save(Path(save), labels, force=force)
    _write_json(json_file, results, force=force)


@command.command(
    epilog=examples(
        "evaluate likelihood --images photos/ --crop 256 --split validation",
    )
)
@_image_options
@click.option(
    "--split",
    type=click.Choice(["all", "train", "validation", "both"]),
    default="all",
    show_default=True,
    help="Which images; `both` shows train and validation side by side.",
)
@model_option
@quality_option
@device_option
@_json_option
@force_option
@max_pixels_option
@verbosity_options
@ordinary_state()
def likelihood(
    source: Path,
    short_side: int | None,
    crop: int | None,
    count: int | None,
    split: str,
    model: str | None,
    quality: int | None,
    device: str,
    json_file: str | None,
    force: bool,
) -> None:
    """Measure a model's likelihood of images.

    Of every level: nats a symbol and bits per pixel under its integer prior, and the mean squared
    error (8-bit units) of the image restored from it and all coarser levels.
    """
    _check_targets(json_file, force=force)

    from vqcodec.metrics.likelihood import measure
    from vqcodec.metrics.photo_sets import Crops, Source

    with progress("read") as advance:
        found = measure(
            Crops(Source(source, limit=count), crop, short_side),
            ["train", "validation"] if split == "both" else [split],
            model,
            quality=quality,
            device=device,
            progress=advance,
        )
    rows = []
    for name, part in found.splits.items():
        for n, level in enumerate(part.levels):
            row = [f"{level.nll:.4f}", f"{level.bpp:.5f}", f"{level.mse:.2f}"]
            rows.append([name, n, *row, part.images, part.labelled])
        rows.append([name, "all", "", f"{part.bpp:.5f}", "", "", ""])
    columns = ["split", "level", "nll, nats a symbol", "bpp", "MSE", "images", "of known class"]
    _print_table(columns, rows)
    content = {
        "model": found.model.model_id,
        "weights_sha256": found.model.sha256,
        "source": str(source),
        "quality": found.quality,
        "side": found.side,
        "short_side": short_side,
        "splits": {name: {**asdict(each), "bpp": each.bpp} for name, each in found.splits.items()},
    }
    _write_json(json_file, content, force=force)


@command.command(
    epilog=examples(
        "evaluate reconstruct --images photos/ --out restored/ --count 5000",
    )
)
@_image_options
@click.option("--split", type=_SPLIT, default="all", show_default=True, help="Which images.")
@click.option(
    "--out",
    "target",
    type=_PATH,
    metavar="FOLDER",
    required=True,
    help="Takes the reconstructions as PNG files, in one folder a class.",
)
@model_option
@quality_option
@device_option
@force_option
@max_pixels_option
@verbosity_options
@ordinary_state()
def reconstruct(
    source: Path,
    short_side: int | None,
    crop: int | None,
    count: int | None,
    split: str,
    target: Path,
    model: str | None,
    quality: int | None,
    device: str,
    force: bool,
) -> None:
    """Write what a model's autoencoder restores of images.

    For FID* and for classification scores after reconstruction.
    """
    from vqcodec.metrics.photo_sets import Crops, Source
    from vqcodec.metrics.reconstruction import write_reconstructions

    with progress("read") as advance:
        written = write_reconstructions(
            Crops(Source(source, split, count), crop, short_side),
            target,
            model=model,
            quality=quality,
            device=device,
            force=force,
            progress=advance,
        )
    print_values({"images": written, "reconstructions": target})


def _source(path: Path | None, split: str = "all", limit: int | None = None) -> Source | None:
    """A source that may not be given."""
    from vqcodec.metrics.photo_sets import Source

    return None if path is None else Source(path, split, limit)


def _check_targets(*targets: str | None, force: bool) -> None:
    for target in targets:
        if target is not None:
            check_writable(target, force=force)


def _write_json(target: str | None, results: Mapping[str, Any], *, force: bool) -> None:
    if target is not None:
        text = json.dumps(results, indent=2, allow_nan=False) + "\n"
        write_atomically(target, text.encode(), force=force)


def _percents(found: Accuracy) -> list[str]:
    return [f"{100 * found.top1:.2f}", f"{100 * found.top5:.2f}"]


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their longest text, the first to the left, numbers to the right."""
    texts = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in texts) for n in range(len(columns))]
    for row in texts:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
