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

from vqcodec.codec import DEFAULT_TILE
from vqcodec.container import WEIGHTS_HASH_LENGTH, Header
from vqcodec.effort import checked_effort
from vqcodec.errors import CodecError
from vqcodec.model import Model, load
from vqcodec.models.autoencoder import Autoencoder
from vqcodec.models.family import AnyAutoencoder
from vqcodec.photos import CropSampler
from vqcodec.registry import ClassName
from vqcodec.stages import Stages
from vqcodec.training import checkpoint
from vqcodec.training.export import fingerprint, load_autoencoder
from vqcodec.training.loop import fast_bfloat16


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
        model: Weights file exported from this autoencoder, whose priors to search with; or None.
        effort: Of that search, as of `codec.compress`; 1 for the indices that the analysis gives.
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
    effort: int = 1
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
            or an effort without a model of this autoencoder to search with.
    """
    autoencoder = load_autoencoder(config.autoencoder)
    mark = fingerprint(autoencoder)
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = _searcher(config, autoencoder, device)
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
    quality_parts, pixel_parts = [], []
    names: list[str] = []
    firsts = range(0, config.count, config.batch)
    for first in track(firsts, "indices", console=Console(stderr=True)):
        size = min(config.batch, config.count - first)
        crops, shown = sampler.draw_labelled(size, [config.seed, first])
        crops = crops.to(device)
        names += shown
        rng = np.random.default_rng([config.seed, first, 1])
        quality = torch.from_numpy(rng.integers(qualities, size=size)).to(device)
        if model is not None:
            indices = _searched(model, crops, quality, config.effort)
        else:
            with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
                indices = autoencoder.quantize(crops, quality, config.levels)[0]
        for maps, found, dtype in zip(levels, indices, dtypes, strict=False):
            maps.append(found.to(dtype).cpu())
        quality_parts.append(quality.cpu())
        if config.pixels:
            pixel_parts.append(crops.cpu())
    tensors = {f"levels.{n}": torch.cat(maps) for n, maps in enumerate(levels)}
    tensors["quality"] = torch.cat(quality_parts)
    if config.pixels:
        tensors["pixels"] = torch.cat(pixel_parts)
    tensors["label"] = torch.tensor([label_of.get(name, 0) for name in names])
    state = {"autoencoder_sha256": mark, "classes": classes, "side": config.crop}
    checkpoint.save(config.output, tensors, state)
    return config.output


def _searcher(
    config: Extraction, autoencoder: AnyAutoencoder, device: torch.device
) -> Model | None:
    """The model to search with, or None for no search.

    Raises:
        CodecError: no such effort, or no model of this autoencoder to search with.
    """
    if checked_effort(config.effort) == 1:
        return None
    if config.model is None:
        raise CodecError("a search needs priors; export the model, and give its weights file too")
    model = load(config.model, str(device))
    theirs = model.autoencoder.state_dict()
    ours = {name: value.half().float().cpu() for name, value in autoencoder.named_parameters()}
    if not all(name in theirs and value.equal(theirs[name].cpu()) for name, value in ours.items()):
        raise CodecError(f"was not exported from {config.autoencoder}").in_file(config.model)
    if not isinstance(model.autoencoder, Autoencoder):
        raise CodecError("has no rate model to search with").in_file(config.model)
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
    for pixels, each in zip(crops.cpu().numpy(), quality.tolist(), strict=True):
        header = Header(
            width=width,
            height=height,
            grey=False,
            model_id=model.model_id,
            weights_hash=bytes.fromhex(model.sha256)[:WEIGHTS_HASH_LENGTH],
            tile=DEFAULT_TILE,
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


class IndexSampler:
    """Random examples from extracted indices.

    The files mostly show the same images in other crops, so a class has as many images as in the
    file with most of it.

    Args:
        files: What `extract` wrote, all of one crop size and of the same classes.
        autoencoder: `export.fingerprint` of the autoencoder they must come from, or None for any;
            files of earlier releases, which name none, are taken too.
        pixels: Whether `draw_pixels` will be called.

    Raises:
        CodecError: no files, or they do not fit together or to the autoencoder, or hold no pixels.
    """

    def __init__(
        self, files: Sequence[Path], autoencoder: str | None = None, *, pixels: bool = False
    ) -> None:
        if not files:
            raise CodecError("no extracted indices were given; run vqcodec train indices first")
        loaded, states = zip(*(checkpoint.load(path) for path in files), strict=True)
        lists = [[ClassName(*each) for each in state.get("classes", [])] for state in states]
        self.side: int | None = states[0].get("side")
        for path, state, classes in zip(files, states, lists, strict=True):
            if [each.key for each in classes] != [each.key for each in lists[0]]:
                raise CodecError("has other classes than the first file").in_file(path)
            if autoencoder not in (None, state.get("autoencoder_sha256", autoencoder)):
                reason = "holds the indices of another autoencoder; extract them again with "
                raise CodecError(reason + "vqcodec train indices").in_file(path)
        self.classes = [
            same[0]._replace(images=max(each.images for each in same))
            for same in zip(*lists, strict=True)
        ]
        labelled = bool(self.classes)
        names = sorted(name for name in loaded[0] if name.startswith("levels."))
        try:
            self.levels = [torch.cat([tensors[name] for tensors in loaded]) for name in names]
        except (KeyError, RuntimeError) as error:
            raise CodecError(f"the files of indices do not fit together ({error})") from error
        self.quality = torch.cat([tensors["quality"] for tensors in loaded])
        if pixels:
            for path, tensors in zip(files, loaded, strict=True):
                if "pixels" not in tensors:
                    reason = "holds no crops; extract it again with vqcodec train indices --pixels"
                    raise CodecError(reason).in_file(path)
            self.pixels = torch.cat([tensors["pixels"] for tensors in loaded])
        none = torch.zeros_like(self.quality)
        self.label = torch.cat([tensors["label"] for tensors in loaded]) if labelled else none

    def draw(self, count: int, seed: Sequence[int]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Draws examples; the same seed gives the same ones.

        Returns:
            quality int64 [count], label (class + 1, or 0) int64 [count], and per level int64
            [count, G, h, w].
        """
        chosen = self._chosen(count, seed)
        maps = [maps[chosen].long() for maps in self.levels]
        return self.quality[chosen], self.label[chosen], maps

    def draw_pixels(self, count: int, seed: Sequence[int]) -> Tensor:
        """The crops of the examples that `draw` gives: uint8 [count, H, W, 3]."""
        return self.pixels[self._chosen(count, seed)]

    def _chosen(self, count: int, seed: Sequence[int]) -> Tensor:
        rng = np.random.default_rng(seed)
        return torch.from_numpy(rng.integers(len(self.quality), size=count))
