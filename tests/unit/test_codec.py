from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from corridor import decoded_indices, file_of, found_indices, random_indices

from vqcodec import codec, container, tiles, webp
from vqcodec.container import Header
from vqcodec.entropy.payload import StepsDone
from vqcodec.entropy.state import State
from vqcodec.errors import (
    ChecksumError,
    CodecError,
    HeaderError,
    ImageError,
    SectionError,
    TruncatedError,
)
from vqcodec.image import Image, load
from vqcodec.piece import Region
from vqcodec.resampling import resampled
from vqcodec.weights_file import load as load_model


@pytest.fixture(scope="module")
def photo(astronaut: Path) -> Image:
    return load(astronaut)


@pytest.fixture(scope="module")
def compressed(photo: Image, tiny_model: Path) -> codec.Compressed:
    """The photograph in 4 x 3 tiles."""
    return codec.compress(photo, model=tiny_model, tile=32)


def part(image: Image, height: int, width: int) -> Image:
    return Image(image.pixels[:height, :width].copy(), grey=False)


def grey(image: Image) -> Image:
    channel = image.pixels[..., 1]
    return Image(np.repeat(channel[..., None], 3, 2), grey=True)


def sections_of(data: bytes) -> tuple[tuple[bytes, ...], ...]:
    return container.unpack(data).sections


@pytest.mark.parametrize("tile", [32, 64, 1024])
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (31, 33), (96, 128)])
def test_indices_come_back(
    photo: Image, tiny_model: Path, size: tuple[int, int], tile: int
) -> None:
    image = part(photo, *size)
    result = codec.compress(image, lossless="never", model=tiny_model, tile=tile)
    found = found_indices(image, result.header, tiny_model)
    decoded = decoded_indices(result.data, tiny_model)
    assert all(map(torch.equal, found, decoded))
    assert codec.decompress(result.data, model=tiny_model).pixels.shape == (*size, 3)


def test_header(photo: Image, compressed: codec.Compressed, tiny_model: Path) -> None:
    header = container.unpack(compressed.data).header
    assert header == compressed.header
    assert (header.width, header.height, header.tile, header.levels) == (128, 96, 32, 3)
    assert (header.grey, header.quality, header.model_id) == (False, 2, "tiny-test")
    assert load_model(tiny_model).sha256.startswith(header.weights_hash.hex())


def test_size_is_the_ideal_code_length(compressed: codec.Compressed) -> None:
    """Within 0.01 % and two words a section."""
    for payloads, ideal in zip(sections_of(compressed.data), compressed.ideal_bits, strict=True):
        bits = 8 * sum(map(len, payloads))
        assert ideal <= bits <= 1.0001 * ideal + 64 * len(payloads)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_batch_sizes_change_nothing(
    photo: Image, compressed: codec.Compressed, tiny_model: Path, batch: int
) -> None:
    indices = decoded_indices(compressed.data, tiny_model, batch)
    assert file_of(compressed.header, {}, indices, tiny_model, batch) == compressed.data
    assert codec.compress(photo, model=tiny_model, tile=32, batch=batch).data == compressed.data
    one, other = (
        codec.decompress(compressed.data, model=tiny_model, batch=b).pixels for b in (4, batch)
    )
    np.testing.assert_array_equal(one, other)


