from __future__ import annotations

import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count, islice
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from tiny_training import (
    FIXTURES,
)
from torch import Tensor

from vqcodec.errors import CodecError
from vqcodec.photos import open_photos
from vqcodec.training.crops import CropSampler, Draw, RecentPhotos, default_workers
from vqcodec.training.settings import (
    Images,
)


def sampler(sources: list[tuple[Path, float]] | None = None, **changes: object) -> CropSampler:
    given = {"crop": 64, "workers": 0, **changes}
    return CropSampler(Images(sources=sources or [(FIXTURES, 1.0)], **given))  # type: ignore[arg-type]


def draws(first: int = 0) -> Iterator[Draw]:
    """Without an end, as of a training."""
    return (Draw(2, [7, step]) for step in count(first))


def first_of(crops: CropSampler, number: int, first: int = 0) -> list[tuple[Tensor, list[str]]]:
    with closing(crops.batches(draws(first))) as batches:
        return list(islice(batches, number))


def test_crops_are_seeded_and_mirrored() -> None:
    crops, labels = sampler().draw(4, [1, 2])
    assert crops.shape == (4, 64, 64, 3)
    assert labels == ["fixtures"] * 4
    assert torch.equal(crops, sampler().draw(4, [1, 2])[0])
    assert not torch.equal(crops, sampler().draw(4, [1, 3])[0])
    plain, mirrored = (
        [sampler(mirror=each).draw(1, [seed])[0] for seed in range(8)] for each in (False, True)
    )
    same = [torch.equal(*pair) for pair in zip(plain, mirrored, strict=True)]
    flipped = [torch.equal(a.flip(2), b) for a, b in zip(plain, mirrored, strict=True)]
    assert same == [not each for each in flipped]
    assert {*same} == {True, False}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
def test_workers_draw_the_same_crops() -> None:
    alone = first_of(sampler(), 5)
    for workers in (1, 2):
        found = first_of(sampler(workers=workers), 5)
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(alone, found, strict=True))
        assert [labels for _, labels in found] == [labels for _, labels in alone]
    later = first_of(sampler(), 2, first=3)  # as of a resumed run
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(alone[3:], later, strict=True))


def test_torchs_own_generator_stays_where_it_is() -> None:
    before = torch.get_rng_state()
    first_of(sampler(), 2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(workers: int, tmp_path: Path) -> None:
    whole = (FIXTURES / "astronaut-crop.png").read_bytes()
    (tmp_path / "damaged.png").write_bytes(whole[: len(whole) // 2])
    crops = sampler([(tmp_path, 1.0)], workers=workers)
    with pytest.raises(CodecError, match=r"damaged\.png: .*decoded") as caught:
        first_of(crops, 1)
    assert str(caught.value).count("\n") == 0


def test_photos_are_kept_up_to_a_number_of_bytes() -> None:
    photos = open_photos(FIXTURES, 64)
    sizes = [photos[n].pixels.nbytes for n in range(3)]
    recent = RecentPhotos([photos], sizes[0] + sizes[1])
    first = recent.get(0, 0)
    recent.get(0, 1)
    assert recent.get(0, 0) is first
    recent.get(0, 2)  # in place of the one that was not asked for the longest
    assert (0, 1) not in recent.kept
    assert recent.bytes == sum(photo.pixels.nbytes for photo in recent.kept.values())
    assert recent.bytes <= recent.most
    assert recent.get(0, 1).label == "fixtures"
    nothing = RecentPhotos([photos], 0)
    nothing.get(0, 0)
    assert not nothing.kept


def test_workers_share_the_bytes_and_get_no_decoded_photos() -> None:
    crops = sampler(workers=4, cache=8)
    assert crops.recent.most == 2 << 20
    crops.draw(8, [0])
    assert crops.recent.kept
    assert not pickle.loads(pickle.dumps(crops)).recent.kept


def test_sources_are_drawn_by_their_weights(tmp_path: Path) -> None:
    sources = []
    for label, weight in (("cat", 3.0), ("dog", 1.0)):
        (tmp_path / label).mkdir()
        shutil.copy(FIXTURES / "astronaut-crop.png", tmp_path / label)
        sources.append((tmp_path / label, weight))
    crops = sampler(sources, crop=8)
    assert crops.counts() == {"cat": 1, "dog": 1}
    found = Counter(crops.draw(400, [0])[1])
    assert 0.7 < found["cat"] / 400 < 0.8


def test_a_machine_has_at_least_no_and_at_most_four_workers() -> None:
    assert 0 <= default_workers() <= 4


def test_shifted_crops_leave_an_image_by_its_mirrored_border(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, 20, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    changes = {"crop": 16, "mirror": False, "shift": 3}
    crops, _ = sampler([(tmp_path, 1.0)], **changes).draw(200, [1])
    # Its width has 2 pixels of room on either side already.
    bordered = np.pad(pixels, ((3, 3), (1, 1), (0, 0)), "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(bordered, (16, 16), (0, 1))
    expected = {windows[y, x].transpose(1, 2, 0).tobytes() for y in range(7) for x in range(7)}
    assert {crop.numpy().tobytes() for crop in crops} == expected


def test_zoomed_crops_are_enlarged(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    PIL.Image.fromarray(np.tile(ramp[None, :, None], (64, 1, 3))).save(tmp_path / "a.png")
    changes = {"mirror": False, "zoom": 2.0}
    crops, _ = sampler([(tmp_path, 1.0)], **changes).draw(50, [1])
    assert crops.shape == (50, 64, 64, 3)
    rise = crops[:, 0, -1, 0].float() - crops[:, 0, 0, 0].float()
    assert 0.45 * 255 < rise.min() < 0.6 * 255
    assert 0.9 * 255 < rise.max() <= 255
