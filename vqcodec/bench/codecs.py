"""What is measured: vqcodec, and the codecs a user would pick instead.

A codec turns pixels into the bytes of a file at one of its qualities, and back. Qualities are the
codec's own numbers; `qualities` lists them in the order of rising bitrate. Importing this loads no
torch, so that the memory of a peer's process is the peer's.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.features
import PIL.Image

from vqcodec.bench.images import Pixels
from vqcodec.choosing.effort import DEFAULT_EFFORT
from vqcodec.choosing.tunes import DEFAULT_TUNE, tune_of
from vqcodec.errors import CodecError
from vqcodec.image import Image
from vqcodec.registry import WEIGHTS_SUFFIX

_FAILURES = (OSError, ValueError, RuntimeError, SyntaxError)  # of Pillow and its plugins

MOST_QUALITIES = 12  # of a model, if the caller names none


@dataclass(frozen=True)
class Encoded:
    """A file's bytes.

    Attributes:
        data: The bytes.
        level_bits: Of vqcodec, the ideal code length of each level; else None.
    """

    data: bytes
    level_bits: list[float] | None = None


class Variant(NamedTuple):
    """A way to use a model.

    Attributes:
        tune: What indices are searched for.
        synthesis: What restores, if not what the tune is for: a file of one.
    """

    tune: str = DEFAULT_TUNE
    synthesis: str | None = None

    @classmethod
    def of(cls, name: str) -> Variant:
        """A tune, or the default one and a file of a synthesis."""
        return cls(synthesis=name) if name.endswith(WEIGHTS_SUFFIX) else cls(name)

    @property
    def name(self) -> str:
        """What tells it from others."""
        return self.tune if self.synthesis is None else Path(self.synthesis).stem


USUAL = Variant()


@dataclass(frozen=True)
class Vqcodec:
    """This project's codec.

    Attributes:
        model: A model id, or the path of a weights file.
        model_id: Of the model.
        qualities: Of the model.
        threads: Of torch.
        effort: Of the search for indices.
        variant: How it is used.
        main: Whether it is the one that all is compared with; further ones are beside it.
    """

    model: str
    model_id: str
    qualities: tuple[int, ...]
    threads: int
    effort: int = DEFAULT_EFFORT
    variant: Variant = USUAL
    main: bool = True
    suffix = ".vqz"

    @property
    def key(self) -> str:
        """Short name, as `curves.is_ours` knows it."""
        return "vqcodec" if self.main else f"vqcodec-{self.variant.name}"

    @property
    def settings(self) -> str:
        """The effort, and what else is not the default."""
        told = [] if self.variant == USUAL else [self.variant.name]
        return ", ".join([f"effort {self.effort}", *told])

    @property
    def name(self) -> str:
        """Of the main one with the model's id, of the others with what tells them apart."""
        return f"vqcodec {self.model_id}" if self.main else f"vqcodec, {self.variant.name}"

    def prepare(self) -> None:
        """Sets the number of threads."""
        import torch

        torch.set_num_threads(self.threads)

    def encode(self, pixels: Pixels, quality: int) -> Encoded:
        """As `vqcodec compress` does."""
        from vqcodec.codec import compress

        compressed = compress(
            Image(pixels, grey=False),
            quality=quality,
            effort=self.effort,
            tune=self.variant.tune,
            lossless="never",
            model=self.model,
        )
        return Encoded(compressed.data, compressed.ideal_bits)

    def decode(self, data: bytes) -> Pixels:
        """As `vqcodec decompress` does, the checksum of all indices included."""
        from vqcodec.codec import decompress

        return decompress(data, model=self.model, synthesis=self.variant.synthesis).pixels


