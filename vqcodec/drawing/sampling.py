"""New images from the priors.

    class, seed, number  ->  indices, level by level through the wavefront  ->  image

Between the seed and the indices there are integers only: temperature, guidance, top-k and top-p
work in fixed point on the priors' logits and frequencies, so a seed gives the same indices on every
machine. The networks between the indices and the pixels compute in floating point, one image at a
time, as such results depend on the batch: pixels are the same whatever the batch, and differ by 1
at most between machines.

Source: ancestral sampling, level by level, and rejection by a classifier are those of Razavi et al.
2019, section 3; top-p is Holtzman et al. 2020; guidance is that of Ho and Salimans 2022, on the
logits of an index as in Gafni et al. 2022.
"""

from __future__ import annotations

import difflib
import heapq
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqcodec.entropy import payload
from vqcodec.entropy.frequencies import TEMPERATURE_ONE
from vqcodec.entropy.payload import Choose
from vqcodec.entropy.prior import Prior
from vqcodec.errors import CodecError
from vqcodec.image import Image
from vqcodec.progress import Progress
from vqcodec.registry import DEFAULT_MODEL, ClassName, default_generator, no_classes
from vqcodec.spec.prior import TOTAL, TOTAL_BITS
from vqcodec.tiling import crop, padded
from vqcodec.weights_file import Model, load

MAX_SIDE = 4096
MAX_TEMPERATURE = 100.0
MAX_GUIDANCE = 100.0
MIN_KEEP = 0.001
MAX_SUGGESTIONS = 8
DEFAULT_SIDE = 256
DEFAULT_BATCH = 4
JUDGED_AT_ONCE = 16
BATCH_PIXELS = 64 * 64 * 64
GUIDANCE_BITS = 8

Classifier = Callable[[Tensor], Tensor]
"""Pixels uint8 [B, H, W, 3] to probabilities or their logarithms, float [B, classes].

Its classes are those of the model, in their order, unless it has an attribute `labels` that is not
None: the keys of its own classes in their order.
"""

_Item = tuple[int | None, int]
"""Class and number of an image."""


@dataclass(frozen=True)
class Sample:
    """A drawn image.

    Attributes:
        image: The image.
        number: Its number among those of its seed and class, from 0.
        class_index: Its class, or None if it was drawn without one.
        coarser: If asked for, what the first level gives alone, the first two, and so on; the last
            of these is without the finest level.
        probability: What the classifier gives for its class; None without a classifier.
    """

    image: Image
    number: int
    class_index: int | None = None
    coarser: tuple[Image, ...] = ()
    probability: float | None = None


