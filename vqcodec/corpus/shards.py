"""Shards: their parts put together, and read back."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath

from vqcodec.corpus import parquet, parts
from vqcodec.corpus.manifest import DONE, Row
from vqcodec.corpus.names import FILES, PARQUET, WEBDATASET
from vqcodec.corpus.plan import Plan
from vqcodec.corpus.work import COMPRESS, TOKENIZE
from vqcodec.errors import CodecError

_ENDINGS = {WEBDATASET: ".tar", PARQUET: ".parquet"}


def file_of(plan: Plan, shard: int, key: str) -> str:
    """The file that an image of a shard goes to."""
    kind = plan.settings["format"]
    return f"{key}{plan.work.ending}" if kind == FILES else f"{shard:05}{_ENDINGS[kind]}"


def finish(plan: Plan, shard: int) -> list[Row]:
    """Makes a shard of its parts, then its manifest, and removes them.

    Returns:
        The manifest.

    Raises:
        CodecError: a part is missing or damaged.
        StoreError: the store failed.
    """
    rows: list[Row] = []

    def done() -> Iterator[tuple[Row, bytes]]:
        for row, content in parts.collected(plan, shard):
            rows.append(row)
            if row.status == DONE:
                yield row, content

    found = done()
    if plan.settings["format"] == FILES:
        for folder in {str(PurePosixPath(row.file).parent) for row, _ in found}:
            plan.store.tidy(folder)
    elif (first := next(found, None)) is not None:
        with plan.store.building(first[0].file) as path:
            _write(plan, path, chain([first], found))
    plan.finish(shard, rows)
    parts.discard(plan, shard)
    return rows


def _write(plan: Plan, path: Path, rows: Iterator[tuple[Row, bytes]]) -> None:
    work = plan.work
    if plan.settings["format"] == WEBDATASET:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            for row, content in rows:
                parts.add(archive, f"{row.key}{work.ending}", content)
                if row.label:
                    parts.add(archive, f"{row.key}.cls", row.label.encode())
    elif work.command == TOKENIZE:
        parquet.write_tokens(path, rows, fixed=work.pixels is not None)
    else:
        parquet.write_images(path, rows, _column(plan))


def _column(plan: Plan) -> str:
    work = plan.work
    if work.command == TOKENIZE:
        return parquet.LEVEL
    return parquet.VQZ if work.command == COMPRESS or work.to == "VQZ" else parquet.IMAGE


def contents(plan: Plan, rows: Sequence[Row]) -> Iterator[tuple[str, bytes | CodecError]]:
    """What is there of a finished shard: the key of every image, and its bytes.

    Args:
        plan: Of the corpus.
        rows: The shard's manifest.
    """
    there = [row for row in rows if row.status == DONE]
    kind = plan.settings["format"]
    if kind == FILES:
        for row in there:
            try:
                yield row.key, plan.store.read(row.file)
            except CodecError as error:
                yield row.key, error
    elif there and kind == PARQUET:
        yield from parquet.iterate(plan.store, there[0].file, _column(plan))
    elif there:
        yield from _members(plan, there[0].file)


def _members(plan: Plan, name: str) -> Iterator[tuple[str, bytes | CodecError]]:
    ending = plan.work.ending
    with plan.store.open(name) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    if content is not None and member.name.endswith(ending):
                        yield member.name.removesuffix(ending), content.read()
        except (tarfile.TarError, EOFError) as error:
            raise CodecError("is no tar archive, or damaged").in_file(name) from error
