from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from corridor import decoded_indices
from torch import Tensor

from vqcodec import codec, container
from vqcodec.drawing import completion
from vqcodec.drawing.completion import Completion, complete, marked
from vqcodec.drawing.sampling import Place
from vqcodec.drawing.shaping import Shaping
from vqcodec.errors import ChecksumError, CodecError, TruncatedError
from vqcodec.image import Image, dump, load
from vqcodec.tiles import Tiles

TILES = 6


@pytest.fixture(scope="module")
def photo(astronaut: Path) -> Image:
    """90 x 60 pixels, with alpha."""
    pixels = load(astronaut).pixels[:60, :90].copy()
    return Image(pixels, grey=False, alpha=pixels[..., 0].copy(), exif=b"Exif\x00\x00MM\x00*")


@pytest.fixture(scope="module")
def whole(photo: Image, tiny_model: Path) -> bytes:
    """Its file, in 3 x 2 tiles and three levels."""
    return codec.compress(photo, model=tiny_model, tile=32).data


def ends(data: bytes) -> list[int]:
    """Length of the file up to and with each section."""
    sections = container.unpack(data).sections
    sizes = [len(payload) + 4 + 1 + (len(payload) > 127) for level in sections for payload in level]
    start = len(data) - 8 - sum(sizes)
    return [start + sum(sizes[:n]) for n in range(len(sizes) + 1)]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """The indices that images were made of."""
    found: list[list[Tensor]] = []
    synthesize = Tiles.synthesize

    def note(self: Tiles, indices: list[Tensor]) -> object:
        found.append(list(indices))
        return synthesize(self, indices)

    monkeypatch.setattr(Tiles, "synthesize", note)
    return found


def known_positions(maps: Tensor, tiles: int, stride: int) -> Tensor:
    """bool [h, w]: the first of the 3 x 2 tiles."""
    known = torch.zeros(maps.shape[1:], dtype=torch.bool)
    side = 32 // stride
    for n in range(tiles):
        top, left = n // 3 * side, n % 3 * side
        known[top : top + side, left : left + side] = True
    return known


@pytest.mark.parametrize("extra", [0, 7])
@pytest.mark.parametrize("sections", [0, 1, 5, 6, 7, 10, 12, 17])
def test_what_a_cut_file_holds_is_kept(
    whole: bytes, tiny_model: Path, seen: list[list[Tensor]], sections: int, extra: int
) -> None:
    original = decoded_indices(whole, tiny_model)
    cut = whole[: ends(whole)[sections] + extra]
    result = complete(cut, place=Place(tiny_model))
    expected = [min(max(sections - level * TILES, 0), TILES) for level in range(3)]
    assert result.held == tuple(expected)
    (found,) = seen
    for level, stride in enumerate((32, 16, 8)):
        known = known_positions(original[level], expected[level], stride)
        assert found[level].shape == original[level].shape
        assert torch.equal(found[level][:, known], original[level][:, known])
        if not known.all():
            assert not torch.equal(found[level][:, ~known], original[level][:, ~known])
    invented = np.ones((64, 96), bool)
    for n in range(min(expected)):
        top, left = n // 3 * 32, n % 3 * 32
        invented[top : top + 32, left : left + 32] = False
    assert (result.mask.pixels == np.where(invented, 255, 0)[:60, :90, None]).all()


def test_a_whole_file_gives_what_decompressing_gives(
    photo: Image, whole: bytes, tiny_model: Path
) -> None:
    for data in (whole, whole[:-1], whole[:-8]):
        result = complete(data, place=Place(tiny_model), seed=7)
        same(result.image, codec.decompress(whole, model=tiny_model))
        assert result.invented == "nothing"
        assert not result.mask.pixels.any()


def same(image: Image, expected: Image) -> None:
    assert dataclasses.replace(image, pixels=None, alpha=None) == dataclasses.replace(  # type: ignore[arg-type]
        expected,
        pixels=None,  # type: ignore[arg-type]
        alpha=None,
    )
    assert (image.pixels == expected.pixels).all()
    assert image.alpha is not None
    assert expected.alpha is not None
    assert (image.alpha == expected.alpha).all()


def test_grey_files_give_grey_images(photo: Image, tiny_model: Path) -> None:
    grey = Image(np.repeat(photo.pixels[..., :1], 3, 2), grey=True)
    data = codec.compress(grey, model=tiny_model, tile=32).data
    image = complete(data[:-20], place=Place(tiny_model)).image
    assert image.grey
    assert (image.pixels == image.pixels[..., :1]).all()


