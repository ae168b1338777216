"""The corridor: an image to the bytes of a .vqz file, and back.

    image  ->  tiles  ->  indices  ->  frequencies  ->  payloads  ->  file

`compress` and `decompress` mirror each other; `vqcodec.tiles` holds one verb each way. Indices come
from the payloads and the image from the indices; nothing in decompression depends on how the
indices were found.

A lossless file holds pixels (`vqcodec.webp`) and needs no model: what does is imported where it is
used, so that such files are read and written without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vqcodec import arguments, container, limits, webp
from vqcodec.ambient import ordinary_state
from vqcodec.container import Container, Header
from vqcodec.errors import CodecError
from vqcodec.image import Image, Pictures, as_image, economical, extras_of, image_of
from vqcodec.piece import Piece, Region
from vqcodec.progress import Progress
from vqcodec.registry import DEFAULT_MODEL
from vqcodec.resampling import resampled
from vqcodec.tiling import Window
from vqcodec.watch import stage

if TYPE_CHECKING:
    from torch import Tensor

    from vqcodec.choosing.rate_control import Score
    from vqcodec.tiles import Tiles

DEFAULT_BATCH = 4


@dataclass(frozen=True)
class Compressed:
    """Result of `compress`; `bytes()` of it is the file.

    Attributes:
        data: The bytes of the .vqz file.
        ideal_bits: Per level, the code length that the priors promise, in bits; of no level if the
            file is lossless.
        header: The file's header.
        rate_weight: How much more a bit cost in the choice of indices than was trained for the
            quality.
        score: SSIMULACRA 2, if it was asked for, or PSNR in dB, of what the file decodes to; None
            if nobody needed to know.
        passes: How often the image was compressed.
    """

    data: bytes
    ideal_bits: list[float]
    header: Header
    rate_weight: float = 1.0
    score: float | None = None
    passes: int = 1

    def __bytes__(self) -> bytes:
        """The file."""
        return self.data


@ordinary_state()
def compress(
    image: Pictures,
    *,
    quality: int | None = None,
    bpp: float | None = None,
    size: int | None = None,
    max_size: int | None = None,
    psnr: float | None = None,
    ssimulacra2: float | None = None,
    effort: int | None = None,
    tune: str | None = None,
    synthesis: str | None = None,
    model: str | Path | None = None,
    lossless: str = "auto",
    tile: int | None = None,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    max_pixels: int | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """Compresses an image.

    Of quality, bpp, size, max_size, psnr and ssimulacra2 one at most is given. An alpha channel
    that is opaque everywhere is left out, and colours under full transparency are not kept, unless
    the file is always to be lossless. Meeting a target takes up to `rate_control.MAX_PASSES` times
    as long.

    Args:
        image: Any size from 1x1 up: an `Image`, a Pillow image, or an array, uint8 [H, W, 3],
            [H, W, 4] with alpha, or [H, W].
        quality: 1 to the model's number of qualities, higher is better; None for the middle.
        bpp: Bits of the file per pixel, met within 2 %.
        size: Bytes of the file, never exceeded, and at least 98 % used.
        max_size: Bytes of the file, never exceeded; the best that fits.
        psnr: PSNR of the decoded image in dB, met within 0.1 dB, or by a lossless file if only
            that has as much.
        ssimulacra2: SSIMULACRA 2 of the decoded image, met within 0.5, or in the same way.
        effort: 1 to 9, higher is slower, and better for the bytes it takes: at the same quality the
            image is nearer to the original, and the file may be larger or smaller. Only models with
            a rate model search; others, such as VQ-VAE, take 1 whatever is asked. None for 5.
        tune: What the search is for: "psnr", "ssimulacra2", which is for MS-SSIM, too, or "natural"
            for what the natural synthesis restores best; None for "psnr". Without effect at effort
            1, but that the file says "natural".
        synthesis: What `decompress` is to restore with if not told otherwise: "faithful" or
            "natural"; None for what it is tuned for. The search goes through it.
        lossless: "auto" for a lossless file where it is not larger than the other, or where it fits
            bpp, size or max_size, as a rule of drawings, text and tiny images, or where no other
            reaches psnr or ssimulacra2; "always", which leaves no quality or target to ask for; or
            "never".
        model: A model id or a weights file; None for the default model.
        tile: Side of a tile in pixels, a power of two from 32 to 4096; None for 1024, or for 4096
            for images that are longer and at most 128 pixels the other way.
        batch: Tiles at a time.
        device: Where to run the networks; the file does not depend on how frequencies are found.
        max_pixels: The most the image may have; None for what the environment variable
            VQCODEC_MAX_PIXELS says, or 128 million.
        progress: Called with (stage, done, total).

    Raises:
        ImageError: it is no image, or too large.
        CodecError: no such model, quality or effort, a tile size that cannot be, or a target that
            is out of reach.
    """
    # Here, as decompression needs nothing of it.
    from vqcodec.choosing import keeping
    from vqcodec.choosing.wanted import Wanted

    wanted = Wanted(quality, bpp, size, max_size, psnr, ssimulacra2)
    with limits.at_most(max_pixels):
        original = as_image(image)
    if keeping.checked_lossless(lossless) == keeping.ALWAYS:
        keeping.check_no_target(**vars(wanted))
        return _lossless(original, extras_of(original))

    from vqcodec import syntheses
    from vqcodec.choosing import choice, rate_control, tunes
    from vqcodec.choosing.effort import checked_effort
    from vqcodec.tiles import Tiles, header_for
    from vqcodec.weights_file import load

    source = economical(original)
    with stage("weights"):
        loaded = load(model or DEFAULT_MODEL, device)
    header = header_for(source, loaded, quality, tile)
    tuned, effort = tunes.tune_of(tune), checked_effort(effort)
    if tuned.natural and synthesis is None:
        synthesis = syntheses.NATURAL
    own = extras_of(source)
    extras = {**own, **syntheses.extras_for(synthesis)}
    container.check(header, extras)  # before the work, not after
    through = syntheses.synthesis_of(loaded, synthesis)
    target = rate_control.target_of(wanted, header, extras)

    def attempt(quality: int, rate_weight: float, effort: int, score: Score | None) -> Compressed:
        tiles = Tiles(loaded, replace(header, quality=quality), batch, progress)
        indices = choice.choose(tiles, source.pixels, effort, rate_weight, tuned, through)
        contents, ideal_bits = encode(tiles, indices, extras)
        with stage("pack"):
            compressed = Compressed(container.pack(contents), ideal_bits, tiles.header, rate_weight)
        if score is None:
            return compressed
        restored = image_of(contents, tiles.synthesize(indices, through))
        return replace(compressed, score=score(source.pixels, restored.pixels))

    def lossy(plain: bool) -> Compressed:
        found, passes = rate_control.made(attempt, target, header.quality, loaded, effort, plain)
        return replace(found, passes=passes)

    photograph = target is None and webp.fewest_bpp(source.pixels) > keeping.PLAIN_BPP
    if lossless == keeping.NEVER or photograph:
        return lossy(plain=False)
    limit = None if target is None else target.most
    return keeping.kept(partial(_lossless, source, own), lossy, header.pixels, limit)


@ordinary_state()
def decompress(
    data: bytes,
    *,
    model: str | Path | None = None,
    synthesis: str | Path | None = None,
    levels: int | None = None,
    partial: bool = False,
    region: Region | None = None,
    max_side: int | None = None,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    max_pixels: int | None = None,
    progress: Progress | None = None,
) -> Image:
    """Restores an image, or a piece of it, for which only the tiles around it are decoded.

    A lossless file has one level, and needs neither a model nor a synthesis.

    Args:
        data: The bytes of a .vqz file.
        model: The weights file, or None for the packaged model that the file names.
        synthesis: "faithful" for what is nearest to the original, "natural" for what looks most
            like a photograph, or the weights file of a synthesis; None for the one that the file
            was made for, or else the faithful one. From some of the levels only, it is faithful.
        levels: Restore from so many levels only, coarsest first; None for all there are, or for
            those that are seen at the size of the result.
        partial: Accept a file that is cut short, and restore the complete levels it holds.
        region: The part to restore, as x, y, width and height in pixels; None for all.
        max_side: The most pixels a side of the result, which is never enlarged; None for no limit.
        batch: Tiles at a time.
        device: Where to run the networks.
        max_pixels: The most to decode: those of the region at its size, or of all if the file is
            lossless or has alpha; None for what the environment variable VQCODEC_MAX_PIXELS says,
            or 128 million.
        progress: Called with (stage, done, total).

    Raises:
        FormatError: the data is no undamaged .vqz file.
        LimitError: there is more to decode than `max_pixels`.
        ModelError: its model is missing or is another one.
        CodecError: the model has no such synthesis, or the image no such region.
    """
    with stage("unpack"):
        contents = container.unpack(data, partial=partial)
    there = len(contents.sections)
    if levels is not None and not 1 <= (levels := arguments.whole(levels, "levels")) <= there:
        raise CodecError(f"cannot restore from {levels} levels; the file holds {there}, give 1 up")
    piece = Piece.of(contents.header, region, max_side)
    with limits.at_most(max_pixels):
        limits.check(*piece.computed(contents.header, container.EXTRA_ALPHA in contents.extras))
    everything = Window(0, 0, contents.header.height, contents.header.width)
    if contents.header.lossless:
        pixels, box = webp.decode(contents.sections[0], contents.header), piece.box(everything, 1)
    else:
        from vqcodec import syntheses
        from vqcodec.tiles import Tiles

        tiles = Tiles.of_file(contents.header, model, device, batch, progress, piece.pixels)
        with stage("weights"):
            chosen = syntheses.chosen(tiles.model, synthesis, contents.extras)
        part = piece.window if piece.exact else tiles.aligned(piece.window)
        seen = levels or min(piece.levels(tiles.model.strides), there)
        indices = decode(tiles, contents, seen, tiles.around(part))
        whole = len(indices) == contents.header.levels
        factor = min(piece.reduction, tiles.model.strides[seen - 1])
        pixels = tiles.synthesize(indices, chosen if whole else None, part, factor)
        box = piece.box(part, factor)
    image = image_of(contents, resampled(pixels, box, piece.size))
    if image.alpha is None:
        return image
    return replace(image, alpha=resampled(image.alpha, piece.box(everything, 1), piece.size))


@ordinary_state()
def verify(
    data: bytes,
    *,
    model: str | Path | None = None,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Decodes all indices of a .vqz file and compares them with their checksum.

    The arguments are those of `decompress`.

    Raises:
        FormatError: the data is no undamaged .vqz file, or its indices are not those coded.
        LimitError: it has more pixels than the limit.
        ModelError: its model is missing or is another one.
    """
    contents = container.unpack(data)
    limits.check(contents.header.width, contents.header.height)
    if contents.header.lossless:
        webp.decode(contents.sections[0], contents.header)
        return

    from vqcodec.tiles import Tiles

    tiles = Tiles.of_file(contents.header, model, device, batch, progress)
    decode(tiles, contents, contents.header.levels, tiles.windows)


