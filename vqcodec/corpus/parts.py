"""Parts of a shard: what is finished of it, a tar file for every range of its images.

A part has the rows of its images first and then what was made of them. Ranges are cut as workers
take them; after a run was killed, those that are missing are cut anew.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import IO, NamedTuple

from vqcodec.corpus import manifest
from vqcodec.corpus.manifest import Row
from vqcodec.corpus.plan import PARTS, Plan, parts_folder
from vqcodec.errors import CodecError

_ROWS = "rows.csv"


class Range(NamedTuple):
    """Images of a shard, from the first to before the end."""

    shard: int
    first: int
    end: int


class Part:
    """A part that is being made.

    Args:
        stream: Its file, which can be written.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._archive = tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.rows: list[Row] = []

    def add(self, row: Row, content: bytes) -> None:
        """Adds an image, with what is to be kept of it here."""
        if content:
            add(self._archive, str(len(self.rows)), content)
        self.rows.append(row)

    def close(self) -> None:
        """Ends the part."""
        add(self._archive, _ROWS, manifest.dump(self.rows))
        self._archive.close()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Adds a member; equal ones make equal archives."""
    about = tarfile.TarInfo(name)
    about.size = len(content)
    archive.addfile(about, io.BytesIO(content))


def name_of(part: Range) -> str:
    """The name of a part's file."""
    return f"{parts_folder(part.shard)}/{part.first:09}-{part.end:09}.tar"


def finished(plan: Plan) -> dict[int, list[Range]]:
    """The parts of all shards that are there, in order."""
    found: dict[int, list[Range]] = {}
    for name in plan.store.names(PARTS):
        part = _range_of(name)
        found.setdefault(part.shard, []).append(part)
    return {shard: sorted(own) for shard, own in found.items()}


def _range_of(name: str) -> Range:
    _, shard, last = name.rsplit("/", 2)
    first, _, end = last.removesuffix(".tar").partition("-")
    return Range(int(shard), int(first), int(end))


def missing(shard: int, count: int, there: Sequence[Range]) -> list[Range]:
    """What of a shard's images no part has, in order.

    Args:
        shard: Its number.
        count: How many images it has.
        there: The parts, in order.
    """
    left, at = [], 0
    for part in there:
        if part.first > at:
            left.append(Range(shard, at, part.first))
        at = max(at, part.end)
    if at < count:
        left.append(Range(shard, at, count))
    return left


def collected(plan: Plan, shard: int) -> Iterator[tuple[Row, bytes]]:
    """Rows and contents of all images of a shard, in order, each once.

    Raises:
        CodecError: a part is missing or damaged.
    """
    at = 0
    for part in sorted(map(_range_of, plan.store.names(parts_folder(shard)))):
        if part.end <= at:
            continue
        name = name_of(part)
        with ExitStack() as stack:
            stream = stack.enter_context(plan.store.open(name))
            try:
                archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r:"))
                members = {member.name: member for member in archive}
                rows = manifest.load(_content(archive, members.get(_ROWS)))
                if part.first > at or len(rows) != part.end - part.first:
                    raise CodecError("does not fit; remove it and start again").in_file(name)
                for number in range(at - part.first, len(rows)):
                    yield rows[number], _content(archive, members.get(str(number)))
            except (tarfile.TarError, EOFError) as error:
                raise CodecError("is damaged; remove it and start again").in_file(name) from error
        at = part.end
    if at != plan.counts[shard]:
        raise CodecError(f"shard {shard} lacks images from {at} on; start again")


def discard(plan: Plan, shard: int) -> None:
    """Removes the parts of a shard."""
    for name in list(plan.store.names(parts_folder(shard))):
        plan.store.remove(name)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes:
    stream = None if member is None else archive.extractfile(member)
    return b"" if stream is None else stream.read()