def test_seed_and_place_alone_decide(whole: bytes, tiny_model: Path) -> None:
    cut = whole[: ends(whole)[8]]

    def done(shaping: Shaping, seed: int = 0, batch: int | None = None) -> bytes:
        result = complete(cut, shaping, Place(tiny_model, batch=batch), seed=seed)
        return result.image.pixels.tobytes()

    first = done(Shaping())
    assert done(Shaping(), batch=1) == first
    assert done(Shaping(), seed=1) != first
    assert done(Shaping(top_k=1)) == done(Shaping(top_k=1), seed=1)
    # One tile less in the file: the tiles after it are drawn as before.
    less = complete(whole[: ends(whole)[16]], place=Place(tiny_model)).image.pixels
    more = complete(whole[: ends(whole)[17]], place=Place(tiny_model)).image.pixels
    assert (less != more).any()


def test_the_same_tiles_are_drawn_whatever_else_is_missing(
    whole: bytes, tiny_model: Path, seen: list[list[Tensor]]
) -> None:
    for sections in (13, 15):
        complete(whole[: ends(whole)[sections]], place=Place(tiny_model))
    less, more = (found[2] for found in seen)
    both = ~known_positions(less, 3, 8)
    assert torch.equal(less[:, both], more[:, both])
    assert not torch.equal(less, more)


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_levels_that_are_there_can_be_invented(
    whole: bytes, tiny_model: Path, seen: list[list[Tensor]], levels: int
) -> None:
    result = complete(whole, place=Place(tiny_model), levels=levels)
    assert result.held == (TILES,) * levels + (0,) * (3 - levels)
    assert bool(result.mask.pixels.all()) == (levels < 3)
    original = decoded_indices(whole, tiny_model)
    for level in range(3):
        assert torch.equal(seen[0][level], original[level]) == (level < levels)


@pytest.mark.parametrize("levels", [-1, 4])
def test_levels_that_cannot_be(whole: bytes, tiny_model: Path, levels: int) -> None:
    with pytest.raises(CodecError, match=f"cannot use {levels} levels of the file; give 0 to 3"):
        complete(whole, place=Place(tiny_model), levels=levels)


def test_levels_keep_the_tiles_of_the_level_a_file_ends_in(whole: bytes, tiny_model: Path) -> None:
    cut = whole[: ends(whole)[8]]
    assert complete(cut, place=Place(tiny_model), levels=2).held == (6, 2, 0)
    assert complete(cut, place=Place(tiny_model), levels=1).held == (6, 0, 0)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ((6, 6, 6), "nothing"),
        ((6, 6, 0), "level 2 of levels 0 to 2, seed 5"),
        ((6, 0, 0), "level 1, level 2 of levels 0 to 2, seed 5"),
        ((6, 2, 0), "4 of 6 tiles of level 1, level 2 of levels 0 to 2, seed 5"),
    ],
)
def test_words_for_what_is_invented(held: tuple[int, ...], expected: str) -> None:
    nothing = Image(np.zeros((1, 1, 3), np.uint8), grey=True)
    assert Completion(nothing, nothing, held, TILES, 5).invented == expected


def test_files_cannot_be_guided(whole: bytes, tiny_model: Path) -> None:
    with pytest.raises(CodecError, match="guidance needs a class, which files do not tell"):
        complete(whole, Shaping(guidance=2.0), Place(tiny_model))


def test_damage_is_never_accepted(whole: bytes, tiny_model: Path) -> None:
    place = ends(whole)[4]
    damaged = whole[: place - 2] + bytes([whole[place - 2] ^ 1]) + whole[place - 1 : place + 9]
    with pytest.raises(ChecksumError, match="wrong checksum of a section"):
        complete(damaged, place=Place(tiny_model))


def test_other_indices_than_were_coded_are_told(whole: bytes, tiny_model: Path) -> None:
    contents = container.unpack(whole)
    assert contents.indices_crc is not None
    other = container.pack(dataclasses.replace(contents, indices_crc=contents.indices_crc ^ 1))
    with pytest.raises(ChecksumError, match="differ from those that were coded"):
        complete(other, place=Place(tiny_model))


def test_a_file_cut_before_its_sections_cannot_be_completed(whole: bytes, tiny_model: Path) -> None:
    for length in (0, 10, ends(whole)[0] - 1):
        with pytest.raises(TruncatedError, match="cut short, get it again"):
            complete(whole[:length], place=Place(tiny_model))


def test_salvage_gives_what_there_is_of_the_last_level(whole: bytes) -> None:
    sections = container.unpack(whole).sections
    for count, end in enumerate(ends(whole)):
        for length in (end, end + 3):
            found = container.salvage(whole[:length])
            flat = [payload for level in (*found.sections, found.started) for payload in level]
            assert flat == [payload for level in sections for payload in level][:count]
            assert len(found.sections) == count // TILES
            assert not found.complete
    assert container.salvage(whole) == container.unpack(whole)
    assert container.unpack(whole[:-40], partial=True).started == ()


def test_a_marked_png_tells_what_was_invented(photo: Image) -> None:
    png = marked(dump(photo), "level 2, seed 0")
    with PIL.Image.open(io.BytesIO(png)) as picture:
        picture.load()
        assert picture.info[completion.PNG_KEYWORD] == "level 2, seed 0"
        assert (np.asarray(picture)[..., :3] == photo.pixels).all()
