"""New images from the priors.

    class, seed, number  ->  indices, level by level through the wavefront  ->  image

Between the seed and the indices there are integers only, so a seed gives the same indices on every
machine. The networks between the indices and the pixels compute in floating point, one image at a
time, as such results depend on the batch: pixels are the same whatever the batch, and differ by 1
at most between machines.

Source: ancestral sampling, level by level, and rejection by a classifier are those of Razavi et al.
2019, section 3.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from operator import attrgetter, mul
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from vqcodec import compiling, kernels, registry
from vqcodec.ambient import each_in_ordinary_state, ordinary_state
from vqcodec.drawing.classes import check_classes, listed
from vqcodec.drawing.judging import evidence
from vqcodec.drawing.shaping import Shaping, draw_with, shapings
from vqcodec.entropy import payload
from vqcodec.errors import CodecError
from vqcodec.image import Image
from vqcodec.progress import Progress
from vqcodec.registry import DEFAULT_MODEL, default_generator
from vqcodec.syntheses import NATURAL, synthesis_of
from vqcodec.threads import share
from vqcodec.tiling import crop, padded
from vqcodec.weights_file import Model, load

MAX_SIDE = 4096
MIN_SHARE = 0.001
DEFAULT_SIDE = 256
DEFAULT_BATCH = 4
JUDGED_AT_ONCE = 16
BATCH_PIXELS = 64 * 64 * 64

Classifier = Callable[[Tensor], Tensor]
"""Pixels uint8 [B, H, W, 3] to probabilities or their logarithms, float [B, classes].

