"""A blind comparison: one page that asks which of two restorations is nearer to the original.

images -> files of equal bytes -> crops, two restorations a comparison -> blind.html

Every comparison has vqcodec on one side at least: its two syntheses of one file, or one of them
beside a peer. The peer comes as near to a rate as its qualities let it, and vqcodec meets the bytes
of the peer's file: it takes no more, and at most 2 % fewer. What cannot be compared so is named.

The page is `blind.html`, a Jinja2 template that includes `head.html`, `report.css`, `blind.css` and
`blind.js`. Like the report it loads nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqcodec import registry
from vqcodec.bench import machine, plots, report
from vqcodec.bench.codecs import PillowCodec, chosen_peers, matched
from vqcodec.bench.images import Pixels, found_images, picture
from vqcodec.codec import Compressed, compress, decompress
from vqcodec.errors import CodecError
from vqcodec.files import check_writable, make_folder, write_atomically
from vqcodec.image import Image
from vqcodec.progress import Progress
from vqcodec.syntheses import FAITHFUL, NATURAL
from vqcodec.tiling import Window
from vqcodec.weights_file import load

PAGE = "blind.html"
FORMAT = 1  # of what the page saves
CROP_SIDE = 320
RATE_TOLERANCE = 0.25  # by how much a peer's file may miss the rate that it stands for


@dataclass(frozen=True)
class Settings:
    """Of a blind comparison.

    Attributes:
        images: Image files, and folders of them.
        out: Folder for the page.
        model: A model id, or the path of a weights file.
        effort: Of the search for indices.
        peers: Keys of `codecs.PEERS`.
        rates: Bits per pixel.
        crops: Of each image at each rate.
        seed: Of the crops, the order and the sides.
        threads: Of every codec that can be told, or None for torch's default.
        force: Whether to replace an earlier page.
        command: How the comparison was asked for.
    """

    images: Sequence[Path]
    out: Path
    model: str
    effort: int
    peers: Sequence[str]
    rates: Sequence[float]
    crops: int
    seed: int
    threads: int | None
    force: bool
    command: str


@dataclass(frozen=True)
class Restoration:
    """What a codec restores.

    Attributes:
        codec: Its key.
        name: What a reader calls it.
        setting: What the file was made at, in words.
        bytes: Of the file of the whole image.
        bpp: Bits per pixel of that file.
        pixels: uint8 [H, W, 3], the whole image or a crop.
    """

    codec: str
    name: str
    setting: str
    bytes: int
    bpp: float
    pixels: Pixels

    def cropped(self, window: Window) -> Restoration:
        """A part of it, in an array of its own."""
        return replace(self, pixels=self.pixels[window.slices].copy())


Pair = tuple[Restoration, Restoration]


@dataclass(frozen=True)
class Comparison:
    """What is asked about once.

    Attributes:
        image: Its name.
        rate: Bits per pixel that it stands for.
        crop: Where it is in the image.
        original: uint8 [H, W, 3], the crop.
        left: One restoration of the crop.
        right: The other one.
    """

    image: str
    rate: float
    crop: Window
    original: Pixels
    left: Restoration
    right: Restoration


@dataclass(frozen=True)
class Session:
    """All that is asked.

    Attributes:
        comparisons: In the order in which they are asked.
        left_out: What could not be compared, a line each.
        made: Command, date, seed, and what `machine.made` names.
    """

    comparisons: Sequence[Comparison]
    left_out: Sequence[str]
    made: dict[str, Any]


def run(settings: Settings, progress: Progress) -> Session:
    """Compresses, restores, and writes the page.

    Raises:
        CodecError: no such image, model or peer, nothing that can be compared, or a page that is
            there already.
    """
    sources = found_images(settings.images)
    for source in sources:
        picture(source)  # all can be read
    make_folder(settings.out)
    check_writable(settings.out / PAGE, settings.force)
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    peers, missing = chosen_peers(settings.peers, torch.get_num_threads())
    for peer in peers:
        peer.prepare()
    left_out = [f"{each.name}: {each.reason}; {each.remedy}" for each in missing]
    model_id = load(settings.model).model_id
    syntheses = (FAITHFUL, NATURAL) if model_id in registry.SYNTHESES else (FAITHFUL,)
    if NATURAL not in syntheses:
        left_out.append(f"{model_id} has no natural synthesis")
    ours = Ours(settings.model, settings.effort, syntheses)

    comparisons: list[Comparison] = []
    steps = list(itertools.product(sources, dict.fromkeys(settings.rates)))
    for done, (source, rate) in enumerate(steps):
        name = source.name
        progress(f"{name} at {rate:g} bpp", done, len(steps))
        original = picture(source)
        pairs, reasons = pairs_at(original, rate, peers, ours)
        left_out += [f"{name} at {rate:g} bpp: {reason}" for reason in reasons]
        for window in drawn_crops(original, settings.crops, f"{settings.seed} {name} {rate}"):
            crop = original[window.slices].copy()
            comparisons += [
                Comparison(name, rate, window, crop, *(each.cropped(window) for each in pair))
                for pair in pairs
            ]
    if not comparisons:
        why, *more = left_out
        others = f", and {len(more)} more" if more else ""
        raise CodecError(f"nothing can be compared: {why}{others}; give other rates or peers")
    made = {
        "command": settings.command,
        "date": date.today().isoformat(),
        "seed": settings.seed,
        **machine.made(settings.model),
    }
    session = Session(shuffled(comparisons, settings.seed), left_out, made)
    write_atomically(settings.out / PAGE, page(session).encode(), force=settings.force)
    return session


# --- what is compared ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Ours:
    """This project's codec with some of its syntheses.

    Attributes:
        model: A model id, or the path of a weights file.
        effort: Of the search for indices.
        syntheses: Their names.
    """

    model: str
    effort: int
    syntheses: Sequence[str]

    def of_size(self, original: Pixels, size: int) -> Compressed:
        """A file of no more bytes, and at least 98 % of them.

        Raises:
            CodecError: the size is out of reach.
        """
        image = Image(original, grey=False)
        return compress(image, size=size, effort=self.effort, lossless="never", model=self.model)

    def restored(self, compressed: Compressed) -> list[Restoration]:
        """What each synthesis makes of a file, without those that make the same as the first."""
        data, header = compressed.data, compressed.header
        found: list[Restoration] = []
        for synthesis in self.syntheses:
            pixels = decompress(data, model=self.model, synthesis=synthesis).pixels
            if found and np.array_equal(pixels, found[0].pixels):
                continue
            found.append(
                Restoration(
                    codec=f"vqcodec-{synthesis}",
                    name=f"vqcodec {synthesis}",
                    setting=f"quality {header.quality}",
                    bytes=len(data),
                    bpp=8 * len(data) / header.pixels,
                    pixels=pixels,
                )
            )
        return found


def pairs_at(
    original: Pixels, rate: float, peers: Sequence[PillowCodec], ours: Ours
) -> tuple[list[Pair], list[str]]:
    """Every synthesis beside every peer, and beside each other, at equal bytes.

    Args:
        original: uint8 [H, W, 3].
        rate: Bits per pixel.
        peers: What to compare with.
        ours: What is compared.

    Returns:
        The pairs, and why others are not among them.
    """
    area = original.shape[0] * original.shape[1]
    size = max(1, round(rate * area / 8))
    beside: list[Pair] = []
    left_out: list[str] = []
    both: list[Restoration] = []  # of one file, the first
    for peer in peers:
        quality, data = matched(peer, original, size)
        bpp = 8 * len(data) / area
        if abs(bpp / rate - 1) > RATE_TOLERANCE:
            left_out.append(f"{peer.name} comes no nearer than {bpp:.3g} bpp")
            continue
        try:
            compressed = ours.of_size(original, len(data))
        except CodecError as error:
            left_out.append(f"vqcodec beside {peer.name}: {error}")
            continue
        theirs = Restoration(
            codec=peer.key,
            name=peer.name,
            setting=f"{'ratio' if peer.compression_ratios else 'quality'} {quality}",
            bytes=len(data),
            bpp=bpp,
            pixels=peer.decode(data),
        )
        own = ours.restored(compressed)
        beside += [(each, theirs) for each in own]
        both = both or own
    if not both and len(ours.syntheses) > 1:
        try:
            both = ours.restored(ours.of_size(original, size))
        except CodecError as error:
            left_out.append(f"vqcodec: {error}")
    if 0 < len(both) < len(ours.syntheses):
        left_out.append("the natural synthesis makes the same as the faithful one")
    return [*itertools.combinations(both, 2), *beside], left_out


def drawn_crops(original: Pixels, count: int, seed: str) -> list[Window]:
    """Places in an image, drawn uniformly, `CROP_SIDE` pixels each way or what there is.

    Args:
        original: uint8 [H, W, 3].
        count: How many; fewer come back where some are the same.
        seed: Of the draw, which nothing else depends on.
    """
    generator = random.Random(seed)
    height, width = original.shape[:2]
    down, across = min(CROP_SIDE, height), min(CROP_SIDE, width)
    drawn = [
        Window(
            generator.randint(0, height - down), generator.randint(0, width - across), down, across
        )
        for _ in range(count)
    ]
    return list(dict.fromkeys(drawn))


def shuffled(comparisons: Sequence[Comparison], seed: int) -> list[Comparison]:
    """The same in random order, and each with its sides as they are or exchanged."""
    generator = random.Random(seed)
    order = generator.sample(comparisons, len(comparisons))
    return [
        replace(each, left=each.right, right=each.left) if generator.random() < 0.5 else each
        for each in order
    ]


# --- the page ------------------------------------------------------------------------------------


def page(session: Session) -> str:
    """The page as one HTML document."""
    numbers: dict[bytes, int] = {}
    pictures: list[str] = []

    def number(pixels: Pixels) -> int:
        """Of a picture, which the page holds once however often it is shown."""
        key = repr(pixels.shape).encode() + pixels.tobytes()
        if key not in numbers:
            numbers[key] = len(pictures)
            pictures.append(report.data_uri(pixels))
        return numbers[key]

    def side(restoration: Restoration) -> dict[str, Any]:
        return {
            "codec": restoration.codec,
            "name": restoration.name,
            "setting": restoration.setting,
            "bytes": restoration.bytes,
            "bpp": round(restoration.bpp, 5),
            "picture": number(restoration.pixels),
        }

    comparisons = [
        {
            "image": each.image,
            "rate": each.rate,
            "crop": asdict(each.crop),
            "original": number(each.original),
            "left": side(each.left),
            "right": side(each.right),
        }
        for each in session.comparisons
    ]
    found = {"format": FORMAT, "made": session.made, "comparisons": comparisons}
    digest = hashlib.sha256(json.dumps([found, pictures], sort_keys=True).encode())
    return (
        report.environment()
        .get_template(PAGE)
        .render(
            colours=plots.COLOURS,
            session={**found, "id": digest.hexdigest()[:16]},
            pictures=pictures,
            left_out=session.left_out,
            made=session.made,
        )
    )
