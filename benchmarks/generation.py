"""How good a class-conditional generator is: the measurements of Razavi et al. 2019, section 4.

    python benchmarks/generation.py tiny-imagenet.tar.xz --out runs/generation

Images lie in a folder for each class, named by the model's keys; every eleventh is kept apart for
validation, as in training. Measured: likelihoods and errors on both parts (table 1), the
classification accuracy score (table 2), and what keeping only the samples that a classifier, or the
priors themselves, like best does to precision and recall (figure 7). And how near samples come to
training images, beside how near validation images do, with a picture of each sample and its nearest
training image. Samples are kept in the output folder, and not drawn again if they are there.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import click
import torch
from torch import Tensor

from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.cli.console import progress
from vqcodec.drawing import sampling
from vqcodec.drawing.classes import check_classes
from vqcodec.drawing.grid import grid
from vqcodec.errors import CodecError
from vqcodec.files import class_folder, write_atomically
from vqcodec.image import Image, dump
from vqcodec.metrics.classification_accuracy import (
    RECONSTRUCTIONS,
    TEST,
    Accuracy,
    classification_score,
)
from vqcodec.metrics.classifiers import Classifier, load_classifier
from vqcodec.metrics.copying import NEAR, nearness
from vqcodec.metrics.likelihood import measure
from vqcodec.metrics.photo_sets import Crops, Source, centre
from vqcodec.metrics.realism import (
    classifier_score,
    frechet_distance,
    judged,
    precision_and_recall,
)
from vqcodec.metrics.reconstruction import reconstruct, write_reconstructions
from vqcodec.photos import Photo, in_split, open_photos
from vqcodec.progress import Progress
from vqcodec.registry import default_generator
from vqcodec.syntheses import FAITHFUL
from vqcodec.weights_file import Model, load

KEEPS = (1.0, 0.5, 0.25)
LIKELIHOODS = 4000  # images of either split
PARTS = ("likelihood", "cas", "keep", "memory")
SHOWN = 10  # classes of SOURCE, evenly spread, whose samples are compared with training images
PAIRS = 8  # samples of a class in the picture, the first ones


def samples(
    folder: Path, name: str, classes: Sequence[int], count: int, synthesis: str | None = None
) -> Source:
    """Samples in a folder a class, which are drawn, all or none, if they are not there."""
    if not folder.exists():
        model = load(name)
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        request = sampling.Request(classes=classes, count=count, synthesis=synthesis)
        total = count * len(classes)
        start = time.perf_counter()
        drawn = sampling.draw(request, place=sampling.Place(name))
        for each in tracked(drawn, "samples", total):
            assert each.class_index is not None
            path = class_folder(partial, model.classes[each.class_index].key)
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / f"{each.number:06d}.png", dump(each.image, "PNG"), force=True)
        partial.rename(folder)
        click.echo(f"{total} samples: {1000 * (time.perf_counter() - start) / total:.1f} ms each")
    return Source(folder)


def evidence_of(
    model: Model, name: str, classes: Sequence[int], count: int, advance: Progress
) -> dict[str, list[float]]:
    """What the priors say for the first samples of each class, by its key."""
    request = sampling.Request(classes=classes, count=count)
    place, keeping = sampling.Place(name), sampling.Keeping(1.0)
    found: dict[str, list[float]] = {}
    for each in sampling.draw(request, place=place, keeping=keeping, progress=advance):
        assert each.class_index is not None
        assert each.score is not None
        found.setdefault(model.classes[each.class_index].key, []).append(each.score)
    return found


def measure_likelihood(model: str, crops: Crops) -> None:
    def gap(train: float, validation: float) -> str:
        return f"{validation / train - 1:+.2%}"

    splits = measure(crops, ("train", "validation"), model).splits
    train, validation = splits["train"], splits["validation"]
    rows = [
        [f"{n}", f"{a.nll:.4f}", f"{b.nll:.4f}", gap(a.nll, b.nll), f"{a.mse:.1f}", f"{b.mse:.1f}"]
        for n, (a, b) in enumerate(zip(train.levels, validation.levels, strict=True))
    ]
    a, b = train.bpp, validation.bpp
    rows.append(["all, bpp", f"{a:.4f}", f"{b:.4f}", gap(a, b), "", ""])
    print_table(
        f"Nats a symbol, and MSE from this and all coarser levels: {train.images} training and "
        f"{validation.images} validation images",
        ["level", "nats, train", "validation", "gap", "MSE, train", "validation"],
        rows,
    )


def measure_cas(
    sets: Mapping[str, Source],
    real: Source,
    again: Source,
    side: int,
    steps: int,
    advance: Progress,
) -> None:
    scores = {
        what: classification_score(
            own, real, reconstructions=again, side=side, steps=steps, progress=advance
        )
        for what, own in sets.items()
    }
    best = scores["real images"].accuracies[TEST].top1

    def cells(found: Accuracy) -> list[str]:
        return [f"{found.top1:.2%} / {found.top5:.2%}", f"{found.top1 / best:.1%}"]

    tested = len(scores["real images"].tests[TEST].classes)
    print_table(
        f"CAS: classifiers trained for {steps} steps, top-1 / top-5 on {tested} "
        "validation images of the same classes",
        ["trained on", "images", "real", "share", "reconstructed", "share"],
        [
            [what, len(each.training.classes)]
            + [cell for test in (TEST, RECONSTRUCTIONS) for cell in cells(each.accuracies[test])]
            for what, each in scores.items()
        ],
    )


def measure_keep(
    model: Model,
    fake: list[Photo],
    real: list[Photo],
    again: list[Photo],
    evidence: Mapping[str, Sequence[float]],
    features: str,
    advance: Progress,
) -> None:
    """Measures keeping some of the samples, of which there are as many of every class.

    Args:
        model: That drew them.
        fake: The samples, class by class.
        real: Validation images.
        again: Their reconstructions.
        evidence: What the priors say for each sample of a class.
        features: The classifier.
        advance: Is told of the progress.
    """
    classifier = load_classifier(features)
    # Without names of its own, its classes are in the order of the model's.
    labels = classifier.labels or tuple(each.key for each in model.classes)
    if classifier.classes != len(labels):
        raise CodecError(f"{classifier.name} has {classifier.classes} classes, not {len(labels)}")
    keys = dict.fromkeys(photo.label for photo in fake)
    if unknown := keys.keys() - set(labels):
        raise CodecError(f"{classifier.name} does not know {min(unknown)}; use another")

    def judge(stage: str, photos: list[Photo]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Probabilities, features, and of every photo its class and whether it is recognized."""
        probabilities, rows = judged(classifier, photos, stage, advance)
        own = torch.tensor([labels.index(photo.label) for photo in photos])
        return probabilities, rows, own, (probabilities.argmax(1) == own).double()

    probabilities, fake_rows, own, right = judge("samples", fake)
    _, real_rows, _, known = judge("real images", real)
    _, again_rows, _, known_again = judge("reconstructions", again)
    judges = {
        "classifier": probabilities.gather(1, own[:, None]).view(len(keys), -1),
        "priors": torch.tensor([evidence[key] for key in keys]),
    }
    candidates = judges["classifier"].shape[1]
    wanted = round(candidates * min(KEEPS))
    five = (probabilities.topk(min(5, len(labels))).indices == own[:, None]).any(1).double()

    def compared(keep: float, judge: str) -> list[object]:
        best = judges[judge][:, : round(wanted / keep)].topk(wanted, 1).indices
        chosen = (torch.arange(len(keys))[:, None] * candidates + best).flatten()
        rows = fake_rows[chosen]
        shares = precision_and_recall(real_rows, rows)
        recognized = (float(each[chosen].mean()) for each in (right, five))
        return [
            f"{keep:g}",
            judge if keep < 1 else "-",
            len(chosen),
            *(f"{frechet_distance(each, rows):.1f}" for each in (real_rows, again_rows)),
            f"{classifier_score(probabilities[chosen]).mean:.2f}",
            *(f"{each:.3f}" for each in shares),
            *(f"{each:.1%}" for each in recognized),
        ]

    print_table(
        f"Samples against {len(real)} validation images, by the features of {features}; it "
        f"recognizes {known.mean():.1%} of these, {known_again.mean():.1%} of their "
        f"reconstructions, whose Frechet distance is {frechet_distance(real_rows, again_rows):.1f}",
        [
            "keep",
            "judge",
            "samples",
            "Frechet",
            "Frechet*",
            "score",
            "precision",
            "recall",
            "recognized",
            "in five",
        ],
        [compared(1.0, "priors")]
        + [compared(keep, judge) for judge in judges for keep in KEEPS if keep < 1],
    )


