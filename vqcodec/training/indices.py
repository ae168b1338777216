"""Indices of many crops, extracted once for what is trained on them.

At first these are the analysis's own. Once there are priors, an exported model can search for
better ones, as `codec.compress` does, so that priors and synthesis train on what it will find.

Source: step 1 of algorithm 1 in Razavi et al. 2019, each prior trained on the indices that a
finished autoencoder gives.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from vqcodec import files
from vqcodec.container import MAX_TILE_LOG2, WEIGHTS_HASH_LENGTH, Header
from vqcodec.effort import DEFAULT_EFFORT, checked_effort
from vqcodec.errors import CodecError
from vqcodec.model import Model, load
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.models.family import AnyAutoencoder
from vqcodec.photos import CropSampler
from vqcodec.registry import ClassName
from vqcodec.stages import Stages
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
        model: Weights file exported from this autoencoder, to search for the indices with; None for
            those that the analysis gives.
        effort: Of that search, as of `codec.compress`.
        pixels: Keep the crops too, which `train synthesis` needs.
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
    model: Path | None = None
    effort: int = DEFAULT_EFFORT
    pixels: bool = False
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
    none) int64 [count], and perhaps `pixels` uint8 [count, H, W, 3]; and in its state `classes`,
    the list of (key, name, number of images), `side`, the crop, and `autoencoder_sha256`, the
    autoencoder's `export.fingerprint`.

    Raises:
        CodecError: unusable checkpoint, sources or classes, a crop that does not fit the strides,
            or a search without a model of this autoencoder, or for coarser levels alone.
        OutputError: the file cannot be written.
    """
    config.output.parent.mkdir(parents=True, exist_ok=True)
    files.check_writable(config.output, force=True)
    autoencoder = load_autoencoder(config.autoencoder)
    mark = fingerprint(autoencoder)
    device = torch.device(chosen_device(config.device))
    model = _searcher(config, autoencoder, device)
    if model is None:
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
    kept = config.count if config.pixels else 0
    pixels = torch.empty(kept, config.crop, config.crop, 3, dtype=torch.uint8)
    names: list[str] = []
    firsts = range(0, config.count, config.batch)
    for first in track(firsts, "indices", console=Console(stderr=True)):
        size = min(config.batch, config.count - first)
        crops, shown = sampler.draw_labelled(size, [config.seed, first])
        pixels[first : first + size] = crops[:kept]
        names += shown
        rng = np.random.default_rng([config.seed, first, 1])
        quality = torch.from_numpy(rng.integers(qualities, size=size))
        quality_parts.append(quality)
        if model is not None:
            indices = _searched(model, crops, quality, config.effort)
        else:
            with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
                wanted = crops.to(device), quality.to(device), config.levels
                indices = autoencoder.quantize(*wanted)[0]
        for maps, found, dtype in zip(levels, indices, dtypes, strict=True):
            maps.append(found.to(dtype).cpu())
    tensors = {f"levels.{n}": torch.cat(maps) for n, maps in enumerate(levels)}
    tensors["quality"] = torch.cat(quality_parts)
    if config.pixels:
        tensors["pixels"] = pixels
    tensors["label"] = torch.tensor([label_of.get(name, 0) for name in names])
    state = {"autoencoder_sha256": mark, "classes": classes, "side": config.crop}
    checkpoint.save(config.output, tensors, state)
    return config.output


def _searcher(
    config: Extraction, autoencoder: AnyAutoencoder, device: torch.device
) -> Model | None:
    """The model to search with, or None for no search.

    Raises:
        CodecError: it is not of this autoencoder, or cannot search for what is wanted.
    """
    if config.model is None:
        return None
    checked_effort(config.effort)
    model = load(config.model, str(device))
    if not isinstance(model.autoencoder, Autoencoder):
        raise CodecError("has no rate model to search with").in_file(config.model)
    theirs = model.autoencoder.state_dict()
    for name, ours in autoencoder.state_dict().items():
        if name.endswith(".counts"):
            continue  # which weights files leave out
        half = ours.half().float() if ours.is_floating_point() else ours
        if name not in theirs or not half.equal(theirs[name].cpu()):
            raise CodecError(f"was not exported from {config.autoencoder}").in_file(config.model)
    if config.levels not in (None, len(model.strides)):
        raise CodecError("the search is for indices of the finest level; leave --levels out")
    return model


def _searched(model: Model, crops: Tensor, quality: Tensor, effort: int) -> list[Tensor]:
    """Indices as `codec.compress` finds them: per level int64 [N, G, h, w].

    Args:
        model: With whose priors to search.
        crops: uint8 [N, H, W, 3].
        quality: From 0, int64 [N].
        effort: Of the search.
    """
    height, width = crops.shape[1:3]
    found = []
    for pixels, each in zip(crops.numpy(), quality.tolist(), strict=True):
        header = Header(
            width=width,
            height=height,
            grey=False,
            model_id=model.model_id,
            weights_hash=bytes.fromhex(model.sha256)[:WEIGHTS_HASH_LENGTH],
            tile=1 << MAX_TILE_LOG2,
            quality=each + 1,
            levels=len(model.strides),
        )
        found.append(Stages(model, header, 1, None).analyze(pixels, effort))
    return [torch.stack(maps) for maps in zip(*found, strict=True)]


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


class Examples(NamedTuple):
    """A batch of crops.

    Attributes:
        quality: From 0, int64 [B].
        label: Class + 1, or 0: int64 [B].
        levels: Indices of every level, int64 [B, G, h, w].
        pixels: uint8 [B, H, W, 3]; None unless the sampler was asked for them.
    """

    quality: Tensor
    label: Tensor
    levels: list[Tensor]
    pixels: Tensor | None


class IndexSampler:
    """Random examples from extracted indices.

    The files mostly show the same images in other crops, so a class has as many images as in the
    file with most of it.

    Args:
        files: What `extract` wrote, all of one crop size and of the same classes.
        autoencoder: `export.fingerprint` of the autoencoder they must come from, or None for any;
            files of earlier releases, which name none, are taken too.
        pixels: Whether to draw the crops too.

    Raises:
        CodecError: no files, or they do not fit together or to the autoencoder, or hold no pixels.
    """

    def __init__(
        self, files: Sequence[Path], autoencoder: str | None = None, *, pixels: bool = False
    ) -> None:
        if not files:
            raise CodecError("no extracted indices were given; run vqcodec train indices first")
        without = () if pixels else ("pixels",)
        loaded, states = zip(
            *(checkpoint.load(path, without=without) for path in files), strict=True
        )
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
            if pixels and "pixels" not in tensors:
                reason = "holds no crops; extract it again with vqcodec train indices --pixels"
                raise CodecError(reason).in_file(path)
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
            self.pixels = joined("pixels") if pixels else None
        except (KeyError, RuntimeError) as error:
            raise CodecError(f"the files of indices do not fit together ({error})") from error
        self.quality = joined("quality")
        self.label = joined("label") if self.classes else torch.zeros_like(self.quality)

    def draw(self, count: int, seed: Sequence[int]) -> Examples:
        """Draws examples; the same seed gives the same ones."""
        rng = np.random.default_rng(seed)
        chosen = torch.from_numpy(rng.integers(len(self.quality), size=count))
        maps = [maps[chosen].long() for maps in self.levels]
        pixels = None if self.pixels is None else self.pixels[chosen]
        return Examples(self.quality[chosen], self.label[chosen], maps, pixels)