def psnr(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    mse = np.square(first.astype(float) - second).mean()
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def test_tiles_join_without_seams(
    coffee: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = part(load(coffee), 136, 200)
    tiled, whole = (
        codec.compress(image, model=tiny_model, tile=tile, effort=1) for tile in (32, 1024)
    )
    restored = codec.decompress(whole.data, model=tiny_model).pixels
    assert psnr(codec.decompress(tiled.data, model=tiny_model).pixels, restored) > 50
    # The same indices in tiles: the halo covers all that synthesis looks at.
    indices = decoded_indices(whole.data, tiny_model)
    joined = file_of(tiled.header, {}, indices, tiny_model)
    pixels = codec.decompress(joined, model=tiny_model).pixels
    assert np.abs(pixels.astype(int) - restored).max() <= 1
    monkeypatch.setattr(tiles, "HALO", 0)
    with_seams = codec.decompress(joined, model=tiny_model).pixels
    assert np.abs(with_seams.astype(int) - restored).max() > 1


@pytest.mark.parametrize(
    "image",
    [
        Image(np.zeros((4, 4), np.uint8), grey=False),
        Image(np.zeros((4, 4, 3), np.float32), grey=False),  # type: ignore[arg-type]
        Image(np.zeros((0, 4, 3), np.uint8), grey=False),
        Image(np.zeros((4, 4, 3), np.uint8), grey=False, alpha=np.zeros((4, 5), np.uint8)),
    ],
)
def test_arrays_that_are_no_image_are_refused(image: Image, tiny_model: Path) -> None:
    with pytest.raises(ImageError):
        codec.compress(image, model=tiny_model)


def test_arrays_and_pillow_images_are_images(photo: Image, tiny_model: Path) -> None:
    expected = bytes(codec.compress(photo, model=tiny_model))
    for same in (photo.pixels, photo.to_pil(), np.asfortranarray(photo.pixels)):
        assert bytes(codec.compress(same, model=tiny_model)) == expected
    restored = codec.decompress(expected, model=tiny_model)
    assert np.array_equal(np.asarray(restored), restored.pixels)


def test_what_cannot_be_packed_is_refused_before_any_work(
    photo: Image, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles.Tiles, "analyze", lambda *rest: pytest.fail("it was analyzed"))
    monkeypatch.setattr(container, "MAX_EXTRA_LENGTH", 3)
    with pytest.raises(SectionError):
        codec.compress(dataclasses.replace(photo, icc=b"1234"), model=tiny_model)


def section_end(data: bytes, sections: tuple[tuple[bytes, ...], ...], level: int) -> int:
    """Where a level's last section ends: trailer and finer levels are known to follow."""
    length, crc, trailer = 1, 4, 8
    following = [payload for payloads in sections[level + 1 :] for payload in payloads]
    assert all(len(payload) < 128 for payload in following)
    return len(data) - trailer - sum(length + len(payload) + crc for payload in following)


def test_levels_and_partial(compressed: codec.Compressed, tiny_model: Path) -> None:
    levels = [
        codec.decompress(compressed.data, model=tiny_model, levels=n).pixels for n in (1, 2, 3)
    ]
    whole = codec.decompress(compressed.data, model=tiny_model).pixels
    np.testing.assert_array_equal(levels[2], whole)
    assert not np.array_equal(levels[0], levels[1])
    assert not np.array_equal(levels[1], levels[2])
    sections = sections_of(compressed.data)
    ends = [section_end(compressed.data, sections, n) for n in range(3)]
    for n in range(3):
        cut = compressed.data[: ends[n] + 1]
        with pytest.raises(TruncatedError, match=f"holds {n + 1} of 3 complete levels"):
            codec.decompress(cut, model=tiny_model)
        restored = codec.decompress(cut, model=tiny_model, partial=True)
        np.testing.assert_array_equal(restored.pixels, levels[n])
        contents = codec.inspect(cut)
        assert not contents.complete
        assert len(contents.sections) == n + 1
    with pytest.raises(CodecError, match="cannot restore from 3 levels; the file holds 2"):
        codec.decompress(compressed.data[: ends[1]], model=tiny_model, partial=True, levels=3)
    with pytest.raises(TruncatedError):
        codec.decompress(compressed.data[: ends[0] - 1], model=tiny_model, partial=True)


@pytest.fixture(scope="module")
def strip(coffee: Path, tiny_model: Path) -> bytes:
    """A file of 2 x 16 tiles, 510 x 60 pixels with alpha."""
    image = part(load(coffee), 60, 510)
    alpha = np.random.default_rng(1).integers(256, size=(60, 510), dtype=np.uint8)
    return bytes(codec.compress(dataclasses.replace(image, alpha=alpha), model=tiny_model, tile=32))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions of every payload that is decoded."""
    counts: list[int] = []
    decode = tiles.payload.decode

    def count(state: State, payloads: Sequence[bytes], progress: StepsDone) -> torch.Tensor:
        _, height, width = state.shape
        counts.extend(height * width for _ in payloads)
        return decode(state, payloads, progress)

    monkeypatch.setattr(tiles.payload, "decode", count)
    return counts


@pytest.mark.parametrize(
    ("region", "columns"),
    [
        ((0, 0, 510, 60), 16),
        ((256, 0, 32, 32), 5),  # its column and two on either side: the halo
        ((260, 7, 1, 1), 5),
        ((0, 59, 33, 1), 4),
        ((509, 59, 1, 1), 3),
    ],
)
def test_a_region_is_that_of_the_whole_and_costs_by_its_area(
    strip: bytes, tiny_model: Path, decoded: list[int], region: Region, columns: int
) -> None:
    x, y, width, height = region
    found = codec.decompress(strip, model=tiny_model, region=region)
    payloads = 2 * columns
    assert decoded == [1] * payloads + [4] * payloads + [16] * payloads
    whole = codec.decompress(strip, model=tiny_model)
    assert whole.alpha is not None
    assert found.alpha is not None
    cut = slice(y, y + height), slice(x, x + width)
    assert np.abs(found.pixels.astype(int) - whole.pixels[cut]).max() <= 1
    np.testing.assert_array_equal(found.alpha, whole.alpha[cut])


@pytest.mark.parametrize(("max_side", "levels"), [(255, 3), (64, 2), (63, 2), (32, 1), (1, 1)])
def test_a_preview_costs_by_its_size(
    strip: bytes, tiny_model: Path, decoded: list[int], max_side: int, levels: int
) -> None:
    found = codec.decompress(strip, model=tiny_model, max_side=max_side)
    assert len(decoded) == 32 * levels
    height, width = found.pixels.shape[:2]
    assert (width, height) == (max_side, max(1, round(60 * max_side / 510)))
    assert found.alpha is not None
    assert found.alpha.shape == (height, width)
    whole = codec.decompress(strip, model=tiny_model, levels=levels)
    for small, large in ((found.pixels, whole.pixels), (found.alpha, whole.alpha)):
        assert large is not None
        assert abs(small.mean() - large.mean()) < 3


def test_a_preview_of_all_levels_is_the_whole_made_smaller(strip: bytes, tiny_model: Path) -> None:
    whole = codec.decompress(strip, model=tiny_model)
    box, size = (100.0, 20.0, 200.0, 52.0), (50, 16)
    expected = resampled(whole.pixels, box, size)
    piece = codec.decompress(strip, model=tiny_model, region=(100, 20, 100, 32), max_side=50)
    assert piece.alpha is not None
    assert psnr(piece.pixels, expected) > 30


def test_levels_asked_for_are_taken_for_a_preview(
    strip: bytes, tiny_model: Path, decoded: list[int]
) -> None:
    codec.decompress(strip, model=tiny_model, max_side=8, levels=3)
    assert len(decoded) == 3 * 32


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"region": (500, 0, 20, 20)}, "no region 500,0,20,20; the image is 510 x 60"),
        ({"max_side": 0}, "sides cannot be 0 pixels"),
    ],
)
def test_no_such_piece(
    strip: bytes, tiny_model: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CodecError, match=reason):
        codec.decompress(strip, model=tiny_model, **options)


@pytest.mark.parametrize("levels", [0, 4, -1])
def test_levels_that_are_not_there(
    compressed: codec.Compressed, tiny_model: Path, levels: int
) -> None:
    with pytest.raises(CodecError, match=f"cannot restore from {levels} levels"):
        codec.decompress(compressed.data, model=tiny_model, levels=levels)


def test_grey(photo: Image, tiny_model: Path) -> None:
    result = codec.compress(grey(photo), model=tiny_model)
    restored = codec.decompress(result.data, model=tiny_model)
    assert result.header.grey
    assert restored.grey
    assert (restored.pixels == restored.pixels[..., :1]).all()
    # One channel is the mean of the model's three, rounded.
    coloured = file_of(
        dataclasses.replace(result.header, grey=False),
        {},
        decoded_indices(result.data, tiny_model),
        tiny_model,
    )
    three = codec.decompress(coloured, model=tiny_model).pixels.astype(int)
    np.testing.assert_array_equal(restored.pixels[..., 0], (three.sum(2) + 1) // 3)


@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_alpha_is_lossless(photo: Image, tiny_model: Path, size: tuple[int, int]) -> None:
    alpha = np.random.default_rng(0).integers(256, size=size, dtype=np.uint8)
    image = dataclasses.replace(part(photo, *size), alpha=alpha)
    data = codec.compress(image, model=tiny_model).data
    restored = codec.decompress(data, model=tiny_model)
    assert restored.alpha is not None
    np.testing.assert_array_equal(restored.alpha, alpha)
    assert codec.decompress(data, model=tiny_model, levels=1).alpha is not None


def test_metadata(photo: Image, tiny_model: Path) -> None:
    image = dataclasses.replace(part(photo, 8, 8), icc=b"a profile", exif=b"Exif\0\0a block")
    data = codec.compress(image, model=tiny_model).data
    restored = codec.decompress(data, model=tiny_model)
    assert (restored.icc, restored.exif, restored.alpha) == (image.icc, image.exif, None)
    assert set(codec.inspect(data).extras) == {container.EXTRA_ICC, container.EXTRA_EXIF}


def test_quality_changes_the_file(photo: Image, tiny_model: Path) -> None:
    files = [codec.compress(photo, quality=q, model=tiny_model).data for q in (1, 2, 3)]
    assert len({sections_of(data) for data in files}) == 3
    assert [container.peek(data).quality for data in files] == [1, 2, 3]


@pytest.mark.parametrize(
    "arguments",
    [
        {"quality": 1.5},
        {"quality": "1"},
        {"quality": True},
        {"effort": 2.5},
        {"effort": "5"},
        {"size": "40kB"},
        {"max_size": "40kB"},
        {"size": True},
        {"bpp": "0.5"},
        {"psnr": "30"},
        {"tile": 64.0},
    ],
)
def test_arguments_of_wrong_types(arguments: dict[str, Any], tiny_model: Path) -> None:
    (name,) = arguments
    with pytest.raises(CodecError, match=rf"{name.removeprefix('max_')} .* is no (whole )?number"):
        codec.compress(noise_image(), model=tiny_model, **arguments)


def test_numpy_integers_are_whole_numbers(tiny_model: Path) -> None:
    found = codec.compress(noise_image(), model=tiny_model, quality=np.int64(2))  # type: ignore[arg-type]
    assert found.header.quality == 2


def test_size_and_max_size_exclude_each_other(tiny_model: Path) -> None:
    with pytest.raises(CodecError, match="exclude each other"):
        codec.compress(noise_image(), model=tiny_model, size=500, max_size=500)


def noise_image() -> Image:
    return Image(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))


@pytest.mark.parametrize("quality", [0, 4, -1, 255])
def test_no_such_quality(photo: Image, tiny_model: Path, quality: int) -> None:
    with pytest.raises(CodecError, match=f"no quality {quality}; give one from 1 to 3"):
        codec.compress(photo, quality=quality, model=tiny_model)


@pytest.mark.parametrize("tile", [0, -32, 1, 16, 33, 48, 8192])
def test_no_such_tile(photo: Image, tiny_model: Path, tile: int) -> None:
    with pytest.raises(CodecError, match=f"tile side of {tile} cannot be"):
        codec.compress(photo, model=tiny_model, tile=tile)


def test_progress_reaches_its_end(photo: Image, tiny_model: Path) -> None:
    calls: list[tuple[str, int, int]] = []

    def note(stage: str, done: int, total: int) -> None:
        calls.append((stage, done, total))

    data = codec.compress(photo, model=tiny_model, tile=64, progress=note).data
    codec.decompress(data, model=tiny_model, progress=note)
    ends = {stage for stage, done, total in calls if done == total}
    levels = {f"{verb} level {n}" for verb in ("encode", "decode") for n in range(3)}
    assert ends == {"analysis", "search", "synthesis"} | levels
    assert all(1 <= done <= total for _, done, total in calls)


def repacked(data: bytes, **changes: object) -> bytes:
    """The file with fields of its header or container changed, and right checksums."""
    contents = container.unpack(data)
    of_header = {k: v for k, v in changes.items() if hasattr(contents.header, k)}
    rest = {k: v for k, v in changes.items() if k not in of_header}
    header = dataclasses.replace(contents.header, **of_header)  # type: ignore[arg-type]
    return container.pack(dataclasses.replace(contents, header=header, **rest))  # type: ignore[arg-type]


def test_another_number_of_levels(compressed: codec.Compressed, tiny_model: Path) -> None:
    two = repacked(compressed.data, levels=2, sections=sections_of(compressed.data)[:2])
    with pytest.raises(HeaderError, match="claims 2 levels"):
        codec.decompress(two, model=tiny_model)


def test_a_quality_that_the_model_lacks(compressed: codec.Compressed, tiny_model: Path) -> None:
    with pytest.raises(HeaderError, match="quality 4"):
        codec.decompress(repacked(compressed.data, quality=4), model=tiny_model)


def test_another_quality_is_noticed(compressed: codec.Compressed, tiny_model: Path) -> None:
    with pytest.raises((ChecksumError, SectionError)):
        codec.decompress(repacked(compressed.data, quality=1), model=tiny_model)


def test_wrong_indices_are_noticed(compressed: codec.Compressed, tiny_model: Path) -> None:
    crc = container.unpack(compressed.data).indices_crc
    assert crc is not None
    with pytest.raises(ChecksumError, match="decoded indices differ"):
        codec.decompress(repacked(compressed.data, indices_crc=crc ^ 1), model=tiny_model)


def test_any_indices_can_be_held(tiny_model: Path, compressed: codec.Compressed) -> None:
    model = load_model(tiny_model)
    header = dataclasses.replace(compressed.header, width=70, height=40, tile=64)
    indices = [level[0] for level in random_indices(model, 1, 64, 96)]
    data = file_of(header, {}, indices, tiny_model)
    assert all(map(torch.equal, decoded_indices(data, tiny_model), indices))


def squares() -> Image:
    """A chequered image, which takes few bytes without loss."""
    board = (np.indices((48, 64)) // 8).sum(0) % 2 * 255
    return Image(np.repeat(board.astype(np.uint8)[..., None], 3, 2), grey=False)


def test_plain_images_are_kept_lossless(tiny_model: Path) -> None:
    image = dataclasses.replace(squares(), icc=b"a profile", exif=b"Exif\0\0a block")
    lossy = codec.compress(image, lossless="never", model=tiny_model)
    result = codec.compress(image, model=tiny_model)
    assert not lossy.header.lossless
    assert result.header == Header.of_lossless(64, 48, grey=False)
    assert len(result.data) <= len(lossy.data)
    restored = codec.decompress(result.data)
    np.testing.assert_array_equal(restored.pixels, image.pixels)
    assert (restored.icc, restored.exif) == (image.icc, image.exif)
    codec.verify(result.data)


def test_what_can_be_wrong_is_wrong_of_plain_images_too(tiny_model: Path) -> None:
    for arguments in ({"quality": 4}, {"effort": 10}, {"tile": 100}, {"tune": "no"}):
        with pytest.raises(CodecError):
            codec.compress(squares(), model=tiny_model, **arguments)  # type: ignore[arg-type]


def test_photographs_are_compressed_as_ever(photo: Image, tiny_model: Path) -> None:
    assert (
        codec.compress(photo, model=tiny_model).data
        == codec.compress(photo, lossless="never", model=tiny_model).data
    )


@pytest.mark.parametrize(("wanted", "tried"), [({}, False), ({"max_size": 10**6}, True)])
def test_of_photographs_no_lossless_file_is_made_that_cannot_be_kept(
    coffee: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, wanted: Any, tried: bool
) -> None:
    calls = []

    def encode(*arguments: Any, **options: Any) -> tuple[bytes, ...]:
        calls.append(options)
        return webp_encode(*arguments, **options)

    webp_encode = webp.encode
    monkeypatch.setattr(webp, "encode", encode)
    pixels = load(coffee).pixels[100:260, 200:400]
    result = codec.compress(pixels, **wanted, model=tiny_model)
    assert bool(calls) == result.header.lossless == tried
    calls.clear()
    pixels = pixels // 64 * 64  # few bits are left
    codec.compress(pixels, model=tiny_model)
    assert calls


def test_a_lossless_file_restores_pieces(photo: Image) -> None:
    alpha = np.arange(photo.pixels[..., 0].size, dtype=np.uint8).reshape(photo.pixels.shape[:2])
    data = codec.compress(dataclasses.replace(photo, alpha=alpha), lossless="always").data
    piece = codec.decompress(data, region=(5, 6, 70, 20))
    np.testing.assert_array_equal(piece.pixels, photo.pixels[6:26, 5:75])
    assert piece.alpha is not None
    np.testing.assert_array_equal(piece.alpha, alpha[6:26, 5:75])
    small = codec.decompress(data, max_side=32, levels=1)
    assert small.pixels.shape == (24, 32, 3)
    with pytest.raises(CodecError, match="cannot restore from 2 levels; the file holds 1"):
        codec.decompress(data, levels=2)


def test_a_lossless_file_is_larger_than_a_tile() -> None:
    image = np.random.default_rng(3).integers(256, size=(2, 8200, 3), dtype=np.uint8)
    result = codec.compress(image, lossless="always")
    assert len(container.unpack(result.data).sections[0]) == 2
    np.testing.assert_array_equal(codec.decompress(result.data).pixels, image)


def test_no_such_lossless(photo: Image) -> None:
    with pytest.raises(CodecError, match="there is no lossless True; give auto, always or never"):
        codec.compress(photo, lossless=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("turned", [False, True])
def test_narrow_tiles_side_by_side_are_coded_as_one_by_one(
    photo: Image, tiny_model: Path, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.tile(photo.pixels[:40], (1, 3, 1))
    image = np.ascontiguousarray(pixels.swapaxes(0, 1)) if turned else pixels
    batches = []
    start = tiles.Tiles.start

    def count(self: tiles.Tiles, coarser: Any, windows: Any, *more: Any) -> State:
        batches.append(len(windows))
        return start(self, coarser, windows, *more)

    monkeypatch.setattr(tiles.Tiles, "start", count)
    compress = partial(codec.compress, image, model=tiny_model, tile=32, effort=1)
    at_once = compress().data
    restored = codec.decompress(at_once, model=tiny_model).pixels
    assert max(batches) > 1
    batches.clear()
    monkeypatch.setattr(tiles, "NARROW", 0)
    assert compress().data == at_once
    np.testing.assert_array_equal(codec.decompress(at_once, model=tiny_model).pixels, restored)
    assert max(batches) == 1


@pytest.mark.parametrize(
    ("size", "tile"),
    [
        ((4, 1025), 4096),
        ((1025, 128), 4096),
        ((4, 1024), 1024),
        ((129, 3000), 1024),
        ((64, 64), 1024),
        ((1500, 1500), 1024),
    ],
)
def test_tile_if_none_is_asked_for(size: tuple[int, int], tile: int) -> None:
    assert tiles.default_tile(*size) == tile


def test_tiles_of_a_narrow_image_are_long(photo: Image, tiny_model: Path) -> None:
    strip = np.tile(photo.pixels[:4], (1, 9, 1))
    result = codec.compress(strip, model=tiny_model, lossless="never")
    assert (result.header.tile, result.header.tiles) == (4096, 1)
    assert codec.decompress(result.data, model=tiny_model).pixels.shape == strip.shape
