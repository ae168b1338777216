"""What became of every image: a CSV file a shard, a row an image, in the order of the plan."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple

from vqcodec.errors import CodecError

DONE, FAILED = "done", "failed"
ERRORS = "errors.csv"
_INTEGERS = ("source_bytes", "bytes", "width", "height")


class Row(NamedTuple):
    """What became of one image.

    Attributes:
        key: Its name in the corpus.
        status: "done" or "failed".
        file: Where it is now; of a shard, the shard. Empty if it failed.
        bytes: It takes there; 0 if it failed.
        width: In pixels; 0 if it failed.
        height: In pixels; 0 if it failed.
        sha256: Of its source; empty if that could not be read.
        output_sha256: Of what was made of it; empty if it failed.
        model: SHA-256 of the weights; empty if there are none in it, or it failed.
        label: Its class, or empty.
        source: Where it was.
        source_bytes: It had there.
        error: Why it failed; empty if it did not.
    """

    key: str
    status: str
    file: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    sha256: str = ""
    output_sha256: str = ""
    model: str = ""
    label: str = ""
    source: str = ""
    source_bytes: int = 0
    error: str = ""


def table(names: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    """A CSV file. Names of files that are no text come back as they were."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogateescape")


def records(content: bytes, names: Iterable[str]) -> list[list[str]]:
    """The rows of `table`.

    Raises:
        CodecError: it is not such a table.
    """
    text = content.decode("utf-8", "surrogateescape")
    try:
        head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (ValueError, csv.Error) as error:
        raise CodecError("is no table of a corpus; it is damaged") from error
    wanted = list(names)
    if head != wanted or any(len(row) != len(wanted) for row in rows):
        raise CodecError("is no table of this release; it is damaged, or another wrote it")
    return rows


def dump(rows: Iterable[Row]) -> bytes:
    """Rows to a manifest."""
    return table(Row._fields, rows)


def load(content: bytes) -> list[Row]:
    """A manifest to rows.

    Raises:
        CodecError: it is none.
    """
    found = []
    for record in records(content, Row._fields):
        fields = dict(zip(Row._fields, record, strict=True))
        try:
            numbers = {name: int(fields[name]) for name in _INTEGERS}
        except ValueError as error:
            raise CodecError("has a number that is none; it is damaged") from error
        found.append(Row(**{**fields, **numbers}))  # type: ignore[arg-type]
    return found


def dump_errors(rows: Iterable[Row]) -> bytes:
    """The images that failed, and why."""
    failed = ((row.key, row.source, row.error) for row in rows if row.status == FAILED)
    return table(("key", "source", "error"), failed)