@dataclass(frozen=True)
class Shaping:
    """What happens to an index's probabilities before it is drawn.

    Attributes:
        temperature: Below 1 nearer to the likeliest indices, above 1 more varied.
        top_k: Draw from so many of the likeliest indices; None for all.
        top_p: Draw from the fewest of the likeliest indices whose probabilities reach this sum,
            above 0 up to 1; None for all.
        guidance: How far to go from the logits without a class (0) to those of the class (1) and
            beyond.

    Raises:
        CodecError: a value is out of its limits.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= MAX_TEMPERATURE:
            limits = f"above 0, up to {MAX_TEMPERATURE:g}"
            raise CodecError(f"cannot sample at temperature {self.temperature}; give one {limits}")
        if self.top_k is not None and self.top_k < 1:
            raise CodecError(f"cannot sample from the {self.top_k} likeliest; give 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise CodecError(f"cannot sample with top-p {self.top_p}; give one above 0, up to 1")
        if not 0 <= self.guidance <= MAX_GUIDANCE:
            limits = f"0 to {MAX_GUIDANCE:g}"
            raise CodecError(f"cannot sample with guidance {self.guidance}; give one from {limits}")

    @property
    def guided(self) -> bool:
        """Whether logits without a class are needed, too."""
        return self.guidance != 1.0

    def guide(self, given: Tensor, without: Tensor) -> Tensor:
        """Logits of the class and logits without it to guided logits, all int64 [N, p, K]."""
        weight = round(self.guidance * (1 << GUIDANCE_BITS))
        return without + ((given - without) * weight >> GUIDANCE_BITS)

    def frequencies(self, prior: Prior, logits: Tensor) -> Tensor:
        """Frequencies to draw with, 0 for what is not drawn.

        Args:
            prior: The prior that gave the logits.
            logits: int64 [N, p, K], in 1/16 nat.

        Returns:
            int64 [N, p, K]; without top-k and top-p their sum is 2**24, else it may be less.
        """
        temperature = max(1, round(self.temperature * TEMPERATURE_ONE))
        result = prior.frequencies(logits, temperature).long()
        if self.top_k is None and self.top_p is None:
            return result
        # Stable: of equally likely indices the smaller ones come first, on every machine.
        ranked, order = result.sort(dim=-1, descending=True, stable=True)
        kept = torch.ones_like(ranked, dtype=torch.bool)
        if self.top_k is not None:
            kept[..., self.top_k :] = False
        if self.top_p is not None:
            kept &= ranked.cumsum(-1) - ranked < max(1, round(self.top_p * TOTAL))
        return result * torch.zeros_like(kept).scatter(-1, order, kept)


def draw_with(
    prior: Prior, generators: Sequence[np.random.BitGenerator], shaping: Shaping
) -> Choose:
    """Symbols at random.

    Args:
        prior: The prior whose wavefront will ask.
        generators: One per map. If `shaping` is guided, the wavefront runs twice as many maps: the
            same ones again, without their class.
        shaping: How probabilities are changed.
    """

    def draw(codebook: int, logits: Tensor) -> Tensor:
        logits = logits.long()
        if shaping.guided:
            logits = shaping.guide(*logits.chunk(2))
        cumulative = shaping.frequencies(prior, logits).cumsum(-1)
        # Raw bits, as numpy keeps these the same for ever, and not what it makes of them.
        raw = np.stack([bits.random_raw(logits.shape[1]) for bits in generators])
        points = torch.from_numpy((raw >> np.uint64(64 - TOTAL_BITS)).astype(np.int64))
        chosen = points.to(logits.device)[..., None]
        scaled = chosen * cumulative[..., -1:] >> TOTAL_BITS
        symbols = torch.searchsorted(cumulative, scaled, right=True).squeeze(-1)
        return symbols.repeat(2, 1) if shaping.guided else symbols

    return draw


def sample(
    height: int | None = None,
    width: int | None = None,
    *,
    model: str | Path | None = None,
    quality: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    classes: Sequence[int] | None = None,
    guidance: float = 1.0,
    count: int = 1,
    batch: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Image]:
    """Draws new images from the priors: the images of `draw`, which explains the arguments.

    Returns:
        `count` images; with classes so many of each, class by class.

    Raises:
        CodecError: no such model, quality or class, or values that cannot be.
    """
    drawn = draw(
        height,
        width,
        model=model,
        quality=quality,
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        classes=classes,
        guidance=guidance,
        count=count,
        batch=batch,
        device=device,
        progress=progress,
    )
    return [each.image for each in drawn]


def draw(
    height: int | None = None,
    width: int | None = None,
    *,
    model: str | Path | None = None,
    quality: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    classes: Sequence[int] | None = None,
    guidance: float = 1.0,
    count: int = 1,
    keep: float = 1.0,
    classifier: Classifier | None = None,
    levels: bool = False,
    batch: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Iterator[Sample]:
    """Draws new images from the priors, and gives them as they are ready.

    The indices of image n of a class and a seed are the same whatever the count, the batch, the
    other classes or the machine; its pixels too, but for a difference of 1 at most between
    machines. Which images are kept rests on the classifier's probabilities, which are floating
    point: where two come close, another machine may keep the other.

    Args:
        height: Pixels, at most `MAX_SIDE`; None for the side of the model's own images.
        width: Pixels, at most `MAX_SIDE`; None likewise.
        model: A model id or a weights file; None for the default model.
        quality: The quality whose indices are imitated; None for the middle.
        seed: Of the random numbers.
        temperature: See `Shaping`, as for the next two.
        top_k: Draw from so many of the likeliest indices.
        top_p: Draw from the likeliest indices whose probabilities reach this sum.
        classes: Draw images of these classes of the model; None for no class.
        guidance: Above 1 nearer to the class and less varied; needs classes, and twice the work.
        count: How many images, of each class if there are classes.
        keep: Draw ceil(count / keep) images of each class and give the `count` of them that the
            classifier holds to be the likeliest of their class, in the order of their numbers.
        classifier: For `keep`.
        levels: Whether to decode from fewer levels, too.
        batch: Images at a time, of any classes; None for as many as their size allows.
        device: Where to run the networks.
        progress: Called with (stage, done, total), over all images.

    Returns:
        The samples, class by class.

    Raises:
        CodecError: no such model, quality or class, or values that cannot be; at the call, before
            anything is drawn. Later only what the classifier raises, or if its classes are others.
    """
    shaping = Shaping(temperature, top_k, top_p, guidance)
    if shaping.guided and classes is None:
        raise CodecError("guidance needs a class to guide to; name one")
    if not MIN_KEEP <= keep <= 1:
        raise CodecError(f"cannot keep {keep} of the images; give a share from {MIN_KEEP} to 1")
    if keep < 1 and (classes is None or classifier is None):
        raise CodecError("keeping the likeliest of a class needs a class and a classifier")
    loaded = load(model or (DEFAULT_MODEL if classes is None else default_generator()), device)
    if classes is not None:
        check_classes(loaded, *classes)
    own = loaded.side or DEFAULT_SIDE
    height, width = own if height is None else height, own if width is None else width
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise CodecError(
            f"cannot sample {width}x{height} pixels; both sides must be 1 to {MAX_SIDE}"
        )
    chosen = loaded.checked_quality(quality) - 1
    sampler = _Sampler(loaded, height, width, chosen, seed, shaping, levels)
    # A share such as 0.7 is no binary number, and 7 / 0.7 is not quite 10.
    candidates = math.ceil(count / Fraction(keep).limit_denominator(1 << 20))
    wanted = [None] if classes is None else dict.fromkeys(classes)
    items: list[_Item] = list(itertools.product(wanted, range(candidates)))
    drawn = sampler.draw(items, batch, progress)
    if keep == 1 or classifier is None:
        return drawn
    keys = [each.key for each in loaded.classes]
    labels = list(getattr(classifier, "labels", None) or keys)
    for index in classes or ():
        if keys[index] not in labels:
            raise CodecError(
                f"the classifier does not know class {_listed(loaded.classes, [index])}; "
                "leave that class out or use another classifier"
            )
    return _likeliest(_judged(drawn, classifier, labels, keys), count)


def find_classes(model_classes: Sequence[ClassName], text: str) -> list[int]:
    """Finds the class that somebody means.

    Args:
        model_classes: A model's classes.
        text: An index, a key, a name, one of a name's synonyms or a part of it, in any case; or
            "all".

    Returns:
        The index, or all of them.

    Raises:
        CodecError: no class is meant, or several.
    """
    wanted = " ".join(text.split()).casefold()
    if wanted == "all":
        return list(range(len(model_classes)))
    if re.fullmatch("[0-9]{1,9}", wanted):
        if int(wanted) >= len(model_classes):
            last = len(model_classes) - 1
            raise CodecError(f"there is no class {wanted}; give an index from 0 to {last}")
        return [int(wanted)]
    names = [each.name.casefold() for each in model_classes]
    synonyms = [[part.strip() for part in name.split(",")] for name in names]
    word = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    ways: list[Callable[[int], bool]] = [
        lambda n: wanted in (model_classes[n].key.casefold(), names[n], *synonyms[n]),
        lambda n: word.search(names[n]) is not None,
        lambda n: wanted in names[n],
    ]
    for fits in ways if wanted else ():
        found = [n for n in range(len(names)) if fits(n)]
        if len(found) == 1:
            return found
        if found:
            few = _listed(model_classes, found[:MAX_SUGGESTIONS])
            more = len(found) - MAX_SUGGESTIONS
            rest = f" and {more} more" if more > 0 else ""
            raise CodecError(f"class {text!r} may be {few}{rest}; give the index")
    owners = {part: n for n, parts in reversed(list(enumerate(synonyms))) for part in parts}
    close = difflib.get_close_matches(wanted, owners, MAX_SUGGESTIONS // 2)
    hint = f"did you mean {_listed(model_classes, dict.fromkeys(owners[c] for c in close))}?"
    raise CodecError(
        f"there is no class {text!r}; {hint if close else 'vqcodec models --classes lists them'}"
    )


def check_classes(model: Model, *indices: int) -> None:
    """Checks that a model has classes, and these in particular.

    Raises:
        CodecError: it has not.
    """
    if not model.classes:
        raise no_classes(model.model_id)
    for index in indices:
        if not 0 <= index < len(model.classes):
            limits = f"0 to {len(model.classes) - 1}"
            raise CodecError(f"{model.model_id} has no class {index}; give one from {limits}")


def _listed(model_classes: Sequence[ClassName], indices: Iterable[int]) -> str:
    return "; ".join(f"{n} ({model_classes[n].name})" for n in indices)


@dataclass(frozen=True)
class _Sampler:
    """What all images of one call share.

    Attributes:
        model: The model.
        height: Pixels.
        width: Pixels.
        quality: From 0.
        seed: Of the random numbers.
        shaping: How probabilities are changed.
        levels: Whether to decode from fewer levels, too.
    """

    model: Model
    height: int
    width: int
    quality: int
    seed: int
    shaping: Shaping
    levels: bool

    def draw(
        self, items: Sequence[_Item], batch: int | None, progress: Progress | None
    ) -> Iterator[Sample]:
        """Draws these images, some at a time."""
        shapes = self._shapes()
        work = [rows * columns for rows, columns in shapes]
        if batch is None:
            batch = max(DEFAULT_BATCH, BATCH_PIXELS // (self.height * self.width))
        for first in range(0, len(items), batch):
            some = items[first : first + batch]

            def report(
                level: int, done: int, of: int, before: int = first, count: int = len(some)
            ) -> None:
                if progress is not None:
                    share = sum(work[:level]) + work[level] * done // of
                    progress("sample", before * sum(work) + count * share, len(items) * sum(work))

            yield from self._decoded(some, self._indices(some, report))

    def _shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of every level."""
        strides = self.model.strides
        sides = (padded(self.height, strides[0]), padded(self.width, strides[0]))
        return [(sides[0] // stride, sides[1] // stride) for stride in strides]

    def _indices(
        self, items: Sequence[_Item], report: Callable[[int, int, int], None]
    ) -> list[Tensor]:
        """Indices of one batch, int64 [N, G, h, w] per level."""
        generators = [_generator(self.seed, *item) for item in items]
        labels = torch.tensor(
            [0 if index is None else index + 1 for index, _ in items], device=self.model.device
        )
        if self.shaping.guided:
            labels = torch.cat([labels, torch.zeros_like(labels)])
        qualities = torch.full_like(labels, self.quality)
        indices: list[Tensor] = []
        for level, (prior, shape) in enumerate(zip(self.model.priors, self._shapes(), strict=True)):
            state = prior.start(indices, qualities, labels, *shape)

            def advance(done: int, of: int, level: int = level) -> None:
                report(level, done, of)

            choose = draw_with(prior, generators, self.shaping)
            indices.append(payload.find(prior, state, choose, advance))
        return [maps[: len(items)] for maps in indices]

    def _decoded(self, items: Sequence[_Item], indices: list[Tensor]) -> Iterator[Sample]:
        count = len(indices)
        steps = [
            self._images(indices[:levels])
            for levels in range(1 if self.levels else count, count + 1)
        ]
        for (index, number), images in zip(items, zip(*steps, strict=True), strict=True):
            yield Sample(images[-1], number, index, images[:-1])

    def _images(self, indices: Sequence[Tensor]) -> list[Image]:
        quality = torch.tensor([self.quality], device=self.model.device)
        # One by one: sums of floats, and so the pixels, depend on the size of the batch.
        parts = zip(*(maps.split(1) for maps in indices), strict=True)
        found = (self.model.autoencoder.synthesize(part, quality)[0] for part in parts)
        return [
            Image(crop(each.cpu().numpy(), self.height, self.width).copy(), grey=False)
            for each in found
        ]


def _generator(seed: int, class_index: int | None, number: int) -> np.random.BitGenerator:
    label = [] if class_index is None else [class_index + 1]
    return np.random.PCG64([seed, number, *label])


def _judged(
    drawn: Iterator[Sample], classifier: Classifier, labels: Sequence[str], keys: Sequence[str]
) -> Iterator[Sample]:
    """The samples with the classifier's probability of their class.

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
            yield replace(each, probability=row[labels.index(keys[each.class_index])])


def _likeliest(judged: Iterator[Sample], count: int) -> Iterator[Sample]:
    """Of each class the `count` samples of highest probability, in the order of their numbers."""
    for _, candidates in itertools.groupby(judged, attrgetter("class_index")):
        best = heapq.nlargest(count, candidates, attrgetter("probability"))
        yield from sorted(best, key=attrgetter("number"))
