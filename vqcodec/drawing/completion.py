"""Files that lack something, completed from the priors.

    the tiles that a cut file still holds  ->  indices  +  drawn indices  ->  image, mask

What is drawn is invented: plausible to the priors, and not what the image was.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.PngImagePlugin
from torch import Tensor

from vqcodec import container, limits
from vqcodec.ambient import ordinary_state
from vqcodec.drawing.sampling import HERE, Place
from vqcodec.drawing.shaping import UNSHAPED, Shaping, draw_with
from vqcodec.entropy import payload
from vqcodec.entropy.payload import StepsDone
from vqcodec.entropy.state import State
from vqcodec.errors import CodecError
from vqcodec.image import Image, image_of
from vqcodec.progress import Progress
from vqcodec.tiles import Tiles
from vqcodec.tiling import Window

DEFAULT_BATCH = 4
PNG_KEYWORD = "vqcodec:invented"
_PNG_START = 33  # the signature and the first chunk, IHDR; other chunks may follow


@dataclass(frozen=True)
class Completion:
    """Result of `complete`.

    Attributes:
        image: The image.
        mask: Grey, of the same size: 255 where indices of any level are invented, else 0.
        held: Per level, how many of its tiles came from the file, the first in raster order; the
            others are invented.
        tiles: Tiles of a level.
        seed: Of the invented indices.
    """

    image: Image
    mask: Image
    held: tuple[int, ...]
    tiles: int
    seed: int

    @property
    def invented(self) -> str:
        """What was invented, in words; "nothing" if all came from the file."""
        parts = [
            f"level {level}"
            if held == 0
            else f"{self.tiles - held} of {self.tiles} tiles of level {level}"
            for level, held in enumerate(self.held)
            if held < self.tiles
        ]
        if not parts:
            return "nothing"
        return f"{', '.join(parts)} of levels 0 to {len(self.held) - 1}, seed {self.seed}"


@ordinary_state()
def complete(
    data: bytes,
    shaping: Shaping = UNSHAPED,
    place: Place = HERE,
    *,
    levels: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Completion:
    """Restores an image, and draws from the priors what the file does not hold.

    Complete tiles of the level that a cut file ends in are used. The indices drawn for a tile
    depend on the seed, the level, the tile and its coarser indices alone.

    Args:
        data: The bytes of a .vqz file, cut short anywhere after its extras, or whole.
        shaping: How probabilities are changed; not guided, as files know no class.
        place: Where; without a model, with the packaged one that the file names.
        levels: Use so many levels of the file only, coarsest first, 0 for none; None for all.
        seed: Of the random numbers.
        progress: Called with (stage, done, total).

    Raises:
        FormatError: the data is no undamaged .vqz file, or its beginning.
        ModelError: its model is missing or is another one.
        CodecError: values that cannot be, the file is lossless, or has more pixels than the limit.
    """
    if shaping.guided:
        raise CodecError("guidance needs a class, which files do not tell; leave it at 1")
    contents = container.salvage(data)
    header = contents.header
    if header.lossless:
        reason = "a lossless file holds pixels, which nothing can invent"
        raise CodecError(f"{reason}; use decompress")
    if levels is not None and not 0 <= levels <= header.levels:
        raise CodecError(f"cannot use {levels} levels of the file; give 0 to {header.levels}")
    limits.check(header.width, header.height)
    batch = place.batch or DEFAULT_BATCH
    tiles = Tiles.of_file(header, place.model, place.device, batch, progress)
    missing = header.levels - len(contents.sections)
    payloads = [*contents.sections, contents.started, *[()] * missing][: header.levels]
    if levels is not None:
        payloads[levels:] = [()] * (header.levels - levels)
    indices: list[Tensor] = []
    for known in payloads:
        indices.append(_filled(tiles, known, indices, seed, shaping))
    held = tuple(map(len, payloads))
    if contents.complete and min(held) == header.tiles:
        tiles.check_indices(indices, contents.indices_crc)
    image = image_of(contents, tiles.synthesize(indices))
    return Completion(image, _mask(tiles, min(held)), held, header.tiles, seed)


def marked(png: bytes, text: str) -> bytes:
    """A PNG file with a text chunk `vqcodec:invented`.

    Args:
        png: A PNG file.
        text: Latin-1 text.
    """
    stream = io.BytesIO()
    stream.write(png[:_PNG_START])
    chunk = PNG_KEYWORD.encode("latin-1") + b"\0" + text.encode("latin-1")
    PIL.PngImagePlugin.putchunk(stream, b"tEXt", chunk)
    stream.write(png[_PNG_START:])
    return stream.getvalue()


def _filled(
    tiles: Tiles, known: Sequence[bytes], coarser: Sequence[Tensor], seed: int, shaping: Shaping
) -> Tensor:
    """Indices of a level, integers [G, H'/s, W'/s]: its first tiles decoded, the others drawn."""
    level = len(coarser)
    prior = tiles.model.priors[level]
    numbers = {window: n for n, window in enumerate(tiles.windows)}

    def invent(state: State, some: Sequence[Window], progress: StepsDone) -> Tensor:
        generators = [np.random.PCG64([seed, level, numbers[window]]) for window in some]
        return payload.find(state, draw_with(prior, generators, shaping), progress)

    there, missing = tiles.windows[: len(known)], tiles.windows[len(known) :]
    decoded = tiles.decode(known, coarser, there)
    # Each is zero where the other is not.
    return decoded + tiles.find(missing, coarser, invent, f"invent level {level}")


def _mask(tiles: Tiles, held: int) -> Image:
    """255 outside of the first tiles that are held in all levels."""
    pixels = np.zeros((*tiles.area, 3), np.uint8)
    for tile in tiles.windows[held:]:
        pixels[tile.slices] = 255
    return Image(pixels[: tiles.header.height, : tiles.header.width].copy(), grey=True)