Its classes are those of the model, in their order, unless it has an attribute `labels` that is not
None: the keys of its own classes in their order.
"""

_Item = tuple[int | None, int]
"""Class and number of an image."""


@dataclass(frozen=True)
class Request:
    """What to draw.

    Attributes:
        height: Pixels, at most `MAX_SIDE`; None for the side of the model's own images.
        width: Pixels, at most `MAX_SIDE`; None likewise.
        classes: Draw images of these classes of the model; None for no class.
        count: How many images, of each class if there are classes.
        seed: Of the random numbers, 0 or more.
        quality: The quality whose indices are imitated; None for the middle.
        levels: Whether to decode from fewer levels, too.
        synthesis: What restores pixels of all levels, see `syntheses.synthesis_of`; None for the
            natural synthesis of a model of classes, if it has one, and else the faithful one.

    Raises:
        CodecError: a count or a seed that cannot be.
    """

    height: int | None = None
    width: int | None = None
    classes: Sequence[int] | None = None
    count: int = 1
    seed: int = 0
    quality: int | None = None
    levels: bool = False
    synthesis: str | Path | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise CodecError(f"cannot sample {self.count} images; give 1 or more")
        if self.seed < 0:
            raise CodecError(f"cannot sample with seed {self.seed}; give 0 or more")

    def sides(self, model: Model) -> tuple[int, int]:
        """Height and width of what a model draws.

        Raises:
            CodecError: a side is out of its limits.
        """
        own = model.side or DEFAULT_SIDE
        height = own if self.height is None else self.height
        width = own if self.width is None else self.width
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise CodecError(
                f"cannot sample {width}x{height} pixels; both sides must be 1 to {MAX_SIDE}"
            )
        return height, width


@dataclass(frozen=True)
class Place:
    """Where to draw.

    Attributes:
        model: A model id or a weights file; None for the packaged one.
        device: Where to run the networks.
        batch: Images or tiles at a time, which changes none of them; None for as many as suit.

    Raises:
        CodecError: a batch that cannot be.
    """

    model: str | Path | None = None
    device: str = "cpu"
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise CodecError(f"cannot draw {self.batch} at a time; give 1 or more")

    def load(self, *, of_classes: bool) -> Model:
        """The model; if None was named, the packaged one that draws with classes or without."""
        model = self.model or (default_generator() if of_classes else DEFAULT_MODEL)
        return load(model, self.device)


HERE = Place()
"""The packaged model on the CPU."""


@dataclass(frozen=True)
class Keeping:
    """Draw more images of each class than are wanted, and keep the likeliest.

    Attributes:
        share: ceil(count / share) images of each class are drawn, and `count` of them kept.
        classifier: Says how likely an image is of its class; None for the model's own priors, see
            `judging.evidence`.

    Raises:
        CodecError: a share that cannot be.
    """

    share: float
    classifier: Classifier | None = None

    def __post_init__(self) -> None:
        if not MIN_SHARE <= self.share <= 1:
            limits = f"from {MIN_SHARE} to 1"
            raise CodecError(f"cannot keep {self.share} of the images; give a share {limits}")

    def candidates(self, count: int) -> int:
        """How many images are drawn to keep `count`."""
        # A share such as 0.7 is no binary number, and 7 / 0.7 is not quite 10.
        return math.ceil(count / Fraction(self.share).limit_denominator(1 << 20))


@dataclass(frozen=True)
class Sample:
    """A drawn image.

    Attributes:
        image: The image.
        number: Its number among those of its seed and class, from 0.
        class_index: Its class, or None if it was drawn without one.
        coarser: If asked for, what the first level gives alone, the first two, and so on; the last
            of these is without the finest level.
        score: What it is kept by: the classifier's probability of its class, or the evidence for
            it by the model's own priors; None where all are kept.
    """

    image: Image
    number: int
    class_index: int | None = None
    coarser: tuple[Image, ...] = ()
    score: float | None = None


@ordinary_state()
def sample(
    height: int | None = None,
    width: int | None = None,
    *,
    classes: Sequence[int] | None = None,
    count: int = 1,
    seed: int = 0,
    quality: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    guidance: float | None = None,
    model: str | Path | None = None,
    device: str = "cpu",
    batch: int | None = None,
    progress: Progress | None = None,
) -> list[Image]:
    """Draws new images from the priors.

    Args:
        height: See `Request`, as for the next five.
        width: Pixels.
        classes: Indices of classes.
        count: How many images, of each class if there are classes.
        seed: Of the random numbers.
        quality: The quality whose indices are imitated.
        temperature: See `Shaping`, as for the next three; None for what the model has as its own.
        top_k: Draw from so many of the likeliest indices.
        top_p: Draw from the likeliest indices whose probabilities reach this sum.
        guidance: Above 1 nearer to the class and less varied; needs classes, and twice the work.
        model: See `Place`, as for the next two.
        device: Where to run the networks.
        batch: Images at a time.
        progress: Called with (stage, done, total), over all images.

    Returns:
        `count` images; with classes so many of each, class by class.

    Raises:
        CodecError: no such model, quality or class, or values that cannot be.
    """
    request = Request(height, width, classes, count, seed, quality)
    place = Place(model, device, batch)
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance}
    of_classes = classes is not None
    how = shapings(place.load(of_classes=of_classes), of_classes=of_classes, **given)
    drawn = draw(request, how, place, progress=progress)
    return [each.image for each in drawn]


@ordinary_state()
def draw(
    request: Request,
    shaping: Shaping | Sequence[Shaping] | None = None,
    place: Place = HERE,
    *,
    keeping: Keeping | None = None,
    progress: Progress | None = None,
) -> Iterator[Sample]:
    """Draws new images from the priors, and gives them as they are ready.

    The indices of image n of a class and a seed are the same whatever the count, the batch, the
    other classes or the machine; its pixels too, but for a difference of 1 at most between
    machines. Which images are kept is the same by the model's own priors; it rests on a
    classifier's probabilities, which are floating point: where two come close, another machine may
    keep the other.

    Args:
        request: What to draw.
        shaping: How probabilities are changed, of all levels or of each; None for what the model
            has as its own, which guides only where there are classes.
        place: Where.
        keeping: Which of the images to give, in the order of their numbers; None for all.
        progress: Called with (stage, done, total), over all images.

    Returns:
        The samples, class by class.

    Raises:
        CodecError: no such model, quality or class, or values that cannot be; at the call, before
            anything is drawn. Later only what the classifier raises, or if its classes are others.
    """
    classes = request.classes
    if classes is None and keeping is not None:
        raise CodecError("keeping the likeliest of a class needs a class; name one")
    model = place.load(of_classes=classes is not None)
    if classes is not None:
        check_classes(model, *classes)
    if shaping is None:
        shaping = shapings(model, of_classes=classes is not None)
    each_level = (shaping,) * len(model.strides) if isinstance(shaping, Shaping) else tuple(shaping)
    if len(each_level) != len(model.strides):
        reason = f"{len(each_level)} shapings for the {len(model.strides)} levels"
        raise CodecError(f"{reason} of {model.model_id}; give one, or one per level")
    if classes is None and any(each.guided for each in each_level):
        raise CodecError("guidance needs a class to guide to; name one")
    by_priors = keeping is not None and keeping.classifier is None
    sampler = _Sampler(model, request, each_level, by_priors)
    wanted = [None] if classes is None else dict.fromkeys(classes)
    candidates = request.count if keeping is None else keeping.candidates(request.count)
    drawn = sampler.draw(list(itertools.product(wanted, range(candidates))), place.batch, progress)
    if keeping is None:
        return each_in_ordinary_state(drawn)
    if keeping.classifier is None:
        return each_in_ordinary_state(_likeliest(drawn, request.count))
    keys = [each.key for each in model.classes]
    labels = list(getattr(keeping.classifier, "labels", None) or keys)
    for index in classes or ():
        if keys[index] not in labels:
            raise CodecError(
                f"the classifier does not know class {listed(model.classes, [index])}; "
                "leave that class out or use another classifier"
            )
    judged = _judged(drawn, keeping.classifier, labels, keys)
    return each_in_ordinary_state(_likeliest(judged, request.count))


def bit_generator(seed: int, class_index: int | None, number: int) -> np.random.BitGenerator:
    """The random bits of an image: others for every seed, class and number."""
    label = [] if class_index is None else [class_index + 1]
    return np.random.PCG64([seed, number, *label])


class _Sampler:
    """What all images of one call share."""

    def __init__(
        self, model: Model, request: Request, shapings: Sequence[Shaping], scored: bool
    ) -> None:
        self.model = model
        self.height, self.width = request.sides(model)
        self.quality = model.checked_quality(request.quality) - 1
        self.seed = request.seed
        self.levels = request.levels
        name = request.synthesis
        if name is None and model.classes and model.model_id in registry.SYNTHESES:
            name = NATURAL
        self.synthesis = synthesis_of(model, name)
        self.shapings = shapings
        self.scored = scored

    def draw(
        self, items: Sequence[_Item], batch: int | None, progress: Progress | None
    ) -> Iterator[Sample]:
        """Draws these images, some at a time."""
        tell = None if progress is None else partial(progress, "compile")
        compiling.prepare(len(items) * self.height * self.width, tell)
        shapes = self._shapes()
        work = [rows * columns for rows, columns in shapes]
        if batch is None:
            batch = max(DEFAULT_BATCH, BATCH_PIXELS // (self.height * self.width))
        for first in range(0, len(items), batch):
            some = items[first : first + batch]

            def report(done: float, before: int = first, count: int = len(some)) -> None:
                if progress is not None:
                    share = before * sum(work) + round(count * done)
                    progress("sample", share, len(items) * sum(work))

            indices = self._indices(some, work, report)
            scores = self._scores(some, indices) if self.scored else [None] * len(some)
            yield from self._decoded(some, indices, scores)

    def _shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of every level."""
        strides = self.model.strides
        sides = (padded(self.height, strides[0]), padded(self.width, strides[0]))
        return [(sides[0] // stride, sides[1] // stride) for stride in strides]

    def _indices(
        self, items: Sequence[_Item], work: Sequence[int], report: Callable[[float], None]
    ) -> list[Tensor]:
        """Indices of one batch, int64 [N, G, h, w] per level; threads take a part each."""
        threads = kernels.threads(self.model.device)
        each = -(-len(items) // threads)
        parts = [items[first : first + each] for first in range(0, len(items), each)]
        found: list[list[Tensor]] = [[]] * len(parts)
        done = [0.0] * len(parts)
        lock = Lock()

        def find(part: int) -> None:
            def advance(level: int, steps: int, of: int) -> None:
                with lock:
                    done[part] = sum(work[:level]) + work[level] * steps / of
                    report(sum(map(mul, done, map(len, parts))) / len(items))

            found[part] = self._indices_of(parts[part], advance)

        share(find, range(len(parts)), threads)
        return [torch.cat(maps) for maps in zip(*found, strict=True)]

    def _indices_of(
        self, items: Sequence[_Item], report: Callable[[int, int, int], None]
    ) -> list[Tensor]:
        """Indices of some images, int64 [N, G, h, w] per level."""
        generators = [bit_generator(self.seed, *item) for item in items]
        labels = torch.tensor(
            [0 if index is None else index + 1 for index, _ in items], device=self.model.device
        )
        both = torch.cat([labels, torch.zeros_like(labels)])
        indices: list[Tensor] = []
        for level, (prior, shape) in enumerate(zip(self.model.priors, self._shapes(), strict=True)):
            shaping = self.shapings[level]
            own = both if shaping.guided else labels
            coarser = [maps.repeat(len(own) // len(items), 1, 1, 1) for maps in indices]
            state = prior.start(coarser, torch.full_like(own, self.quality), own, *shape)

            def advance(done: int, of: int, level: int = level) -> None:
                report(level, done, of)

            choose = draw_with(prior, generators, shaping)
            indices.append(payload.find(state, choose, advance)[: len(items)])
        return indices

    def _scores(self, items: Sequence[_Item], indices: Sequence[Tensor]) -> list[float | None]:
        device = self.model.device
        labels = torch.tensor([(index or 0) + 1 for index, _ in items], device=device)
        return [*evidence(self.model, indices, labels, torch.full_like(labels, self.quality))]

    def _decoded(
        self, items: Sequence[_Item], indices: list[Tensor], scores: Sequence[float | None]
    ) -> Iterator[Sample]:
        count = len(indices)
        steps = [
            self._images(indices[:levels])
            for levels in range(1 if self.levels else count, count + 1)
        ]
        for (index, number), images, score in zip(
            items, zip(*steps, strict=True), scores, strict=True
        ):
            yield Sample(images[-1], number, index, images[:-1], score)

    def _images(self, indices: Sequence[Tensor]) -> list[Image]:
        quality = torch.tensor([self.quality], device=self.model.device)
        whole = len(indices) == len(self.model.strides)
        synthesis = self.synthesis if whole else self.model.autoencoder
        found: dict[int, Image] = {}

        def decode(n: int) -> None:
            # One by one: sums of floats, and so the pixels, depend on the size of the batch.
            one = [maps[n : n + 1] for maps in indices]
            pixels = synthesis.synthesize(one, quality)[0].cpu().numpy()
            found[n] = Image(crop(pixels, self.height, self.width).copy(), grey=False)

        share(decode, range(len(indices[0])), kernels.threads(self.model.device))
        return [found[n] for n in range(len(found))]


def _judged(
    drawn: Iterator[Sample], classifier: Classifier, labels: Sequence[str], keys: Sequence[str]
) -> Iterator[Sample]:
    """The samples with the classifier's probability of their class as their score.

    Args:
        drawn: Samples of classes.
        classifier: Of `labels`.
        labels: Keys of the classifier's classes.
        keys: Keys of the model's classes.
    """
    while some := list(itertools.islice(drawn, JUDGED_AT_ONCE)):
        found = classifier(torch.from_numpy(np.stack([each.image.pixels for each in some])))
        if found.shape != (len(some), len(labels)):
            raise CodecError(
                f"the classifier gives {list(found.shape)} probabilities for {len(some)} images of "
                f"{len(labels)} classes; use one of the model's classes"
            )
        for each, row in zip(some, found.tolist(), strict=True):
            assert each.class_index is not None
            yield replace(each, score=row[labels.index(keys[each.class_index])])


def _likeliest(judged: Iterator[Sample], count: int) -> Iterator[Sample]:
    """Of each class the `count` samples of highest score, in the order of their numbers."""
    for _, candidates in itertools.groupby(judged, attrgetter("class_index")):
        best = heapq.nlargest(count, candidates, attrgetter("score"))
        yield from sorted(best, key=attrgetter("number"))
