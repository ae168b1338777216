from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from tiny_training import (
    FIXTURES,
)

from vqcodec.errors import CodecError
from vqcodec.photos import ImageFiles, open_photos, parse_source, read_photos


def test_folders_and_archives_hold_the_same_photos(tmp_path: Path) -> None:
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(FIXTURES, "fixtures")
    from_folder, from_archive = read_photos(FIXTURES, 64), read_photos(archive, 64)
    assert len(from_folder) == len(from_archive) == 3
    for one, other in zip(from_folder, from_archive, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert one.label == other.label == "fixtures"


def write_photos(folder: Path, label: str, sides: list[int]) -> None:
    """One image a side, named and grey by its number."""
    (folder / label).mkdir(parents=True)
    for n, side in enumerate(sides):
        grey = np.full((side, side), n, np.uint8)
        PillowImage.fromarray(grey).save(folder / label / f"{n:02d}.png")


def test_the_split_does_not_depend_on_the_size_asked_for(tmp_path: Path) -> None:
    write_photos(tmp_path, "cat", [4, *[8] * 21])

    def shown(min_side: int, split: str) -> list[int]:
        return [
            int(photo.pixels[0, 0, 0]) for photo in read_photos(tmp_path, min_side, split=split)
        ]

    for min_side in (4, 8):
        assert shown(min_side, "validation") == [10, 21]
    assert shown(8, "train") == [n for n in range(1, 21) if n != 10]


def test_nothing_of_a_split_is_said(tmp_path: Path) -> None:
    write_photos(tmp_path, "cat", [8] * 3)
    with pytest.raises(CodecError, match=r"of the split 'validation'.*use another split"):
        read_photos(tmp_path, 8, split="validation")
    with pytest.raises(CodecError, match="at least 9 pixels"):
        read_photos(tmp_path, 9, split="train")


@pytest.mark.parametrize("kind", ["folder", "", "gz", "xz"])
def test_a_limit_takes_the_first_by_name(tmp_path: Path, kind: str) -> None:
    write_photos(tmp_path / "photos", "cat", [8] * 4)
    source = tmp_path / "photos"
    if kind != "folder":
        source = tmp_path / "photos.tar"
        with tarfile.open(source, f"w:{kind}") as tar:
            for n in (3, 1, 0, 2):
                tar.add(tmp_path / "photos" / "cat" / f"{n:02d}.png", f"cat/{n:02d}.png")
    assert [photo.pixels[0, 0, 0] for photo in read_photos(source, 8, 2)] == [0, 1]


def test_no_more_is_decoded_than_the_limit(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "cat", [8] * 2)
    (tmp_path / "photos" / "cat" / "99.png").write_bytes(b"no image")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(tmp_path / "photos", "photos")
    for source in (tmp_path / "photos", tmp_path / "photos.tar"):
        assert len(read_photos(source, 8, 2)) == 2
        with pytest.raises(CodecError, match=r"99\.png"):
            read_photos(source, 8)


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_a_damaged_archive_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    noise = PillowImage.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    noise.save(tmp_path / "noise.png")
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, f"w:{kind}") as tar:
        tar.add(tmp_path / "noise.png", "noise.png")
    whole = archive.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    for damaged in (whole[:2000], whole[:9000], bytes(flipped)):
        archive.write_bytes(damaged)
        with pytest.raises(CodecError, match=r"photos\.tar"):
            read_photos(archive, 64)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("a/../x.png", ""),
        ("../x.png", ""),
        ("/x.png", ""),
        ("x.png", ""),
        ("../../cat/x.png", "cat"),
    ],
)
def test_a_label_leads_out_of_no_folder(tmp_path: Path, name: str, label: str) -> None:
    write_photos(tmp_path, "cat", [8])
    member = tarfile.TarInfo(name)
    content = (tmp_path / "cat" / "00.png").read_bytes()
    member.size = len(content)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.addfile(member, io.BytesIO(content))
    assert [photo.label for photo in read_photos(tmp_path / "photos.tar", 8)] == [label]


def test_every_eleventh_photo_of_a_label_is_kept_for_validation(tmp_path: Path) -> None:
    for label, count in (("cat", 12), ("dog", 23)):
        write_photos(tmp_path, label, [8] * count)

    def shown(split: str) -> list[tuple[str, int]]:
        photos = read_photos(tmp_path, 8, split=split)
        return [(photo.label, int(photo.pixels[0, 0, 0])) for photo in photos]

    assert shown("validation") == [("cat", 10), ("dog", 10), ("dog", 21)]
    assert sorted(shown("train") + shown("validation")) == sorted(shown("all"))
    with pytest.raises(CodecError, match="unknown split"):
        shown("test")


def test_larger_photos_are_scaled() -> None:
    shapes = {photo.pixels.shape for photo in read_photos(FIXTURES, 64, short_side=64)}
    assert all(min(shape[:2]) == 64 for shape in shapes)


