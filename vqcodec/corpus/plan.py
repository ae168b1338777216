"""The plan of a corpus: which images, in which shards, done how. Written first, never changed.

DST/_vqcodec/plan.json              settings, number of images of every shard; written last
DST/_vqcodec/plan/00000.csv         the images of a shard
DST/_vqcodec/parts/00000/...        what is finished of a shard that is not
DST/_vqcodec/manifests/00000.csv    what became of its images; written when the shard is there
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vqcodec.corpus import manifest
from vqcodec.corpus.manifest import Row
from vqcodec.corpus.names import OWN
from vqcodec.corpus.sources import Item
from vqcodec.corpus.store import Store
from vqcodec.corpus.work import Work
from vqcodec.errors import CodecError, OutputError

FORMAT = "vqcodec-corpus-1"
_FILE = f"{OWN}/plan.json"
PARTS = f"{OWN}/parts"
_MANIFESTS = f"{OWN}/manifests"


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        store: Of the corpus.
        settings: All that its bytes depend on, JSON-ready.
        counts: Of the images of every shard.
    """

    store: Store
    settings: dict[str, Any]
    counts: tuple[int, ...]

    @property
    def work(self) -> Work:
        """What is done with every image."""
        return Work.of(self.settings["work"])

    @property
    def images(self) -> int:
        """Of all shards."""
        return sum(self.counts)

    def items(self, shard: int) -> list[Item]:
        """The images of a shard.

        Raises:
            CodecError: the plan is damaged.
        """
        name = _list_name(shard)
        rows = manifest.records(self.store.read(name), Item._fields)
        try:
            found = [
                Item(key, file, int(at), int(size), label) for key, file, at, size, label in rows
            ]
        except ValueError as error:
            raise CodecError("is damaged; begin another corpus").in_file(name) from error
        if len(found) != self.counts[shard]:
            raise CodecError("is damaged; begin another corpus").in_file(name)
        return found

    def finished(self) -> set[int]:
        """Numbers of the shards that are done."""
        names = self.store.names(_MANIFESTS)
        return {int(name.rpartition("/")[2].partition(".")[0]) for name in names}

    def manifest(self, shard: int) -> list[Row]:
        """What became of the images of a shard that is done.

        Raises:
            CodecError: it is damaged, or not there.
        """
        name = _manifest_name(shard)
        try:
            return manifest.load(self.store.read(name))
        except CodecError as error:
            error.in_file(name)
            raise

    def rows(self) -> Iterator[Row]:
        """Of all shards that are done."""
        for shard in sorted(self.finished()):
            yield from self.manifest(shard)

    def finish(self, shard: int, rows: Iterable[Row]) -> None:
        """Writes the manifest of a shard, after which it is done."""
        self.store.write(_manifest_name(shard), manifest.dump(rows))


def parts_folder(shard: int) -> str:
    """Where the parts of a shard are."""
    return f"{PARTS}/{shard:05}"


def read(store: Store) -> Plan | None:
    """The plan of a corpus, if it has one.

    Raises:
        CodecError: it is damaged, or of another release.
    """
    if not store.exists(_FILE):
        return None
    try:
        found = json.loads(store.read(_FILE))
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}")
        return Plan(store, found["settings"], tuple(map(int, found["counts"])))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"is no plan of this release ({error}); begin another corpus"
        raise CodecError(reason).in_file(_FILE) from error


def make(
    store: Store,
    settings: dict[str, Any],
    items: Callable[[], Iterator[Item]],
    tell: Callable[[int], object] = lambda images: None,
) -> Plan:
    """The plan that is there, or a new one.

    Args:
        store: Of the corpus.
        settings: What is wanted, with `shard_size`.
        items: Gives the images; not called if there is a plan.
        tell: Called with the number of images so far.

    Raises:
        OutputError: there is a plan of other settings, or something else.
        CodecError: the images cannot be listed, or there are none.
    """
    if (found := read(store)) is not None:
        _check_equal(found.settings, settings, store)
        return found
    for name in store.names():
        if not name.startswith(f"{OWN}/"):
            reason = "is not empty, and no corpus that was begun; give another folder"
            raise OutputError(reason).in_file(store.root)
    counts: list[int] = []
    left = items()
    while some := list(islice(left, settings["shard_size"])):
        store.write(_list_name(len(counts)), manifest.table(Item._fields, some))
        counts.append(len(some))
        tell(sum(counts))
    if not counts:
        reason = "holds no image that is looked for"
        raise CodecError(f"{reason}; check its name").in_file(settings["source"])
    content = {"format": FORMAT, "settings": settings, "counts": counts}
    store.write(_FILE, json.dumps(content, indent=1, sort_keys=True).encode())
    return Plan(store, settings, tuple(counts))


def _check_equal(old: dict[str, Any], new: dict[str, Any], store: Store) -> None:
    flat_old, flat_new = (
        {**{k: v for k, v in each.items() if k != "work"}, **each["work"]} for each in (old, new)
    )
    for name in sorted(flat_old.keys() | flat_new.keys()):
        was, wanted = flat_old.get(name), flat_new.get(name)
        if was != wanted:
            reason = f"was begun with {name} {was!r}, not {wanted!r}"
            raise OutputError(f"{reason}; give that, or another folder").in_file(store.root)


def _list_name(shard: int) -> str:
    return f"{OWN}/plan/{shard:05}.csv"


def _manifest_name(shard: int) -> str:
    return f"{_MANIFESTS}/{shard:05}.csv"
