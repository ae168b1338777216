"""The corridor: an image to the bytes of a .vqz file, and back.

    image  ->  tiles  ->  indices  ->  frequencies  ->  payloads  ->  file

`compress` and `decompress` mirror each other. Decompression takes indices from the payloads and the
image from the indices; nothing in it depends on how the indices were found.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqcodec import container
from vqcodec.container import Container, Header
from vqcodec.entropy.coder import Decoder, Encoder
from vqcodec.entropy.frequencies import TEMPERATURE_ONE, TOTAL_BITS
from vqcodec.entropy.wavefront import steps
from vqcodec.errors import ChecksumError, CodecError, HeaderError, WeightsError
from vqcodec.image import Image, dump_alpha, load_alpha
from vqcodec.model import Model, load
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.tiling import Window, batches, crop, grow, pad, padded, split

DEFAULT_TILE = 1024
DEFAULT_BATCH = 4
HALO = 64  # pixels around a tile that the networks see, so that tiles join without seams
SAMPLE_TILE_LIMIT = 4096

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

Choose = Callable[[int, Tensor], Tensor]
"""The argument of `Prior.wavefront`: codebook and frequencies [N, p, K] to symbols [N, p]."""


@dataclass(frozen=True)
class Compressed:
    """Result of `compress`.

    Attributes:
        data: The bytes of the .vqz file.
        ideal_bits: Per level, the code length that the priors promise, in bits.
        header: The file's header.
    """

    data: bytes
    ideal_bits: list[float]
    header: Header


def compress(
    image: Image,
    *,
    quality: int | None = None,
    model: str | Path | None = None,
    tile: int = DEFAULT_TILE,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Compressed:
    """Compresses an image.

    Args:
        image: Any size from 1x1 up.
        quality: 1 to the model's number of qualities, higher is better; None for the middle.
        model: A model id or a weights file; None for the default model.
        tile: Side of a tile in pixels, a power of two from 32 to 4096.
        batch: Tiles at a time.
        device: Where to run the networks; the file does not depend on how frequencies are found.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: no such model or quality, or a tile size that cannot be.
    """
    loaded = load(model or DEFAULT_MODEL, device)
    height, width = image.pixels.shape[:2]
    header = Header(
        width=width,
        height=height,
        grey=image.grey,
        model_id=loaded.model_id,
        weights_hash=bytes.fromhex(loaded.sha256)[: container.WEIGHTS_HASH_LENGTH],
        tile=_checked_tile(tile, loaded),
        quality=_checked_quality(quality, loaded),
        levels=len(loaded.strides),
    )
    indices = _analyse(loaded, header, image, batch, progress)
    sections, ideal_bits, crc = [], [], 0
    for level in range(header.levels):
        payloads, bits = _encode_level(loaded, header, indices, level, batch, progress)
        sections.append(payloads)
        ideal_bits.append(bits)
        crc = _indices_crc(indices[level], _tiles(header, loaded, level), crc)
    extras = {
        container.EXTRA_ALPHA: None if image.alpha is None else dump_alpha(image.alpha),
        container.EXTRA_ICC: image.icc,
        container.EXTRA_EXIF: image.exif,
    }
    present = {kind: content for kind, content in extras.items() if content is not None}
    data = container.pack(Container(header, present, tuple(sections), crc, complete=True))
    return Compressed(data, ideal_bits, header)


def decompress(
    data: bytes,
    *,
    model: str | Path | None = None,
    levels: int | None = None,
    partial: bool = False,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Image:
    """Restores an image.

    Args:
        data: The bytes of a .vqz file.
        model: The weights file, or None for the packaged model that the file names.
        levels: Restore from so many levels only, coarsest first; None for all there are.
        partial: Accept a file that is cut short, and restore the complete levels it holds.
        batch: Tiles at a time.
        device: Where to run the networks.
        progress: Called with (stage, done, total).

    Raises:
        FormatError: the data is no undamaged .vqz file.
        ModelError: its model is missing or is another one.
    """
    contents = container.unpack(data, partial=partial)
    header = contents.header
    loaded = load(model or header.model_id, device)
    _check_model(header, loaded)
    wanted = _checked_levels(levels, contents)
    indices: list[Tensor] = []
    crc = 0
    for level in range(wanted):
        payloads = contents.sections[level]
        indices.append(_decode_level(loaded, header, payloads, indices, batch, progress))
        crc = _indices_crc(indices[level], _tiles(header, loaded, level), crc)
    if wanted == header.levels and contents.indices_crc not in (None, crc):
        raise ChecksumError(
            "the decoded indices differ from those that were coded; the file was made by a faulty "
            "or altered encoder, get it again"
        )
    pixels = _synthesize(loaded, header, indices, batch, progress)
    extras = contents.extras
    alpha = extras.get(container.EXTRA_ALPHA)
    return Image(
        pixels=_as_grey(pixels) if header.grey else pixels,
        grey=header.grey,
        alpha=None if alpha is None else load_alpha(alpha, header.height, header.width),
        icc=extras.get(container.EXTRA_ICC),
        exif=extras.get(container.EXTRA_EXIF),
    )


def inspect(data: bytes) -> Container:
    """Reads and checks a .vqz file without decoding it; a cut file gives its complete levels.

    Raises:
        FormatError: the data is no undamaged .vqz file.
    """
    return container.unpack(data, partial=True)


def sample(
    height: int,
    width: int,
    *,
    model: str | Path | None = None,
    quality: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    count: int = 1,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Image]:
    """Draws new images from the priors.

    Image n of a seed is the same whatever the count, the batch or the machine.

    Args:
        height: Pixels, at most `SAMPLE_TILE_LIMIT`.
        width: Pixels, at most `SAMPLE_TILE_LIMIT`.
        model: A model id or a weights file; None for the default model.
        quality: The quality whose indices are imitated; None for the middle.
        seed: Of the random numbers.
        temperature: Below 1 nearer to the likeliest indices, above 1 more varied.
        count: How many images.
        batch: Images at a time.
        device: Where to run the networks.
        progress: Called with (stage, done, total).

    Raises:
        CodecError: no such model or quality, or sizes and temperatures that cannot be.
    """
    if not (1 <= height <= SAMPLE_TILE_LIMIT and 1 <= width <= SAMPLE_TILE_LIMIT):
        raise CodecError(
            f"cannot sample {width}x{height} pixels; both sides must be 1 to {SAMPLE_TILE_LIMIT}"
        )
    if not 0 < temperature <= 100:
        raise CodecError(f"cannot sample at temperature {temperature}; give one above 0, up to 100")
    loaded = load(model or DEFAULT_MODEL, device)
    chosen = _quality_tensor(_checked_quality(quality, loaded), 1, loaded)
    fixed_point = max(1, round(temperature * TEMPERATURE_ONE))
    coarsest = loaded.strides[0]
    rows, columns = padded(height, coarsest), padded(width, coarsest)
    images: list[Image] = []
    for first in range(0, count, batch):
        numbers = range(first, min(first + batch, count))
        generators = [np.random.default_rng([seed, n]) for n in numbers]
        qualities = chosen.expand(len(numbers))
        draw = _draw_with(generators)
        indices: list[Tensor] = []
        for level, prior in enumerate(loaded.priors):
            shape = (rows // loaded.strides[level], columns // loaded.strides[level])
            state = prior.start(indices, qualities, torch.zeros_like(qualities), *shape)
            report = _stage(progress, f"sample level {level}")
            indices.append(prior.wavefront(state, draw, fixed_point, report))
        pixels = loaded.autoencoder.synthesize(indices, qualities).cpu().numpy()
        images += [Image(crop(each, height, width).copy(), grey=False) for each in pixels]
    return images


# Tiles <-> indices


def _analyse(
    model: Model, header: Header, image: Image, batch: int, progress: Progress | None
) -> list[Tensor]:
    """Per level the indices of the whole padded image: int64 [G, H/s, W/s]."""
    pixels = pad(image.pixels, model.strides[0])
    area = _padded_area(model, header)
    maps = _empty_maps(model, header, len(model.strides))
    windows = split(*area, header.tile)
    done = 0
    for group in _equal_surroundings(windows, area, batch):
        crops = np.stack([pixels[grow(window, HALO, *area).slices] for window in group])
        quality = _quality_tensor(header.quality, len(group), model)
        found, _ = model.autoencoder.quantize(torch.from_numpy(crops).to(model.device), quality)
        for whole, parts, stride in zip(maps, found, model.strides, strict=True):
            for window, part in zip(group, parts, strict=True):
                inner = _inside(window, grow(window, HALO, *area)) // stride
                whole[(slice(None), *(window // stride).slices)] = part[
                    (slice(None), *inner.slices)
                ]
        done += len(group)
        if progress is not None:
            progress("analysis", done, len(windows))
    return maps


def _synthesize(
    model: Model,
    header: Header,
    indices: Sequence[Tensor],
    batch: int,
    progress: Progress | None,
) -> npt.NDArray[np.uint8]:
    """The image of the first `len(indices)` levels: uint8 [H, W, 3]."""
    area = _padded_area(model, header)
    pixels = np.empty((*area, 3), np.uint8)
    windows = split(*area, header.tile)
    done = 0
    for group in _equal_surroundings(windows, area, batch):
        outer = [grow(window, HALO, *area) for window in group]
        crops = [
            _cut(whole, outer, stride)
            for whole, stride in zip(indices, model.strides, strict=False)
        ]
        quality = _quality_tensor(header.quality, len(group), model)
        found = model.autoencoder.synthesize(crops, quality).cpu().numpy()
        for window, around, part in zip(group, outer, found, strict=True):
            pixels[window.slices] = part[_inside(window, around).slices]
        done += len(group)
        if progress is not None:
            progress("synthesis", done, len(windows))
    return crop(pixels, header.height, header.width)


# Indices <-> payloads


def _encode_level(
    model: Model,
    header: Header,
    indices: Sequence[Tensor],
    level: int,
    batch: int,
    progress: Progress | None,
) -> tuple[tuple[bytes, ...], float]:
    """Payloads of a level's tiles in raster order, and their ideal code length in bits."""
    prior = model.priors[level]
    windows = split(*_padded_area(model, header), header.tile)
    payloads: dict[Window, bytes] = {}
    ideal = 0.0
    for group in batches(windows, batch):
        maps = [_cut(indices[m], group, model.strides[m]) for m in range(level + 1)]
        quality = _quality_tensor(header.quality, len(group), model)
        state = prior.start(maps[:-1], quality, torch.zeros_like(quality), *maps[-1].shape[2:])
        frequencies = prior.parallel(state, maps[-1]).cpu()
        symbols = maps[-1].flatten(2).cpu()
        chosen = frequencies.gather(-1, symbols[..., None]).double()
        ideal += float((TOTAL_BITS - chosen.log2()).sum())
        for n, window in enumerate(group):
            encoder = Encoder()
            for step in steps(*maps[-1].shape[2:]):
                for g, size in enumerate(prior.sizes):
                    encoder.encode(symbols[n, g, step], frequencies[n, g, step, :size])
            payloads[window] = encoder.payload()
        if progress is not None:
            progress(f"encode level {level}", len(payloads), len(windows))
    return tuple(payloads[window] for window in windows), ideal