def test_arrays_are_photos_with_digits_as_labels(tmp_path: Path) -> None:
    digits = {
        f"x_{part}": np.full((n, 28, 28), n, np.uint8) for part, n in (("train", 5), ("test", 3))
    }
    names = {f"y_{part}": np.arange(n) for part, n in (("train", 5), ("test", 3))}
    np.savez(tmp_path / "digits.npz", **digits, **names)
    photos = read_photos(tmp_path / "digits.npz", 32, split="validation")
    assert [photo.label for photo in photos] == ["0", "1", "2"]
    assert photos[0].pixels.shape == (32, 32, 3)
    assert len(read_photos(tmp_path / "digits.npz", 32, split="all")) == 8
    np.savez(tmp_path / "other.npz", x_train=np.zeros((1, 8, 8)))
    with pytest.raises(CodecError, match="no arrays x_train"):
        read_photos(tmp_path / "other.npz", 8)


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (np.zeros((2, 8, 8), np.int16), "no arrays"),
        (np.zeros((2, 8), np.uint8), "no arrays"),
        (np.zeros((2, 8, 8, 4), np.uint8), "no arrays"),
        (np.zeros((3, 8, 8), np.uint8), "no arrays"),
        (np.zeros((0, 8, 8), np.uint8), "no images"),
    ],
)
def test_arrays_that_are_no_photos_are_an_error(
    tmp_path: Path, images: np.ndarray, complaint: str
) -> None:
    labels = np.arange(min(2, len(images)))
    path = tmp_path / "digits.npz"
    np.savez(path, x_train=images, y_train=labels)
    with pytest.raises(CodecError, match=complaint):
        read_photos(path, 8, split="train")


@pytest.mark.parametrize("kept", [0, 10, 1000, -1])
def test_a_damaged_file_of_arrays_is_an_error(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "digits.npz"
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8), np.uint8)
    np.savez_compressed(path, x_train=images, y_train=np.arange(50))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CodecError, match=r"digits\.npz: no arrays"):
        read_photos(path, 8, split="train")


@pytest.mark.parametrize("name", ["missing", "empty", "text.tar"])
def test_unusable_sources_are_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar").write_text("not an archive")
    with pytest.raises(CodecError):
        read_photos(tmp_path / name, 64)


def test_sources_have_weights() -> None:
    assert parse_source("a/b.tar=0.5") == (Path("a/b.tar"), 0.5)
    assert parse_source("a") == (Path("a"), 1.0)
    assert parse_source("a=b/c.tar=2") == (Path("a=b/c.tar"), 2.0)
    for text in ("a=b", "a=0", "a=-1", "a=nan", "a="):
        with pytest.raises(CodecError, match="not a number above 0"):
            parse_source(text)


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path: Path) -> None:
    write_photos(tmp_path, "cat", [8] * 2)
    whole = (FIXTURES / "astronaut-crop.png").read_bytes()
    (tmp_path / "cat" / "99.png").write_bytes(whole[: len(whole) // 2])
    photos = open_photos(tmp_path, 8)
    assert photos.labels == ["cat"] * 3
    assert photos[1].pixels[0, 0, 0] == 1
    with pytest.raises(CodecError, match=r"99\.png: .*decoded"):
        photos[2]


def test_a_file_that_goes_away_is_named(tmp_path: Path) -> None:
    write_photos(tmp_path, "cat", [8])
    photos = open_photos(tmp_path, 8)
    (tmp_path / "cat" / "00.png").unlink()
    with pytest.raises(CodecError, match=r"00\.png: cannot be read"):
        photos[0]


def test_sizes_are_read_with_progress(tmp_path: Path) -> None:
    write_photos(tmp_path, "cat", [8, 4, 8])
    told: list[tuple[str, int, int]] = []
    photos = open_photos(tmp_path, 8, progress=lambda *so_far: told.append(so_far))
    assert len(photos) == 2
    assert told == [("reading sizes", n, 3) for n in (1, 2, 3)]


def test_a_header_behind_long_metadata_is_found(tmp_path: Path) -> None:
    picture = PillowImage.fromarray(np.zeros((9, 8, 3), np.uint8))
    picture.save(tmp_path / "long.jpg", icc_profile=bytes(200_000))
    assert len(open_photos(tmp_path, 8)) == 1
    with pytest.raises(CodecError, match="at least 9 pixels"):
        open_photos(tmp_path, 9)


def test_an_unpacked_archive_goes_with_its_photos(tmp_path: Path) -> None:
    write_photos(tmp_path, "cat", [8] * 2)
    with tarfile.open(tmp_path / "photos.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "cat", "cat")
    photos = open_photos(tmp_path / "photos.tar.xz", 8)
    assert isinstance(photos, ImageFiles)
    unpacked = photos.files[0].path
    assert photos[1].pixels[0, 0, 0] == 1
    assert unpacked.exists()
    del photos
    assert not unpacked.exists()


def test_equal_files_of_an_archive_may_be_hard_links(tmp_path: Path) -> None:
    write_photos(tmp_path, "cat", [8])
    (tmp_path / "cat" / "01.png").hardlink_to(tmp_path / "cat" / "00.png")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(tmp_path / "cat", "cat")
    first, second = read_photos(tmp_path / "photos.tar", 8)
    assert np.array_equal(first.pixels, second.pixels)


def test_what_is_no_file_of_an_archive_is_named(tmp_path: Path) -> None:
    link = tarfile.TarInfo("cat/00.png")
    link.type, link.linkname = tarfile.SYMTYPE, "01.png"
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.addfile(link)
    with pytest.raises(CodecError, match=r"photos\.tar:cat/00\.png: is a link.*unpack the archive"):
        open_photos(tmp_path / "photos.tar", 8)