def inspect(data: bytes) -> Container:
    """Reads and checks a .vqz file without decoding it; a cut file gives its complete levels.

    Raises:
        FormatError: the data is no undamaged .vqz file.
    """
    return container.unpack(data, partial=True)


def _lossless(image: Image, extras: dict[int, bytes], quick: bool = False) -> Compressed:
    """The lossless file of an image, made quickly or as small as it can be."""
    height, width = image.pixels.shape[:2]
    header = Header.of_lossless(width, height, image.grey)
    container.check(header, extras)
    payloads = webp.encode(image.pixels, header.tile, quick=quick)
    contents = Container(header, extras, (payloads,), indices_crc=None, complete=True)
    with stage("pack"):
        return Compressed(container.pack(contents), ideal_bits=[], header=header)


def encode(
    tiles: Tiles, indices: list[Tensor], extras: dict[int, bytes]
) -> tuple[Container, list[float]]:
    """All that a file holds, and per level its ideal code length in bits.

    Args:
        tiles: Of the image.
        indices: Per level integers [G, H'/s, W'/s].
        extras: What else the file keeps.
    """
    coded = [tiles.encode(indices[: level + 1]) for level in range(tiles.header.levels)]
    contents = Container(
        header=tiles.header,
        extras=extras,
        sections=tuple(payloads for payloads, _ in coded),
        indices_crc=tiles.indices_crc(indices),
        complete=True,
    )
    return contents, [bits for _, bits in coded]


def decode(
    tiles: Tiles, contents: Container, levels: int, windows: Sequence[Window]
) -> list[Tensor]:
    """Indices of some tiles of the first levels, compared with their checksum if they are all.

    Returns:
        Per level integers [G, H'/s, W'/s], zero outside of the tiles.

    Raises:
        FormatError: A payload does not fit its model, or the checksum differs.
    """
    indices: list[Tensor] = []
    for payloads in contents.sections[:levels]:
        by_window = dict(zip(tiles.windows, payloads, strict=True))
        indices.append(tiles.decode([by_window[each] for each in windows], indices, windows))
    everything = levels == contents.header.levels and len(windows) == len(tiles.windows)
    if everything and contents.complete:
        tiles.check_indices(indices, contents.indices_crc)
    return indices