def measure_memory(
    model: Model,
    fake: Sequence[Photo],
    training: Sequence[Photo],
    unseen: Sequence[Photo],
    classifier: Classifier,
    picture: Path,
    advance: Progress,
) -> None:
    """Measures how near samples come to training images, and writes both side by side.

    What is compared are features of the samples and of what the autoencoder restores of the others,
    so that all of them are as sharp.

    Args:
        model: That drew the samples.
        fake: The samples, class by class.
        training: Training images of the same classes.
        unseen: Validation images of the same classes.
        classifier: With features.
        picture: The file to write.
        advance: Is told of the progress.
    """
    side = model.side
    assert side is not None

    def features_of(stage: str, photos: Sequence[Photo]) -> Tensor:
        return judged(classifier, photos, stage, advance)[1] if photos else torch.empty(0, 0)

    def restored(photos: Sequence[Photo]) -> list[Photo]:
        found = reconstruct(model, photos, side=side, progress=advance)
        return [
            Photo(pixels.numpy(), photo.label) for pixels, photo in zip(found, photos, strict=True)
        ]

    fake_rows = features_of("samples", fake)
    training_rows = features_of("training images", restored(training))
    unseen_rows = features_of("validation images", restored(unseen))
    names = {each.key: each.name.split(",")[0] for each in model.classes}
    rows: list[list[object]] = []
    shown: list[Image] = []
    for key in dict.fromkeys(photo.label for photo in fake):
        ours, theirs, others = (
            torch.tensor(
                [n for n, photo in enumerate(photos) if photo.label == key], dtype=torch.int64
            )
            for photos in (fake, training, unseen)
        )
        unseen_here = unseen_rows[others] if len(others) else torch.empty(0, fake_rows.shape[1])
        found = nearness(training_rows[theirs], fake_rows[ours], unseen_here)
        for sample, number in zip(ours[:PAIRS], found.nearest[:PAIRS], strict=True):
            shown.append(Image(fake[sample].pixels, grey=False))
            nearest = centre(training[theirs[number]], side).numpy()
            shown.append(Image(nearest, grey=False))
        rows.append(
            [
                names[key],
                len(ours),
                len(theirs),
                f"{found.distances.median():.3f}",
                f"{found.unseen.median():.3f}" if len(others) else "-",
                "-" if found.ratio is None else f"{found.ratio:.3f}",
                "-" if found.near is None else f"{found.near:.1%}",
            ]
        )
    write_atomically(picture, dump(grid(shown, 2 * PAIRS), "WEBP"), force=True)
    print_table(
        f"Distance to the nearest training image of the class, by the features of "
        f"{classifier.name}; a sample is near that is nearer than all but {NEAR:.0%} of the "
        f"validation images. {picture} has samples and their nearest training images",
        ["class", "samples", "training", "median", "validation", "ratio", "near"],
        rows,
    )