@dataclass(frozen=True)
class PillowCodec:
    """A codec of Pillow or of one of its plugins.

    Attributes:
        key: Short name.
        name: What a reader calls it.
        settings: `options` in words.
        suffix: Of its files.
        qualities: In the order of rising bitrate.
        format: Pillow's name of the format.
        options: For `PIL.Image.Image.save`, the quality and the threads apart.
        plugin: Module that brings the format, if Pillow itself does not.
        compression_ratios: Whether the qualities are ratios of pixels' bytes to the file's.
        threads: Name of the option that takes the number of threads, and that number.
        highest: The largest number it takes as a quality.
    """

    key: str
    name: str
    settings: str
    suffix: str
    qualities: tuple[int, ...]
    format: str
    options: Mapping[str, Any] = field(default_factory=dict)
    plugin: str | None = None
    compression_ratios: bool = False
    threads: tuple[str, int] | None = None
    highest: int = 100

    def prepare(self) -> None:
        """Loads the plugin, if there is one."""
        if self.plugin is not None:
            importlib.import_module(self.plugin)

    def encode(self, pixels: Pixels, quality: int) -> Encoded:
        """Saves with these options.

        Raises:
            CodecError: Pillow or the plugin fails.
        """
        chosen: dict[str, Any] = (
            {"quality_layers": [quality]} if self.compression_ratios else {"quality": quality}
        )
        if self.threads is not None:
            chosen[self.threads[0]] = self.threads[1]
        stream = io.BytesIO()
        try:
            PIL.Image.fromarray(pixels).save(stream, self.format, **self.options, **chosen)
        except _FAILURES as error:
            reason = f"cannot encode at quality {quality}: {error}"
            raise CodecError(f"{self.name} {reason}; leave it out with --peer") from error
        return Encoded(stream.getvalue())

    def decode(self, data: bytes) -> Pixels:
        """Loads.

        Raises:
            CodecError: Pillow or the plugin fails.
        """
        try:
            with PIL.Image.open(io.BytesIO(data)) as picture:
                return np.asarray(picture.convert("RGB"))
        except _FAILURES as error:
            reason = f"cannot decode its own file: {error}"
            raise CodecError(f"{self.name} {reason}; leave it out with --peer") from error


PEERS = {
    peer.key: peer
    for peer in (
        PillowCodec(
            key="jpeg",
            name="JPEG",
            settings="optimized, progressive, 4:2:0",
            suffix=".jpg",
            qualities=(5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95),
            format="JPEG",
            options={"optimize": True, "progressive": True, "subsampling": "4:2:0"},
        ),
        PillowCodec(
            key="webp",
            name="WebP",
            settings="method 6",
            suffix=".webp",
            qualities=(0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100),
            format="WEBP",
            options={"method": 6},
        ),
        PillowCodec(
            key="avif",
            name="AVIF",
            settings="speed 6, 4:2:0",
            suffix=".avif",
            qualities=(5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90),
            format="AVIF",
            options={"speed": 6, "subsampling": "4:2:0"},
            threads=("max_threads", 1),
        ),
        PillowCodec(  # the other one is tuned for SSIMULACRA 2, since libavif 1.4
            key="avif-psnr",
            name="AVIF for PSNR",
            settings="speed 6, 4:4:4, tune=psnr",
            suffix=".avif",
            qualities=(5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90),
            format="AVIF",
            options={"speed": 6, "subsampling": "4:4:4", "advanced": {"tune": "psnr"}},
            threads=("max_threads", 1),
        ),
        PillowCodec(
            key="jpeg2000",
            name="JPEG 2000",
            settings="irreversible 9-7, one layer, quality = compression ratio",
            suffix=".jp2",
            qualities=(300, 200, 130, 80, 50, 36, 24, 16, 10),
            format="JPEG2000",
            options={"quality_mode": "rates", "irreversible": True},
            compression_ratios=True,
        ),
        PillowCodec(
            key="jxl",
            name="JPEG XL",
            settings="effort 7",
            suffix=".jxl",
            qualities=(1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90),
            format="JXL",
            options={"effort": 7},
            plugin="pillow_jxl",
            threads=("num_threads", 1),
            highest=99,
        ),
    )
}
"""The peers that write files, by key; each also runs without the others."""

