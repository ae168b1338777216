"""A whole benchmark: images in, a folder with results, plots and a page out.

images -> files, seconds, memory, distortion -> curves, comparisons -> results.json, report.html
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vqcodec import registry
from vqcodec.bench import compressai, curves, machine, profile, report, results
from vqcodec.bench.codecs import (
    Codec,
    Missing,
    PillowCodec,
    Variant,
    Vqcodec,
    chosen_peers,
    matched,
    vqcodec,
)
from vqcodec.bench.images import Pixels, found_images, middle, picture
from vqcodec.bench.judges import judges
from vqcodec.bench.measure import Measuring, covered, runs_for
from vqcodec.bench.report import Version, View
from vqcodec.choosing.tunes import tune_of
from vqcodec.errors import CodecError, OutputError
from vqcodec.files import check_writable, make_folder
from vqcodec.metrics import distortion
from vqcodec.progress import Progress

RESULTS, CODED = "results.json", "files"
SPEED_RUNS = 3
VIEW_SIDE = 1024  # of larger images the page shows the middle


@dataclass(frozen=True)
class Settings:
    """Of a benchmark.

    Attributes:
        images: Image files, and folders of them.
        out: Folder for what comes out.
        model: A model id, or the path of a weights file.
        qualities: Of the model; see `codecs.vqcodec` for none.
        effort: Of the search for indices.
        variants: How to use the model, the main way first; at least one.
        peers: Keys of `codecs.PEERS` and of `compressai.MODELS`.
        views: Image files to look at in the page; the first of the images if empty.
        weights: Of `judges.LEARNT`; those that are not here are left out.
        runs: How often each image is encoded and decoded; None for as often as a quality needs to
            have five timings.
        threads: Of every codec that can be told, or None for torch's default.
        profile: Whether to find out where bits and time go.
        keep: Whether to keep the codecs' files.
        force: Whether to replace earlier results.
        command: How the benchmark was asked for.
    """

    images: Sequence[Path]
    out: Path
    model: str
    qualities: Sequence[int]
    effort: int
    variants: Sequence[Variant]
    peers: Sequence[str]
    views: Sequence[Path]
    weights: Mapping[str, Path]
    runs: int | None
    threads: int | None
    profile: bool
    keep: bool
    force: bool
    command: str


def run(settings: Settings, progress: Progress) -> dict[str, Any]:
    """Measures, compares, and writes results, plots and page to a folder.

    Returns:
        The results: see `vqcodec.bench.results`.

    Raises:
        CodecError: no such image, model, quality or peer, or results that are there already.
    """
    start = time.perf_counter()
    sources, views = found_images(settings.images), found_images(settings.views)
    images = [_size(source) for source in [*sources, *views]][: len(sources)]  # all can be read
    _check_out(settings)
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    threads = torch.get_num_threads()
    ours = _ours(settings, threads)
    timed = [peer for peer in settings.peers if peer in compressai.MODELS]
    peers, missing = chosen_peers([peer for peer in settings.peers if peer not in timed], threads)
    judging, unjudged = judges(settings.weights)
    missing += unjudged
    if timed and (reason := compressai.available()) is not None:
        missing += [Missing(name, reason, compressai.REMEDY) for name in timed]
        timed = []

    kept = nullcontext(settings.out / CODED) if settings.keep else TemporaryDirectory()
    with kept as folder:
        measuring = Measuring(
            sources,
            Path(folder),
            runs=settings.runs or runs_for(len(sources)),
            judges=judging,
            processes=os.cpu_count() or 1,
            progress=progress,
        )
        own = measuring.measure(ours[0])
        rows = list(own)
        for further in ours[1:]:
            rows += measuring.measure(further)
        for peer in peers:
            rows += measuring.measure(peer, enough=lambda theirs: covered(theirs, own))
    speed = []
    for done, name in enumerate(timed):
        progress(name, done, len(timed))
        cost = compressai.measure(name, sources[0], settings.runs or SPEED_RUNS, threads)
        speed.append({"codec": name, "image": sources[0].name, **cost})

    measured: list[Codec] = [*ours, *peers]
    codecs = [
        {"key": each.key, "name": each.name, "settings": each.settings, "measured": "all"}
        for each in measured
    ]
    codecs += [compressai.described(name) for name in timed]
    published = curves.published() if curves.is_kodak(images) else {}
    metrics = [judge.metric for judge in judging]
    points = curves.means(rows, metrics)
    found: dict[str, Any] = {
        "format": results.FORMAT,
        "made": {"command": settings.command, "date": date.today().isoformat()},
        "images": images,
        "metrics": metrics,
        "codecs": codecs,
        "missing": [asdict(each) for each in missing],
        "rows": rows,
        "points": points,
        "comparisons": curves.comparisons(points, codecs, metrics, published),
        "above": curves.above(points, codecs, metrics),
        "speed": speed,
        "profile": None,
    }
    if settings.profile:
        profiling = time.perf_counter()
        parts = profile.profile(settings.model, sources, progress, qualities=ours[0].qualities)
        found["profile"] = {**parts, "seconds": time.perf_counter() - profiling}
    found["made"] |= {
        "seconds": time.perf_counter() - start,
        **{judge.key: judge.source for judge in judging if judge.source is not None},
        "syntheses": {each.key: _synthesis(each) for each in ours},
        **machine.made(settings.model),
    }
    found = results.rounded(found)
    results.write(settings.out / RESULTS, found, force=True)
    pages = [_view(source, ours, peers) for source in views or sources[:1]]
    report.write(settings.out, found, pages, published)
    return found


def _ours(settings: Settings, threads: int) -> list[Vqcodec]:
    model, qualities, effort = settings.model, settings.qualities, settings.effort
    found = [
        vqcodec(model, qualities, threads, effort, variant, main=n == 0)
        for n, variant in enumerate(dict.fromkeys(settings.variants))
    ]
    names = [each.variant.name for each in found]
    if twice := next((name for n, name in enumerate(names) if name in names[:n]), None):
        raise CodecError(f"two variants are called {twice}; rename the file of one")
    return found


def _synthesis(codec: Vqcodec) -> str | None:
    """The hash of a codec's synthesis, if that is not a part of the model."""
    tune, synthesis = codec.variant
    if synthesis is not None:
        return registry.sha256_of(synthesis)
    return registry.SYNTHESES[codec.model_id].sha256 if tune_of(tune).natural else None


