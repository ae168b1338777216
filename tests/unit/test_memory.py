"""What is computed of large pictures lies there a few rows or a tile at a time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pictures import noise

from vqcodec import tiling
from vqcodec.container import Header
from vqcodec.image import Image, as_image, depth, economical, flattened, picture, strips
from vqcodec.image.writing import _squared_error
from vqcodec.tiles import Tiles
from vqcodec.tiling import Window
from vqcodec.weights_file import load as load_model

SIDE = 1024
PIXELS = noise(SIDE, SIDE, 3)
ALPHA = noise(SIDE, SIDE) // 2 * (np.arange(SIDE) % 3 > 0)[:, np.newaxis].astype(np.uint8)
RGBA = PIL.Image.fromarray(np.dstack([PIXELS, ALPHA]))
DEEP = PIXELS.astype(np.uint16) * 257


def peak(action: Callable[[], object]) -> int:
    """Bytes that numpy and Python took at most."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("action", "bytes_a_pixel"),
    [
        (lambda: as_image(PIL.Image.fromarray(PIXELS)), 3),
        (lambda: as_image(PIL.Image.fromarray(PIXELS).convert("P")), 3),
        (lambda: as_image(PIL.Image.fromarray(PIXELS).convert("CMYK")), 3),
        (lambda: as_image(RGBA), 4),
        (lambda: as_image(PIL.Image.fromarray(PIXELS[:, :, 0])), 3),
        (lambda: economical(Image(PIXELS, alpha=ALPHA)), 4),
        (lambda: flattened(Image(PIXELS, alpha=ALPHA), "teal"), 3),
        (lambda: picture.luma(PIXELS), 1),
        (lambda: depth.scaled(DEEP), 3),
        (lambda: _squared_error(PIXELS, 255 - PIXELS), 3),
    ],
    ids=["RGB", "P", "CMYK", "RGBA", "L", "economical", "flattened", "luma", "scaled", "error"],
)
def test_no_more_than_what_is_made(
    action: Callable[[], object], bytes_a_pixel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "PIXELS", SIDE * 16)
    assert peak(action) < 1.5 * bytes_a_pixel * SIDE**2 + 500_000


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_strips_change_nothing(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = PIL.Image.fromarray(noise(70, 31, 4)).convert(mode.replace("I;16", "L"))
    if mode == "I;16":
        source = PIL.Image.fromarray(noise(70, 31).astype(np.uint16) * 200)
    whole = as_image(source)
    monkeypatch.setattr(strips, "PIXELS", 100)  # three rows, and one at the end
    found = as_image(source)
    np.testing.assert_array_equal(found.pixels, whole.pixels)
    np.testing.assert_array_equal(found.channels, whole.channels)


def test_economical_by_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image(PIXELS[:90, :70], alpha=ALPHA[:90, :70])
    whole = economical(image)
    monkeypatch.setattr(strips, "PIXELS", 300)
    np.testing.assert_array_equal(economical(image).pixels, whole.pixels)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 33), (100, 127)])
def test_a_padded_part_is_that_of_the_padded_whole(size: tuple[int, int]) -> None:
    pixels = PIXELS[: size[0], : size[1]]
    whole = tiling.pad(pixels, 32)
    for window in tiling.split(*whole.shape[:2], 64):
        np.testing.assert_array_equal(tiling.cut_out(pixels, window), whole[window.slices])


@pytest.fixture
def tiles(tiny_model: Path) -> Tiles:
    model = load_model(tiny_model)
    sha256 = bytes.fromhex(model.sha256)[:8]
    header = Header(90, 70, False, model.model_id, sha256, 64, 1, len(model.strides))
    return Tiles(model, header, 1)


def test_indices_take_a_byte_each(tiles: Tiles) -> None:
    maps = tiles.analyze(PIXELS[:70, :90])
    assert [each.element_size() for each in maps] == [1] * len(maps)


def test_what_is_restored_has_no_padding_beneath(tiles: Tiles) -> None:
    indices = tiles.analyze(PIXELS[:70, :90])
    restored = tiles.synthesize(indices)
    assert restored.shape == (70, 90, 3)
    assert restored.base is None
    for window in (Window(0, 0, 70, 90), Window(13, 7, 51, 62), Window(69, 89, 1, 1)):
        part = tiles.synthesize(indices, part=window)
        assert part.base is None
        np.testing.assert_array_equal(part, restored[window.slices])
