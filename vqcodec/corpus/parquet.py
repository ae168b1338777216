"""Parquet files: images and tokens as rows, by pyarrow."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqcodec.corpus import token_files
from vqcodec.corpus.manifest import Row
from vqcodec.corpus.optional import needed
from vqcodec.corpus.store import Store
from vqcodec.errors import CodecError

_KEYS = ("key", "__key__", "id", "name", "file_name", "path")
_LABELS = ("class", "label", "cls")
_PICTURES = ("image", "img", "picture", "photo", "bytes", "content")
VQZ, IMAGE, LEVEL = "vqz", "image", "level_"
METADATA = b"vqcodec"
ROWS = 1000  # of a group at most
GROUP_BYTES = 64 << 20


class _Columns(NamedTuple):
    """Those of a file that hold the image, its key and its label."""

    content: tuple[str, ...]
    key: str | None
    label: str | None


def find(
    store: Store, name: str, endings: Collection[str]
) -> Iterator[tuple[tuple[str, ...], int, int, str]]:
    """Names, row, size and label of every row of a file.

    Raises:
        CodecError: it cannot be read, or has no column of images.
    """
    with store.open(name) as stream:
        file = _opened(stream, name)
        columns = _columns(file.schema_arrow, endings, name)
        wanted = [each for each in (columns.key, columns.label) if each is not None]
        row = 0
        for group in range(file.num_row_groups):
            about = file.metadata.row_group(group)
            size = about.total_byte_size // max(about.num_rows, 1)
            table = file.read_row_group(group, columns=wanted)
            keys = _texts(table, columns.key, about.num_rows)
            labels = _texts(table, columns.label, about.num_rows)
            for key, label in zip(keys, labels, strict=True):
                stem = key.rpartition(".")[0] if f".{key.rpartition('.')[2]}" in endings else key
                yield ((stem, key) if key else (f"{row:09}",)), row, size, label
                row += 1


class Rows:
    """The images of rows; the last group of rows is kept.

    Args:
        store: Of the files.
        endings: As of `find`.
    """

    def __init__(self, store: Store, endings: Collection[str]) -> None:
        self._store = store
        self._endings = endings
        self._name = ""
        self._first = self._end = 0
        self._table: Any = None
        self._column = ""

    def read(self, name: str, row: int) -> bytes:
        """The image of a row.

        Raises:
            CodecError: there is none.
        """
        if name != self._name or not self._first <= row < self._end:
            self._seek(name, row)
        place = row - self._first
        if self._column.startswith(LEVEL):
            return row_to_tokens(self._table, place)
        value = self._table.column(self._column)[place].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None:
            raise CodecError(f"row {row} has no image")
        return bytes(content)

    def _seek(self, name: str, row: int) -> None:
        with self._store.open(name) as stream:
            file = _opened(stream, name)
            content = _columns(file.schema_arrow, self._endings, name).content
            end = 0
            for group in range(file.num_row_groups):
                first, end = end, end + file.metadata.row_group(group).num_rows
                if row < end:
                    columns = None if content[0].startswith(LEVEL) else list(content)
                    self._table = file.read_row_group(group, columns=columns)
                    self._name, self._first, self._end = name, first, end
                    self._column = content[0]
                    return
        raise CodecError(f"has no row {row}; it was changed after the plan was made").in_file(name)


def write_images(path: Path, rows: Iterable[tuple[Row, bytes]], column: str) -> None:
    """Writes images, or `.vqz` files, as rows.

    Args:
        path: Of the file.
        rows: Of the manifest, with the bytes of each.
        column: `IMAGE` or `VQZ`.
    """
    arrow, pq = _pyarrow()
    binary = arrow.binary()
    kind = (
        arrow.struct([("bytes", binary), ("path", arrow.string())]) if column == IMAGE else binary
    )
    schema = arrow.schema([*_about(arrow), (column, kind)])

    def value(row: Row, content: bytes) -> object:
        return {"bytes": content, "path": row.file} if column == IMAGE else content

    with pq.ParquetWriter(path, schema) as writer:
        for some in _grouped(rows):
            table = _about_of(some)
            table[column] = [value(row, content) for row, content in some]
            writer.write_table(arrow.table(table, schema=schema))


def write_tokens(path: Path, rows: Iterable[tuple[Row, bytes]], *, fixed: bool) -> None:
    """Writes tokens as rows: a list of integers for every level, flat from [H', W', G].

    Args:
        path: Of the file.
        rows: Of the manifest, with the token file of each.
        fixed: Whether all have as many, so that lists are of fixed size.
    """
    arrow, pq = _pyarrow()
    writer, schema = None, None
    for some in _grouped(rows):
        parsed = [token_files.parse(content) for _, content in some]
        first = parsed[0]
        if schema is None:
            schema = _schema(arrow, first, fixed)
            writer = pq.ParquetWriter(path, schema)
        table = _about_of(some)
        table["quality"] = [each.header.quality for each in parsed]
        table["tile"] = [each.header.tile for each in parsed]
        table["grey"] = [each.header.grey for each in parsed]
        table["extras"] = [token_files.dump_extras(each.extras) for each in parsed]
        if first.bits is not None:
            table["bits"] = [sum(each.bits or ()) for each in parsed]
            table["level_bits"] = [each.bits for each in parsed]
        for level in range(len(first.indices)):
            table[f"{LEVEL}{level}"] = _lists(
                arrow,
                [each.indices[level] for each in parsed],
                schema.field(f"{LEVEL}{level}").type,
            )
        assert writer is not None
        writer.write_table(arrow.table(table, schema=schema))
    if writer is not None:
        writer.close()


def row_to_tokens(table: Any, row: int) -> bytes:
    """A row of `write_tokens` to the token file it was made of.

    Raises:
        CodecError: the table is none of tokens.
    """
    try:
        about = json.loads(table.schema.metadata[METADATA])
        value = {
            name: table.column(name)[row]
            for name in ("width", "height", "quality", "tile", "grey", "extras")
        }
        header = {name: each.as_py() for name, each in value.items() if name != "extras"}
        levels = len(about["strides"])
        flat = [np.asarray(table.column(f"{LEVEL}{level}")[row].values) for level in range(levels)]
        bits = table.column("level_bits")[row].as_py() if about["bits"] else None
        extras = token_files.load_extras(value["extras"].as_py())
        return token_files.rebuild(about, header, flat, extras, bits)
    except (KeyError, TypeError, ValueError) as error:
        raise CodecError(f"has no tokens of vqcodec in row {row} ({error})") from error


def iterate(store: Store, name: str, column: str) -> Iterator[tuple[str, bytes]]:
    """Key and bytes of every row of a corpus's file, tokens as token files."""
    with store.open(name) as stream:
        file = _opened(stream, name)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            keys = table.column("key").to_pylist()
            for row, key in enumerate(keys):
                if column == LEVEL:
                    yield key, row_to_tokens(table, row)
                else:
                    value = table.column(column)[row].as_py()
                    yield key, value["bytes"] if column == IMAGE else value