def _decode_level(
    model: Model,
    header: Header,
    payloads: Sequence[bytes],
    coarser: Sequence[Tensor],
    batch: int,
    progress: Progress | None,
) -> Tensor:
    """The indices of a level of the whole padded image: int64 [G, H/s, W/s]."""
    level = len(coarser)
    prior, stride = model.priors[level], model.strides[level]
    whole = _empty_maps(model, header, level + 1)[level]
    windows = split(*_padded_area(model, header), header.tile)
    payload_of = dict(zip(windows, payloads, strict=True))
    for group in batches(windows, batch):
        maps = [_cut(coarser[m], group, model.strides[m]) for m in range(level)]
        quality = _quality_tensor(header.quality, len(group), model)
        shape = (group[0].height // stride, group[0].width // stride)
        state = prior.start(maps, quality, torch.zeros_like(quality), *shape)
        read = _read_with([Decoder(payload_of[window]) for window in group])
        found = prior.wavefront(state, read, progress=_stage(progress, f"decode level {level}"))
        for window, part in zip(group, found, strict=True):
            whole[(slice(None), *(window // stride).slices)] = part
    return whole


def _read_with(decoders: Sequence[Decoder]) -> Choose:
    """Symbols from payloads, one decoder a map."""

    def read(codebook: int, frequencies: Tensor) -> Tensor:
        rows = [coder.decode(each) for coder, each in zip(decoders, frequencies, strict=True)]
        return torch.from_numpy(np.stack(rows)).long()

    return read


def _draw_with(generators: Sequence[np.random.Generator]) -> Choose:
    """Symbols at random, one generator a map."""

    def draw(codebook: int, frequencies: Tensor) -> Tensor:
        cumulative = frequencies.cumsum(-1)
        points = [rng.integers(1 << TOTAL_BITS, size=cumulative.shape[1]) for rng in generators]
        levels = torch.from_numpy(np.stack(points)).to(cumulative.device)
        return torch.searchsorted(cumulative, levels[..., None], right=True).squeeze(-1)

    return draw


# Geometry and checks


def _padded_area(model: Model, header: Header) -> tuple[int, int]:
    coarsest = model.strides[0]
    return padded(header.height, coarsest), padded(header.width, coarsest)


def _tiles(header: Header, model: Model, level: int) -> list[Window]:
    """The tiles in positions of a level."""
    stride = model.strides[level]
    return [window // stride for window in split(*_padded_area(model, header), header.tile)]


def _inside(window: Window, around: Window) -> Window:
    """`window` in the coordinates of `around`."""
    return Window(window.top - around.top, window.left - around.left, window.height, window.width)


def _equal_surroundings(
    windows: Sequence[Window], area: tuple[int, int], batch: int
) -> list[list[Window]]:
    """Batches of windows that still have equal shapes with their halo."""
    groups: dict[tuple[int, int], list[Window]] = {}
    for window in windows:
        around = grow(window, HALO, *area)
        groups.setdefault((around.height, around.width), []).append(window)
    return [part for group in groups.values() for part in batches(group, batch)]


def _cut(whole: Tensor, windows: Sequence[Window], stride: int) -> Tensor:
    """The windows' parts of a level's indices [G, H, W]: int64 [N, G, h, w]."""
    return torch.stack([whole[(slice(None), *(window // stride).slices)] for window in windows])


def _empty_maps(model: Model, header: Header, levels: int) -> list[Tensor]:
    height, width = _padded_area(model, header)
    return [
        torch.zeros(len(prior.sizes), height // stride, width // stride, dtype=torch.int64).to(
            model.device
        )
        for prior, stride in zip(model.priors[:levels], model.strides, strict=False)
    ]


def _indices_crc(indices: Tensor, tiles: Sequence[Window], crc: int) -> int:
    """CRC-32 that goes on with a level's indices, u16 each: tile, position, codebook."""
    for tile in tiles:
        part = indices[(slice(None), *tile.slices)].permute(1, 2, 0)
        crc = zlib.crc32(part.cpu().numpy().astype("<u2").tobytes(), crc)
    return crc


def _as_grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    mean = (pixels.sum(2, dtype=np.uint16) + 1) // 3
    return np.repeat(mean.astype(np.uint8)[:, :, None], 3, 2)


def _quality_tensor(quality: int, count: int, model: Model) -> Tensor:
    return torch.full((count,), quality - 1, dtype=torch.int64, device=model.device)


def _checked_quality(quality: int | None, model: Model) -> int:
    if quality is None:
        return math.ceil(model.qualities / 2)
    if not 1 <= quality <= model.qualities:
        raise CodecError(
            f"{model.model_id} has no quality {quality}; give one from 1 to {model.qualities}"
        )
    return quality


def _checked_tile(tile: int, model: Model) -> int:
    coarsest, largest = model.strides[0], 1 << container.MAX_TILE_LOG2
    if tile & (tile - 1) or not coarsest <= tile <= largest:
        raise CodecError(
            f"a tile side of {tile} cannot be; give a power of two from {coarsest} to {largest}"
        )
    return tile


def _check_model(header: Header, model: Model) -> None:
    expected, found = header.weights_hash.hex(), model.sha256
    if not found.startswith(expected):
        raise WeightsError(
            f"coded with weights of SHA-256 {expected}..., but those of {model.model_id} have "
            f"{found}; give the right file with --model FILE"
        )
    if header.levels != len(model.strides) or header.quality > model.qualities:
        raise HeaderError(
            f"claims {header.levels} levels and quality {header.quality}, which "
            f"{model.model_id} does not have; the file was made by a faulty encoder"
        )
    if header.tile % model.strides[0]:
        raise HeaderError(
            f"claims tiles of {header.tile} pixels, which {model.model_id} cannot have; "
            "the file was made by a faulty encoder"
        )


def _checked_levels(levels: int | None, contents: Container) -> int:
    there = len(contents.sections)
    if levels is not None and not 1 <= levels <= there:
        raise CodecError(f"cannot restore from {levels} levels; the file holds {there}, give 1 up")
    return levels or there


def _stage(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(stage, done, total)
