from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest

from vqcodec.drawing import animation
from vqcodec.drawing.sampling import Sample
from vqcodec.errors import ImageError, OutputError
from vqcodec.image import Image

STRIDES = (8, 4)
SIDES = (13, 24)  # maps of 2 x 3 and 4 x 6


def plain(value: int) -> Image:
    return Image(np.full((*SIDES, 3), value, np.uint8), grey=False)


@pytest.fixture
def pictures() -> list[Image]:
    samples = [Sample(plain(200 + n), n, coarser=(plain(100 + n),)) for n in range(2)]
    return list(animation.frames(samples, 2, STRIDES))


def shown(picture: Image, number: int) -> np.ndarray:
    left = 2 + number * (SIDES[1] + 2)
    return picture.pixels[2 : 2 + SIDES[0], left : left + SIDES[1], 0]


def test_frames_follow_the_wavefront(pictures: list[Image]) -> None:
    # Steps column + 2 * row: 5 of the coarse map, 12 of the fine one.
    assert len(pictures) == 5 + 12
    for number in range(2):
        first = shown(pictures[0], number)
        assert (first[:8, :8] == 100 + number).all()
        assert (np.delete(first, range(8), 0) == animation.GREY).all()
        assert (first[:, 8:] == animation.GREY).all()
        third = shown(pictures[2], number)
        assert (third[:8] == 100 + number).all()
        assert (third[8:, :8] == 100 + number).all()
        assert (third[8:, 8:] == animation.GREY).all()
        assert (shown(pictures[4], number) == 100 + number).all()
        fine = shown(pictures[5], number)
        assert (fine[:4, :4] == 200 + number).all()
        assert (fine == 200 + number).sum() == 16
        assert (shown(pictures[-1], number) == 200 + number).all()


def test_steps_of_large_maps_share_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animation, "MAX_FRAMES", 4)
    sample = Sample(plain(200), 0, coarser=(plain(100),))
    found = [shown(each, 0) for each in animation.frames([sample], 1, STRIDES)]
    assert len(found) == 8
    assert all((a != b).any() for a, b in pairwise(found))
    assert (found[3] == 100).all()
    assert (found[-1] == 200).all()


@pytest.mark.parametrize("name", ["out.gif", "OUT.WEBP"])
def test_a_file_has_the_frames(pictures: list[Image], name: str, tmp_path: Path) -> None:
    animation.check_name(name)
    (tmp_path / name).write_bytes(animation.dump(pictures, name))
    with PIL.Image.open(tmp_path / name) as opened:
        assert opened.n_frames == len(pictures)
        for frame, picture in zip(PIL.ImageSequence.Iterator(opened), pictures, strict=True):
            found = np.asarray(frame.convert("RGB")).astype(int)
            assert np.abs(found - picture.pixels).max() <= (0 if name == "OUT.WEBP" else 4)
            last = picture is pictures[-1]
            expected = animation.LAST_MS if last else animation.FRAME_MS
            assert frame.info["duration"] == expected
        assert opened.info["loop"] == 0


@pytest.mark.parametrize("name", ["out.png", "out", "-", "out.gif.mp4"])
def test_other_endings_are_an_error(name: str) -> None:
    with pytest.raises(OutputError, match=r"extension.*; write a \.gif or \.webp file"):
        animation.check_name(name)


def test_more_than_fits_into_memory_is_an_error() -> None:
    animation.check_size(64, 8, 64, 64, (16, 8, 4))
    with pytest.raises(ImageError, match="too many together; ask for fewer"):
        animation.check_size(4000, 64, 64, 64, (16, 8, 4))
