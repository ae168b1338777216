"""Indices of many crops, extracted once for the training of the priors.

Source: step 1 of algorithm 1 in Razavi et al. 2019, each prior trained on the indices that a
finished autoencoder gives.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec import files
from vqcodec.errors import CodecError
from vqcodec.progress import bar
from vqcodec.registry import ClassName
from vqcodec.training import checkpoint
from vqcodec.training.crops import CropSampler, Draw
from vqcodec.training.export import fingerprint, load_autoencoder
from vqcodec.training.processes import chosen_device, fast_bfloat16
from vqcodec.training.settings import Extraction


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
    files.make_folder(config.output.parent)
    files.check_writable(config.output, force=True)
    autoencoder = load_autoencoder(config.autoencoder)
    mark = fingerprint(autoencoder)
    device = torch.device(chosen_device(config.device))
    autoencoder.to(device)
    if config.crop % autoencoder.config.strides[0]:
        raise CodecError(f"the crop must be a multiple of {autoencoder.config.strides[0]} pixels")
    with bar("images") as progress:
        sampler = CropSampler(config, progress)
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
    sizes = (min(config.batch, config.count - first) for first in firsts)
    draws = (Draw(size, [config.seed, first]) for size, first in zip(sizes, firsts, strict=True))
    with bar("indices") as progress, closing(sampler.batches(draws)) as drawn:
        for first, (crops, shown) in zip(firsts, drawn, strict=True):
            names += shown
            rng = np.random.default_rng([config.seed, first, 1])
            quality = torch.from_numpy(rng.integers(qualities, size=len(crops)))
            quality_parts.append(quality)
            with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
                wanted = crops.to(device), quality.to(device), config.levels
                indices, _ = autoencoder.quantize(*wanted)
            for maps, found, dtype in zip(levels, indices, dtypes, strict=True):
                maps.append(found.to(dtype).cpu())
            progress("indices", len(names), config.count)
    tensors = {f"levels.{n}": torch.cat(maps) for n, maps in enumerate(levels)}
    tensors["quality"] = torch.cat(quality_parts)
    tensors["label"] = torch.tensor([label_of.get(name, 0) for name in names])
    state = {"autoencoder_sha256": mark, "classes": classes, "side": config.crop}
    checkpoint.save(config.output, tensors, state)
    return config.output


def read_classes(source: str | None, counts: Counter[str]) -> list[ClassName]:
    """The classes in order, with their numbers of images; see `settings.Extraction.classes`.

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
        class_power: See `settings.PriorTraining.class_power`.

    Raises:
        CodecError: no files, or they do not fit together or to the autoencoder.
    """

    def __init__(
        self, files: Sequence[Path], autoencoder: str | None = None, class_power: float = 1.0
    ) -> None:
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
        self.ends: npt.NDArray[np.float64] | None = None
        if class_power != 1:
            examples = torch.bincount(self.label).double()[self.label]
            ends = (examples ** (class_power - 1)).cumsum(0)
            self.ends = (ends / ends[-1]).numpy()

    def draw(self, count: int, seed: Sequence[int]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Draws examples; the same seed gives the same ones.

        Returns:
            quality int64 [count] from 0, label (class + 1, or 0) int64 [count], and per level int64
            [count, G, h, w].
        """
        rng = np.random.default_rng(seed)
        if self.ends is None:
            numbers = rng.integers(len(self.quality), size=count)
        else:
            numbers = self.ends.searchsorted(rng.random(count), "right")
        chosen = torch.from_numpy(numbers)
        maps = [maps[chosen].long() for maps in self.levels]
        return self.quality[chosen], self.label[chosen], maps
