"""What a corpus is read from: files of folders, members of tar shards, rows of Parquet files.

An `Item` says where an image lies; a `Reader` gives its bytes. Members of archives keep the names
of the WebDataset convention: what is before the first dot is the key, the rest tells what it is.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Collection, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vqcodec import folders
from vqcodec.corpus import parquet
from vqcodec.corpus.names import FILES, OWN, PARQUET, WEBDATASET
from vqcodec.corpus.store import LocalStore, Store
from vqcodec.errors import CodecError, one_line

_SHARDS = {".tar": WEBDATASET, ".parquet": PARQUET}
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LABEL = "cls"
_LONGEST_LABEL = 1000  # bytes
_LONGEST_PART = 200  # bytes of a part of a key, so that endings fit behind it
_LONGEST_CUT = 180  # of one that was longer


class Item(NamedTuple):
    """An image where it lies.

    Attributes:
        key: Its name in the corpus: text, with slashes, safe as the name of a file.
        name: Of the file that holds it, in the source's store.
        offset: Where it begins there; of Parquet, its row.
        size: Of it in bytes, -1 if it is not to be read; of Parquet, about.
        label: Its class, or empty.
    """

    key: str
    name: str
    offset: int
    size: int
    label: str


def split(url: str) -> tuple[str, str]:
    """The root of a source's store, and what is meant below it: a file, a pattern, or all.

    Of a folder it is the folder; of a file or a pattern such as `shards/*.tar` what is before it.
    """
    head, slash, tail = url.rpartition("/")
    shard = tail.lower().endswith((*_SHARDS, *_PACKED)) and not Path(url).is_dir()
    if "*" not in tail and not shard:
        return url, ""
    if "*" in head:
        raise CodecError("has * in the name of a folder; only names of files may").in_file(url)
    return head or ("/" if slash else "."), tail


def kind_of(store: Store, wanted: str) -> str:
    """Which of `names.FORMATS` a source has: that of the first shard at its top, or files.

    Args:
        store: Of the source.
        wanted: As of `split`.
    """
    for name in [wanted] if wanted else store.top():
        if name.lower().endswith(_PACKED):
            reason = "is compressed, and an image in it cannot be reached without those before it"
            raise CodecError(f"{reason}; unpack it to a .tar").in_file(name)
        if kind := _SHARDS.get(PurePosixPath(name).suffix.lower()):
            return kind
    return FILES


def find(
    store: Store, kind: str, wanted: str, endings: Collection[str], *, dots: bool = True
) -> Iterator[Item]:
    """All images of a source, one after the other, always in the same order.

    Args:
        store: Of the source.
        kind: One of `names.FORMATS`.
        wanted: As of `split`.
        endings: Those of images, such as ".png"; of Parquet, names of columns without the dot.
        dots: Whether the last part of a key may have some.

    Raises:
        CodecError: the source cannot be read.
    """
    if kind == FILES:
        yield from _in_folders(store, endings, dots)
        return
    ending = next(each for each, of in _SHARDS.items() if of == kind)
    shards = [
        name
        for name in store.top()
        if name.lower().endswith(ending)
        and (not wanted or PurePosixPath(name).match(wanted) or name == wanted)
    ]
    if not shards:
        raise CodecError(f"holds no {wanted or '*' + ending}; check it").in_file(store.root)
    apart = len(shards) > 1 and not store.exists(f"{OWN}/plan.json")  # else each key is there once
    for name in shards:
        keys = _Keys(PurePosixPath(name).stem if apart else "", dots)
        within = _in_archive if kind == WEBDATASET else parquet.find
        try:
            for own, offset, size, label in within(store, name, endings):
                yield Item(keys.of(own), name, offset, size, one_line(label))
        except (tarfile.TarError, EOFError, OSError) as error:
            reason = f"cannot be read to its end ({error}); it may be damaged"
            raise CodecError(reason).in_file(name) from error


class Reader:
    """The bytes of images of a source.

    Args:
        store: Of the source.
        kind: One of `names.FORMATS`.
        endings: As of `find`.
    """

    def __init__(self, store: Store, kind: str, endings: Collection[str]) -> None:
        self._store = store
        self._whole = kind == FILES
        self._rows = parquet.Rows(store, endings) if kind == PARQUET else None

    def read(self, item: Item) -> bytes:
        """Those of one.

        Raises:
            CodecError: it cannot be read.
            StoreError: the store failed.
        """
        if self._rows is not None:
            return self._rows.read(item.name, item.offset)
        if item.size < 0:
            raise CodecError("is a link, a device or sparse in its archive; unpack the archive")
        if self._whole:
            return self._store.read(item.name)
        return self._store.read(item.name, item.offset, item.size)


class _Keys:
    """Keys of a shard's or folder's images, each once.

    Args:
        folder: What stands before all of them, if anything.
        dots: Whether their last part may have some.
    """

    def __init__(self, folder: str, dots: bool) -> None:
        self._folder = folder
        self._dots = dots
        self._used: set[str] = set()

    def of(self, names: tuple[str, ...]) -> str:
        """The first of these names that is free, made safe; the last with a number else."""
        last = ""
        for name in names:
            last = self._safe(name)
            if last not in self._used:
                break
        number, key = 1, last
        while key in self._used:
            number += 1
            key = f"{last}-{number}"
        self._used.add(key)
        return key

    def _safe(self, name: str) -> str:
        key = f"{self._folder}/{_safe(name)}" if self._folder else _safe(name)
        folder, slash, last = key.rpartition("/")
        return key if self._dots else f"{folder}{slash}{last.replace('.', '_')}"


def _safe(name: str) -> str:
    """A name that leads out of no folder, is text, and not longer than files' names may be."""
    parts = [_safe_part(part) for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "image"


def _safe_part(part: str) -> str:
    text = part.replace("\0", "%").replace("\\", "%")
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if len(text.encode()) > _LONGEST_PART:
        text = text.encode()[:_LONGEST_CUT].decode("utf-8", "ignore")
    if text == part != OWN:
        return text
    return f"{text}-{hashlib.sha256(os.fsencode(part)).hexdigest()[:8]}"  # others differ, too


def _in_folders(store: Store, endings: Collection[str], dots: bool) -> Iterator[Item]:
    if isinstance(store, LocalStore):
        root = Path(store.root)
        paths = folders.within(root, endings, recursive=True)
        found = ((each.relative_to(root).as_posix(), each.stat().st_size) for each in paths)
    else:
        sizes = sorted(store.sizes(), key=lambda each: PurePosixPath(each[0]).parts[:-1])
        found = (each for each in sizes if _suffix(each[0]) in endings)
    for folder, files in groupby(found, lambda each: PurePosixPath(each[0]).parent):
        if OWN in folder.parts[:1]:
            continue
        keys = _Keys("", dots)
        for name, size in files:
            place = PurePosixPath(name)
            key = keys.of((str(place.with_suffix("")), name))
            yield Item(key, name, 0, size, one_line(folder.name))


def _suffix(name: str) -> str:
    place = PurePosixPath(name)
    return "" if place.name.startswith(".") else place.suffix.lower()


def _in_archive(
    store: Store, name: str, endings: Collection[str]
) -> Iterator[tuple[tuple[str, ...], int, int, str]]:
    """Names, offset, size and label of every image of an archive."""
    with store.open(name) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        members = (each for each in archive if not each.isdir())
        for key, group in groupby(members, lambda each: _parted(each.name)[0]):
            sample = list(group)
            label = ""
            for member in sample:
                small = member.isreg() and member.size <= _LONGEST_LABEL
                if _parted(member.name)[1] == _LABEL and small:
                    content = archive.extractfile(member)
                    label = "" if content is None else content.read().decode("utf-8", "replace")
            for member in sample:
                ending = _parted(member.name)[1]
                if f".{ending.rpartition('.')[2]}" in endings:
                    whole = member.isreg() and not member.issparse()
                    size = member.size if whole else -1
                    yield (key, f"{key}-{ending}"), member.offset_data, size, label.strip()
            archive.members.clear()  # type: ignore[attr-defined]  # which would hold all of them


def _parted(name: str) -> tuple[str, str]:
    """Key and ending of a member: what is before and behind the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()
