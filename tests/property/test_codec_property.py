from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from corridor import decoded_indices, found_indices
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vqcodec import codec
from vqcodec.image import Image, economical

TILE = 32
SIDES = st.sampled_from([1, 2, 7, TILE - 1, TILE, TILE + 1, 2 * TILE, 2 * TILE + 5])


@st.composite
def images(draw: st.DrawFn, sides: st.SearchStrategy[int] = SIDES) -> Image:
    """Noise or smooth colour, grey or not, with alpha or not."""
    shape = draw(sides), draw(sides)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    is_grey = draw(st.booleans())
    pixels = np.full((*shape, 3), rng.integers(256, size=3), np.uint8)
    if draw(st.booleans()):
        pixels = rng.integers(256, size=(*shape, 3), dtype=np.uint8)
    if is_grey:
        pixels = np.repeat(pixels[..., :1], 3, 2)
    alpha = rng.integers(256, size=shape, dtype=np.uint8) if draw(st.booleans()) else None
    return Image(pixels, grey=is_grey, alpha=alpha)


# The model's file is written once for the session, so it may be shared between examples.
@settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(image=images(), quality=st.integers(1, 3), tile=st.sampled_from([TILE, 2 * TILE, 1024]))
@example(image=Image(np.zeros((1, 1, 3), np.uint8), grey=False), quality=1, tile=TILE)
@example(image=Image(np.zeros((1, 1, 3), np.uint8), grey=True), quality=3, tile=4096)
@example(image=Image(np.zeros((1, 97, 3), np.uint8), grey=False), quality=2, tile=TILE)
@example(image=Image(np.zeros((97, 1, 3), np.uint8), grey=False), quality=2, tile=TILE)
def test_round_trip(tiny_model: Path, image: Image, quality: int, tile: int) -> None:
    result = codec.compress(image, quality=quality, lossless="never", model=tiny_model, tile=tile)
    image = economical(image)  # which is what is coded
    found = found_indices(image, result.header, tiny_model)
    assert all(map(torch.equal, decoded_indices(result.data, tiny_model), found))

    restored = codec.decompress(result.data, model=tiny_model)
    assert restored.pixels.shape == image.pixels.shape
    assert restored.grey == image.grey
    assert (restored.icc, restored.exif) == (None, None)
    if image.alpha is None:
        assert restored.alpha is None
    else:
        assert restored.alpha is not None
        np.testing.assert_array_equal(restored.alpha, image.alpha)
    bits = 8 * sum(
        len(payload) for level in codec.inspect(result.data).sections for payload in level
    )
    sections = result.header.levels * result.header.tiles
    assert sum(result.ideal_bits) <= bits <= 1.0001 * sum(result.ideal_bits) + 64 * sections


@settings(deadline=None, max_examples=60)
@given(image=images(st.integers(1, 40)))
def test_lossless_round_trip(image: Image) -> None:
    result = codec.compress(image, lossless="always")
    assert result.header.lossless
    restored = codec.decompress(result.data)
    np.testing.assert_array_equal(restored.channels, image.channels)
    np.testing.assert_array_equal(restored.pixels, image.pixels)
    assert (restored.grey, restored.alpha is None) == (image.grey, image.alpha is None)