Codec = Vqcodec | PillowCodec
"""What can be measured. Instances travel to other processes, so they hold settings only."""

_FEATURES = {"JPEG": "jpg", "WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}


@dataclass(frozen=True)
class Missing:
    """What was wanted and is not there.

    Attributes:
        name: Of the codec or metric.
        reason: Why it is not there.
        remedy: What to do.
    """

    name: str
    reason: str
    remedy: str


def missing(peer: PillowCodec) -> Missing | None:
    """Why a peer cannot run here, or None if it can."""
    if peer.plugin is not None:
        if importlib.util.find_spec(peer.plugin) is None:
            return Missing(
                peer.name, f"{peer.plugin} is not installed", "pip install 'vqcodec[peers]'"
            )
    elif not PIL.features.check(_FEATURES[peer.format]):
        return Missing(peer.name, "this Pillow was built without it", "install Pillow's own wheel")
    return None


def vqcodec(
    model: str,
    qualities: Sequence[int],
    threads: int,
    effort: int = DEFAULT_EFFORT,
    variant: Variant = USUAL,
    *,
    main: bool = True,
) -> Vqcodec:
    """This project's codec with some of its model's qualities.

    Args:
        model: A model id, or the path of a weights file.
        qualities: Some of the model's; if empty all, or evenly spread ones of many.
        threads: Of torch.
        effort: Of the search for indices.
        variant: How to use the model.
        main: Whether it is the one that all is compared with.

    Raises:
        CodecError: no such model, quality, tune or synthesis, or a model of another kind.
    """
    from vqcodec.syntheses import NATURAL, synthesis_of
    from vqcodec.weights_file import load

    loaded = load(model)
    chosen = sorted({loaded.checked_quality(quality) for quality in qualities})
    spread_out = tuple(chosen or spread(loaded.qualities))
    natural = NATURAL if tune_of(variant.tune).natural else None
    synthesis_of(loaded, variant.synthesis or natural)  # is there
    return Vqcodec(model, loaded.model_id, spread_out, threads, effort, variant, main)


def spread(count: int) -> list[int]:
    """Qualities of a model that has so many, lowest and highest among them."""
    points = min(count, MOST_QUALITIES)
    return [1 + n * (count - 1) // max(1, points - 1) for n in range(points)]


def matched(codec: PillowCodec, pixels: Pixels, size: int) -> tuple[int, bytes]:
    """The best quality whose file is not larger than another one, as far as the codec can.

    Args:
        codec: Whose.
        pixels: uint8 [H, W, 3].
        size: Bytes not to exceed.

    Returns:
        The quality and the bytes of the file; of the lowest quality, if its file is larger still.
        A compression ratio is what is asked for, and headers may exceed it.
    """
    if codec.compression_ratios:
        quality = -(-pixels.size // size)
        return quality, codec.encode(pixels, quality).data
    lowest, highest = min(codec.qualities), codec.highest
    best = lowest, codec.encode(pixels, lowest).data
    while lowest < highest:
        middle = (lowest + highest + 1) // 2
        found = codec.encode(pixels, middle).data
        if len(found) <= size:
            lowest, best = middle, (middle, found)
        else:
            highest = middle - 1
    return best


def chosen_peers(keys: Sequence[str], threads: int) -> tuple[list[PillowCodec], list[Missing]]:
    """The peers of these keys that can run here, and those that cannot.

    Args:
        keys: Of `PEERS`.
        threads: How many threads those that take a number may use.

    Raises:
        CodecError: no such peer.
    """
    present: list[PillowCodec] = []
    absent: list[Missing] = []
    for key in dict.fromkeys(keys):
        if key not in PEERS:
            raise CodecError(f"peer {key!r} is not known; there are {', '.join(PEERS)}")
        peer = PEERS[key]
        why = missing(peer)
        if why is not None:
            absent.append(why)
        elif peer.threads is None:
            present.append(peer)
        else:
            present.append(replace(peer, threads=(peer.threads[0], threads)))
    return present, absent