def _pyarrow() -> tuple[Any, Any]:
    return needed("pyarrow", "Parquet"), needed("pyarrow.parquet", "Parquet")


def _opened(stream: Any, name: str) -> Any:
    arrow, pq = _pyarrow()
    try:
        return pq.ParquetFile(stream)
    except arrow.ArrowException as error:
        raise CodecError("is no Parquet file, or damaged; get it again").in_file(name) from error


def _columns(schema: Any, endings: Collection[str], name: str) -> _Columns:
    arrow, _ = _pyarrow()

    def holds_bytes(field: Any) -> bool:
        kind = field.type
        if arrow.types.is_struct(kind):
            place = kind.get_field_index("bytes")
            return place >= 0 and holds_bytes(kind.field(place))
        return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

    names = schema.names
    levels = tuple(each for each in names if each.startswith(LEVEL) and each[6:].isdecimal())
    able = [each for each in names if holds_bytes(schema.field(each))]
    if levels and token_files.ENDING in endings:
        content = levels
    else:
        by_ending = [each for each in able if f".{each.lower()}" in endings]
        by_name = [each for each in able if each.lower() in _PICTURES]
        content = tuple([*by_ending, *by_name, *(able if len(able) == 1 else [])][:1])
    if not content:
        reason = f"has no column of what is looked for, but {', '.join(names)}"
        raise CodecError(f"{reason}; call one of them image").in_file(name)
    key = next((each for each in _KEYS if each in names and each not in content), None)
    label = next((each for each in _LABELS if each in names), None)
    return _Columns(content, key, label)


def _texts(table: Any, column: str | None, count: int) -> list[str]:
    values = [None] * count if column is None else table.column(column).to_pylist()
    return ["" if value is None else str(value) for value in values]


def _about(arrow: Any) -> list[tuple[str, Any]]:
    return [
        ("key", arrow.string()),
        ("width", arrow.int32()),
        ("height", arrow.int32()),
        ("class", arrow.string()),
    ]


def _about_of(some: Sequence[tuple[Row, bytes]]) -> dict[str, list[Any]]:
    rows = [row for row, _ in some]
    return {
        "key": [row.key for row in rows],
        "width": [row.width for row in rows],
        "height": [row.height for row in rows],
        "class": [row.label or None for row in rows],
    }


def _schema(arrow: Any, first: token_files.Parsed, fixed: bool) -> Any:
    fields = [
        *_about(arrow),
        ("quality", arrow.uint8()),
        ("tile", arrow.int32()),
        ("grey", arrow.bool_()),
        ("extras", arrow.binary()),
    ]
    if first.bits is not None:
        fields += [("bits", arrow.float64()), ("level_bits", arrow.list_(arrow.float64()))]
    for level, maps in enumerate(first.indices):
        size = maps.size if fixed else -1
        fields.append((f"{LEVEL}{level}", arrow.list_(arrow.from_numpy_dtype(maps.dtype), size)))
    about = {**first.about, "bits": first.bits is not None}
    if fixed:
        about["shapes"] = [list(maps.shape) for maps in first.indices]
    metadata = {METADATA: json.dumps(about, sort_keys=True).encode()}
    return arrow.schema(fields, metadata=metadata)


def _lists(arrow: Any, maps: Sequence[Any], kind: Any) -> Any:
    values = arrow.array(np.concatenate([each.ravel() for each in maps]))
    if arrow.types.is_fixed_size_list(kind):
        return arrow.FixedSizeListArray.from_arrays(values, kind.list_size)
    ends = np.cumsum([0, *(each.size for each in maps)]).astype(np.int32)
    return arrow.ListArray.from_arrays(arrow.array(ends), values)


def _grouped(rows: Iterable[tuple[Row, bytes]]) -> Iterator[list[tuple[Row, bytes]]]:
    """In groups of so many rows and bytes at most."""
    left = iter(rows)
    while first := next(left, None):
        group, size = [first], len(first[1])
        while len(group) < ROWS and size < GROUP_BYTES and (following := next(left, None)):
            group.append(following)
            size += len(following[1])
        yield group
