"""How samples come about: level by level, and within a level as the wavefront goes over its map.

What is not drawn yet shows what the coarser levels alone give, and grey before there are any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqcodec.drawing.grid import grid, grid_size
from vqcodec.drawing.sampling import Sample
from vqcodec.errors import ImageError, OutputError
from vqcodec.image import Image
from vqcodec.spec.cone import step_of
from vqcodec.tiling import padded

ENDINGS = (".gif", ".webp")
MAX_FRAMES = 24
"""Of a level; its steps are shared out among them."""
MAX_PIXELS = 1 << 28
"""Of all frames together."""
GREY = 127
FRAME_MS, LAST_MS = 60, 2000


def check_name(path: str | Path) -> None:
    """Does nothing for the name of an animation's file.

    Raises:
        OutputError: it has another ending.
    """
    ending = Path(path).suffix
    if ending.lower() not in ENDINGS:
        reason = f"has the extension {ending!r}" if ending else "has no extension"
        known = " or ".join(ENDINGS)
        raise OutputError(f"{reason}, not one of an animation; write a {known} file").in_file(path)


def check_size(count: int, columns: int, height: int, width: int, strides: Sequence[int]) -> None:
    """Does nothing for an animation that fits into memory.

    Args:
        count: Samples.
        columns: Samples a row.
        height: Pixels of a sample.
        width: Pixels of a sample.
        strides: Of the model, coarse to fine.

    Raises:
        ImageError: it has too many pixels.
    """
    rows, across = grid_size(count, columns, height, width)
    maps = [_map_of(height, width, stride, strides[0]) for stride in strides]
    many = sum(len(_reached(steps)) for steps in maps)
    if rows * across * many > MAX_PIXELS:
        reason = f"an animation of {count} images has {many} frames of {across}x{rows} pixels"
        raise ImageError(f"{reason}, too many together; ask for fewer")


def frames(samples: Sequence[Sample], columns: int, strides: Sequence[int]) -> Iterator[Image]:
    """The frames, of all samples side by side.

    Args:
        samples: One at least, of one size, with what their coarser levels give.
        columns: Samples a row.
        strides: Of the model, coarse to fine.
    """
    height, width = samples[0].image.pixels.shape[:2]
    shown = [np.full((height, width, 3), GREY, np.uint8) for _ in samples]
    for level, stride in enumerate(strides):
        found = [[*each.coarser, each.image][level].pixels for each in samples]
        steps = _map_of(height, width, stride, strides[0])
        wide = np.repeat(np.repeat(steps, stride, 0), stride, 1)[:height, :width, None]
        for reached in _reached(steps):
            mixed = [np.where(wide <= reached, *pair) for pair in zip(found, shown, strict=True)]
            yield grid([Image(pixels, grey=False) for pixels in mixed], columns)
        shown = found


def dump(pictures: Sequence[Image], path: str | Path) -> bytes:
    """Frames as a file, which shows the last of them longer and begins again.

    Args:
        pictures: Of one size.
        path: A name as of `check_name`; GIFs have 256 colours a frame, WebPs all.

    Raises:
        OutputError: it cannot be written.
    """
    from imageio import v3

    ending = Path(path).suffix.lower()
    durations = [FRAME_MS] * (len(pictures) - 1) + [LAST_MS]
    options: dict[str, Any] = {"lossless": True} if ending == ".webp" else {}
    stacked = np.stack([each.pixels for each in pictures])
    try:
        encoded: bytes = v3.imwrite(
            "<bytes>",
            stacked,
            extension=ending,
            plugin="pillow",
            duration=durations,
            loop=0,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = f"the animation cannot be written ({error})"
        raise OutputError(f"{reason}; ask for fewer images").in_file(path) from error
    return encoded


def _map_of(height: int, width: int, stride: int, coarsest: int) -> npt.NDArray[np.int64]:
    """Of every position of a level's map, its step: int64 [h, w]."""
    rows, columns = (padded(side, coarsest) // stride for side in (height, width))
    return np.array(step_of(rows, columns)).reshape(rows, columns)


def _reached(steps: npt.NDArray[np.int64]) -> list[int]:
    """The step that each frame of a level reaches."""
    last = int(steps.max())
    count = min(MAX_FRAMES, last + 1)
    return [round((n + 1) * (last + 1) / count) - 1 for n in range(count)]