def of_classes(
    sources: Sequence[Path], split: str, keys: Collection[str], side: int
) -> list[Photo]:
    """The images of some classes in a split, scaled to a shorter side; perhaps none."""
    found = []
    for path in sources:
        photos = open_photos(path, 1, short_side=side)
        seen: Counter[str] = Counter()
        for n, label in enumerate(photos.labels):
            if label in keys and in_split(seen[label], split):
                found.append(photos[n])
            seen[label] += 1
    return [photo for photo in found if min(photo.pixels.shape[:2]) >= side]


@click.command(cls=Command)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--model", metavar="ID|FILE", help="The packaged generator if not given.")
@click.option("--out", "output", type=click.Path(path_type=Path), default=Path("runs/generation"))
@click.option("--count", default=200, show_default=True, help="Samples of each class, for CAS.")
@click.option("--judged", "candidates", default=40, show_default=True, help="Of each, for keep.")
@click.option("--steps", default=2000, show_default=True, help="Of CAS's classifiers.")
@click.option("--features", default="efficientnet-lite0", show_default=True)
@click.option(
    "--also",
    "others",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Further training images, for memory; of classes that SOURCE lacks, too.",
)
@click.option(
    "--class", "wanted", multiple=True, type=int, help="For memory: also of this class, by index."
)
@click.option("--part", "parts", multiple=True, default=PARTS, type=click.Choice(PARTS))
def main(
    source: Path,
    model: str | None,
    output: Path,
    count: int,
    candidates: int,
    steps: int,
    features: str,
    others: tuple[Path, ...],
    wanted: tuple[int, ...],
    parts: tuple[str, ...],
) -> None:
    """Measures the generator on the classes of SOURCE, a folder or archive of class folders."""
    model = model or default_generator()
    loaded = load(model)
    if loaded.side is None:
        raise CodecError(f"{loaded.model_id} draws no classes; name a model that does")
    side = loaded.side
    keys = set(open_photos(source, side).labels)
    classes = [n for n, each in enumerate(loaded.classes) if each.key in keys]
    if unknown := keys - {loaded.classes[n].key for n in classes}:
        raise CodecError(f"{loaded.model_id} does not know {min(unknown)}; leave it out of SOURCE")
    if "likelihood" in parts:
        measure_likelihood(model, Crops(Source(source, limit=LIKELIHOODS), side, side))
    if "cas" in parts or "keep" in parts:
        fake = samples(output / f"samples-{loaded.sha256[:8]}-{count}", model, classes, count)
        real = Source(source, "validation")
        with tempfile.TemporaryDirectory() as folder, progress("reconstruct") as advance:
            again = Source(Path(folder))
            write_reconstructions(
                Crops(real, side, side), again.path, model=model, progress=advance
            )
            if "cas" in parts:
                sets = {"real images": Source(source, "train"), "samples": fake}
                measure_cas(sets, real, again, side, steps, advance)
            if "keep" in parts:
                some = [photo for n, photo in enumerate(fake.read()) if n % count < candidates]
                evidence = evidence_of(loaded, model, classes, candidates, advance)
                measure_keep(
                    loaded, some, real.read(side, side), again.read(), evidence, features, advance
                )
    if "memory" in parts:
        step = max(1, len(classes) // SHOWN)
        shown = list(dict.fromkeys([*wanted, *classes[::step][:SHOWN]]))
        check_classes(loaded, *shown)
        known = {loaded.classes[n].key for n in shown}
        name = f"memory-{loaded.sha256[:8]}-{candidates}-{'-'.join(map(str, shown))}"
        sources = [source, *others]
        training = of_classes(sources, "train", known, side)
        if missing := known - {photo.label for photo in training}:
            raise CodecError(f"there is no training image of {min(missing)}; name some by --also")
        fake = samples(output / name, model, shown, candidates, FAITHFUL)
        with progress("memory") as advance:
            measure_memory(
                loaded,
                fake.read(),
                training,
                of_classes(sources, "validation", known, side),
                load_classifier(features),
                output / "nearest.webp",
                advance,
            )
    print_made(model)


if __name__ == "__main__":
    main()