def _check_out(settings: Settings) -> None:
    make_folder(settings.out)
    for name in (RESULTS, report.PAGE):
        check_writable(settings.out / name, settings.force)
    for name in (report.PLOTS, *([CODED] if settings.keep else [])):
        folder = settings.out / name
        if folder.exists() and not (settings.force and folder.is_dir()):
            reason = "exists already; use --force to replace what is in it"
            raise OutputError(reason).in_file(folder)


def _size(source: Path) -> dict[str, Any]:
    height, width = picture(source).shape[:2]
    return {"name": source.name, "width": width, "height": height}


def _view(source: Path, ours: Sequence[Vqcodec], peers: Sequence[PillowCodec]) -> View:
    """An image as vqcodec restores it at its middle quality, and the peers in as many bytes."""
    original = picture(source)
    area = original.shape[0] * original.shape[1]

    def version(label: str, data: bytes, restored: Pixels) -> Version:
        psnr = distortion.psnr(original, restored)
        return Version(label, len(data), 8 * len(data) / area, psnr, middle(restored, VIEW_SIDE))

    qualities = ours[0].qualities
    quality = qualities[(len(qualities) - 1) // 2]
    coded = [codec.encode(original, quality).data for codec in ours]
    size = source.stat().st_size
    versions = [Version("Original", size, 8 * size / area, None, middle(original, VIEW_SIDE))]
    for codec, data in zip(ours, coded, strict=True):
        versions.append(version(f"{codec.name}, quality {quality}", data, codec.decode(data)))
    for peer in peers:
        peer.prepare()
        chosen, data = matched(peer, original, len(coded[0]))
        what = "ratio" if peer.compression_ratios else "quality"
        versions.append(version(f"{peer.name}, {what} {chosen}", data, peer.decode(data)))
    height, width = versions[0].pixels.shape[:2]
    return View(source.name, width, height, versions)
