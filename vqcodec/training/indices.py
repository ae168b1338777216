"""Indices of many crops, extracted once for the training of the priors.

Source: step 1 of algorithm 1 in Razavi et al. 2019, each prior trained on the indices that a
finished autoencoder gives.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from vqcodec import files
from vqcodec.errors import CodecError
from vqcodec.photos import CropSampler
from vqcodec.registry import ClassName
from vqcodec.training import checkpoint
from vqcodec.training.export import fingerprint, load_autoencoder
from vqcodec.training.loop import chosen_device, fast_bfloat16


@dataclass(kw_only=True)
class Extraction:
    """Settings of an extraction.

    Attributes:
        autoencoder: Checkpoint of `train autoencoder`.
        sources: (folder or tar archive, weight) of the images.
        output: The file to write.
        count: Number of crops.
        crop: Side of a crop, in pixels; a multiple of the coarsest stride.
        levels: Extract so many levels only, coarsest first; None for all.
        batch: Crops at a time.
        seed: Of crops and qualities.
        limit: At most this many images of each source, or None.
        short_side: Scale larger images until their shorter side has so many pixels, or None.
        split: Which images of a source: "all", "train" or "validation".
        mirror: Mirror half of the crops.
        classes: JSON file with the classes in order, a list of {"wnid": folder name, "name": ...};
            None for no classes, "folders" for the sources' folder names, sorted.
        device: "cpu", "cuda", or None for whichever there is.
    """

    autoencoder: Path
    sources: list[tuple[Path, float]]
    output: Path
    count: int = 5000
    crop: int = 256
    levels: int | None = None
    batch: int = 4
    seed: int = 0
    limit: int | None = None
    short_side: int | None = None
    split: str = "all"
    mirror: bool = True
    classes: str | None = None
    device: str | None = None


def extract(config: Extraction) -> Path:
    """Writes the indices of random crops, each at a random quality; returns the file.

    It holds `levels.N` uint8 or int16 [count, G, h, w], `quality` and `label` (class + 1, 0 for
    none) int64 [count]; and in its state `classes`, the list of (key, name, number of images),
    `side`, the crop, and `autoencoder_sha256`, the autoencoder's `export.fingerprint`.

    Raises:
        CodecError: unusable checkpoint, sources or classes, or a crop that does not fit the
            strides.
        OutputError: the file cannot be written.
    """
    config.output.parent.mkdir(parents=True, exist_ok=True)
    files.check_writable(config.output, force=True)
    autoencoder = load_autoencoder(config.autoencoder)
    mark = fingerprint(autoencoder)
    device = torch.device(chosen_device(config.device))
    autoencoder.to(device)
    if config.crop % autoencoder.config.strides[0]:
        raise CodecError(f"the crop must be a multiple of {autoencoder.config.strides[0]} pixels")
    sampler = CropSampler(
        config.sources,
        config.crop,
        config.limit,
        short_side=config.short_side,
        split=config.split,
        mirror=config.mirror,
    )
    classes = read_classes(config.classes, sampler.counts())
    label_of = {key: n + 1 for n, (key, _, _) in enumerate(classes)}
    qualities = autoencoder.config.num_qualities
    dtypes = [
        torch.uint8 if max(size for size, *_ in level.codebooks) <= 256 else torch.int16
        for level in autoencoder.config.levels[: config.levels]
    ]
    levels: list[list[Tensor]] = [[] for _ in dtypes]
    quality_parts: list[Tensor] = []
    names: list[str] = []
    firsts = range(0, config.count, config.batch)
    for first in track(firsts, "indices", console=Console(stderr=True)):
        size = min(config.batch, config.count - first)
        crops, shown = sampler.draw_labelled(size, [config.seed, first])
        names += shown
        rng = np.random.default_rng([config.seed, first, 1])
        quality = torch.from_numpy(rng.integers(qualities, size=size))
        quality_parts.append(quality)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
            wanted = crops.to(device), quality.to(device), config.levels
            indices, _ = autoencoder.quantize(*wanted)
        for maps, found, dtype in zip(levels, indices, dtypes, strict=True):
            maps.append(found.to(dtype).cpu())
    tensors = {f"levels.{n}": torch.cat(maps) for n, maps in enumerate(levels)}
    tensors["quality"] = torch.cat(quality_parts)
    tensors["label"] = torch.tensor([label_of.get(name, 0) for name in names])
    state = {"autoencoder_sha256": mark, "classes": classes, "side": config.crop}
    checkpoint.save(config.output, tensors, state)
    return config.output


def read_classes(source: str | None, counts: Counter[str]) -> list[ClassName]:
    """The classes in order, with their numbers of images; see `Extraction.classes`.

    Args:
        source: A JSON file, "folders", or None.
        counts: Images of each label.

    Raises:
        CodecError: no such file, not its form, or none of its classes among the labels.
    """
    if source is None:
        return []
    if source == "folders":
        return [ClassName(label, label, counts[label]) for label in sorted(counts)]
    try:
        entries = json.loads(Path(source).read_text("utf-8"))
        classes = [
            ClassName(str(entry["wnid"]), str(entry["name"]), counts[entry["wnid"]])
            for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"is no list of classes with wnid and name ({type(error).__name__}: {error})"
        raise CodecError(reason).in_file(source) from error
    if not any(each.images for each in classes):
        raise CodecError("names no folder of the images as a wnid").in_file(source)
    return classes


class IndexSampler:
    """Random examples from extracted indices.

    The files mostly show the same images in other crops, so a class has as many images as in the
    file with most of it.

    Args:
        files: What `extract` wrote, all of one crop size and of the same classes.
        autoencoder: `export.fingerprint` of the autoencoder they must come from, or None for any;
            files of earlier releases, which name none, are taken too.

    Raises:
        CodecError: no files, or they do not fit together or to the autoencoder.
    """

    def __init__(self, files: Sequence[Path], autoencoder: str | None = None) -> None:
        if not files:
            raise CodecError("no extracted indices were given; run vqcodec train indices first")
        loaded, states = zip(*(checkpoint.load(path) for path in files), strict=True)
        lists = [[ClassName(*each) for each in state.get("classes", [])] for state in states]
        self.side: int | None = states[0].get("side")
        for path, tensors, state, classes in zip(files, loaded, states, lists, strict=True):
            if not {"levels.0", "quality"} <= set(tensors):
                raise CodecError("was not written by vqcodec train indices").in_file(path)
            if [each.key for each in classes] != [each.key for each in lists[0]]:
                raise CodecError("has other classes than the first file").in_file(path)
            if autoencoder not in (None, state.get("autoencoder_sha256", autoencoder)):
                reason = "holds the indices of another autoencoder; extract them again with "
                raise CodecError(reason + "vqcodec train indices").in_file(path)
        self.classes = [
            same[0]._replace(images=max(each.images for each in same))
            for same in zip(*lists, strict=True)
        ]

        def joined(name: str) -> Tensor:
            parts = [tensors[name] for tensors in loaded]
            return torch.cat(parts) if len(parts) > 1 else parts[0]

        names = sorted(name for name in loaded[0] if name.startswith("levels."))
        try:
            self.levels = [joined(name) for name in names]
        except (KeyError, RuntimeError) as error:
            raise CodecError(f"the files of indices do not fit together ({error})") from error
        self.quality = joined("quality")
        self.label = joined("label") if self.classes else torch.zeros_like(self.quality)

    def draw(self, count: int, seed: Sequence[int]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Draws examples; the same seed gives the same ones.

        Returns:
            quality int64 [count] from 0, label (class + 1, or 0) int64 [count], and per level int64
            [count, G, h, w].
        """
        rng = np.random.default_rng(seed)
        chosen = torch.from_numpy(rng.integers(len(self.quality), size=count))
        maps = [maps[chosen].long() for maps in self.levels]
        return self.quality[chosen], self.label[chosen], maps
