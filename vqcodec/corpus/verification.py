"""Whether a finished corpus is whole: plan, manifests and files agree, nothing is left or added."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vqcodec import limits
from vqcodec.corpus import manifest, shards
from vqcodec.corpus.manifest import DONE, ERRORS, FAILED, Row
from vqcodec.corpus.names import OWN
from vqcodec.corpus.plan import Plan
from vqcodec.corpus.sources import Item, Reader
from vqcodec.corpus.store import Store
from vqcodec.corpus.work import COMPRESS, TOKENIZE, Work
from vqcodec.errors import CodecError


class Finding(NamedTuple):
    """What was found of a shard.

    Attributes:
        images: That are there and right.
        failed: That the manifest says have failed.
        faults: What is wrong, in a line each.
    """

    images: int
    failed: int
    faults: tuple[str, ...]


def verify(plan: Plan, *, deep: bool = False, source: Store | None = None) -> Iterator[Finding]:
    """Checks shard by shard, and then what is there besides.

    Args:
        plan: Of the corpus.
        deep: Whether to decode what was made, too.
        source: To compare the SHA-256 of all sources; None not to.

    Raises:
        CodecError: a store failed.
    """
    finished = plan.finished()
    files = {ERRORS}
    failures: list[Row] = []
    for shard in range(len(plan.counts)):
        if shard not in finished:
            yield Finding(0, 0, (f"shard {shard} is not finished; start the run again",))
            continue
        try:
            rows = plan.manifest(shard)
            files.update(row.file for row in rows)
            failures += [row for row in rows if row.status == FAILED]
            yield _of_shard(plan, shard, rows, deep, source)
        except CodecError as error:
            yield Finding(0, 0, (f"shard {shard}: {error}",))
    yield Finding(0, 0, tuple(_besides(plan, files, failures)))


def _of_shard(
    plan: Plan, shard: int, rows: Sequence[Row], deep: bool, source: Store | None
) -> Finding:
    faults: list[str] = []
    items = plan.items(shard)
    if [row.key for row in rows] != [item.key for item in items]:
        faults.append(f"shard {shard}: its manifest and the plan have different images")
    wanted = {row.key: row for row in rows if row.status == DONE}
    right = 0
    for key, content in shards.contents(plan, rows):
        row = wanted.pop(key, None)
        if row is None:
            faults.append(f"{key}: is in shard {shard}, but not in its manifest, or twice")
        elif fault := _fault(plan.work, row, content, deep):
            faults.append(f"{key}: {fault}")
        else:
            right += 1
    faults += [f"{key}: is missing in {row.file}" for key, row in wanted.items()]
    if source is not None:
        faults += _changed(plan, items, rows, source)
    return Finding(right, sum(row.status == FAILED for row in rows), tuple(faults))


def _fault(work: Work, row: Row, content: bytes | CodecError, deep: bool) -> str:
    if isinstance(content, CodecError):
        return str(content)
    if hashlib.sha256(content).hexdigest() != row.output_sha256:
        return f"is not what was made; remove the manifest of {row.file} and start again"
    if not deep:
        return ""
    try:
        _decode(work, content)
    except CodecError as error:
        return str(error)
    return ""


def _decode(work: Work, content: bytes) -> None:
    if work.command == COMPRESS or work.to == "VQZ":
        from vqcodec.codec import verify

        with limits.at_most(work.max_pixels):
            verify(content, model=work.model, device=work.device)
    elif work.command == TOKENIZE:
        own = {"model": work.model, "device": work.device, "max_pixels": work.max_pixels}
        Work("detokenize", **own).do(content)  # type: ignore[arg-type]
    else:
        from vqcodec.image import load

        load(content, max_pixels=work.max_pixels)


def _changed(
    plan: Plan, items: Sequence[Item], rows: Sequence[Row], source: Store
) -> Iterator[str]:
    reader = Reader(source, plan.settings["source_format"], plan.work.endings)
    for item, row in zip(items, rows, strict=False):
        if not row.sha256:
            continue
        try:
            if hashlib.sha256(reader.read(item)).hexdigest() != row.sha256:
                yield f"{item.key}: its source has changed since"
        except CodecError as error:
            yield f"{item.key}: {error}"


def _besides(plan: Plan, files: set[str], failures: Sequence[Row]) -> Iterator[str]:
    for name in plan.store.names():
        if name.startswith(f"{OWN}/parts/"):
            yield f"{name}: is left over; start the run again, which removes it"
        elif not name.startswith(f"{OWN}/") and name not in files:
            yield f"{name}: is no image of the corpus"
    if len(plan.finished()) == len(plan.counts):
        there = plan.store.read(ERRORS) if plan.store.exists(ERRORS) else b""
        if there != manifest.dump_errors(failures):
            yield f"{ERRORS}: differs from the manifests; start the run again, which writes it"
