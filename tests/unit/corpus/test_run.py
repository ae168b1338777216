"""Corpora of every format, there and back, in this process."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import corpora
import numpy as np
import pytest
from tiny import GROUPED, write_tiny_model

from vqcodec import codec, container, image
from vqcodec.corpus import manifest, run, verification
from vqcodec.corpus import plan as plans
from vqcodec.corpus.run import Summary, Wish
from vqcodec.corpus.store import LocalStore, open_store
from vqcodec.corpus.work import Work
from vqcodec.errors import CodecError, OutputError

Account = Callable[[], Summary]
FORMATS = ["files", "webdataset", "parquet"]
GOOD = corpora.pictures(11)
LOSSY: dict[str, Any] = {"effort": 1, "lossless": "never"}


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="extra corpus")
    return str(request.param)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return corpora.write(tmp_path / "photos", GOOD | corpora.BROKEN)


def faults(plan: plans.Plan, **options: Any) -> list[str]:
    return [line for found in verification.verify(plan, **options) for line in found.faults]


def contents(plan: plans.Plan) -> dict[str, bytes]:
    """What a corpus holds, by keys."""
    from vqcodec.corpus import shards

    found: dict[str, bytes] = {}
    for shard in range(len(plan.counts)):
        for key, content in shards.contents(plan, plan.manifest(shard)):
            assert isinstance(content, bytes)
            assert key not in found
            found[key] = content
    return found


def test_there_and_back_in_every_format(
    corpus: Any, account: Account, source: Path, tiny_model: Path, form: str
) -> None:
    small = corpus("compress", "photos", "small", format=form, shard_size=5, **LOSSY)
    assert account()[:3] == (11, 3, 0)
    assert len(small.counts) == 3
    assert faults(small, deep=True, source=open_store(str(source))) == []
    files = contents(small)
    assert files.keys() == {name.removesuffix(".png") for name in GOOD}
    for name, content in GOOD.items():
        loaded = image.load(content)
        expected = codec.compress(loaded, **LOSSY, model=tiny_model)
        assert files[name.removesuffix(".png")] == expected.data

    back = corpus("decompress", "small", "back", format=form, to="PNG")
    assert account()[:2] == (11, 0)
    assert faults(back, deep=True) == []
    for key, content in contents(back).items():
        expected = image.dump(codec.decompress(files[key], model=tiny_model), "PNG")
        assert content == expected


def test_tokens_in_every_format(
    corpus: Any, account: Account, source: Path, tiny_model: Path, form: str
) -> None:
    small = corpus("compress", "photos", "small", shard_size=4, **LOSSY)
    files = contents(small)
    tokens = corpus("tokenize", "photos", "tokens", format=form, bits=True, shard_size=5)
    assert account()[:2] == (11, 3)
    assert faults(tokens, deep=True, source=open_store(str(source))) == []
    again = corpus("tokenize", "small", "tokens-of-files", format=form, bits=True, shard_size=5)
    assert contents(again) == contents(tokens)

    packed = corpus("detokenize", "tokens", "packed", format=form, to="VQZ", shard_size=6)
    assert contents(packed) == files
    pictures = corpus("detokenize", "tokens", "pictures", format=form, to="PNG")
    for key, content in contents(pictures).items():
        np.testing.assert_array_equal(
            image.load(content).channels,
            codec.decompress(files[key], model=tiny_model).channels,
        )


def test_nothing_is_done_twice(
    corpus: Any, account: Account, source: Path, tmp_path: Path, form: str
) -> None:
    corpus("compress", "photos", "small", format=form, shard_size=4)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "small").rglob("*.*")}
    first = account()
    (source / "new.png").write_bytes(GOOD["000.png"])  # the plan is there already
    corpus("compress", "photos", "small", format=form, shard_size=4)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "small").rglob("*.*")}
    assert {path for path in before if before[path] != after[path]} <= {
        tmp_path / "small/_vqcodec/.lock"
    }
    assert account() == first._replace(before=14)


def test_every_failure_is_accounted_for(corpus: Any, source: Path, tmp_path: Path) -> None:
    plan = corpus("compress", "photos", "small", **LOSSY)
    rows = {row.key: row for row in plan.rows()}
    assert rows.keys() == {
        *(name.removesuffix(".png") for name in GOOD),
        "broken/text",
        "broken/empty",
        "cut",
    }
    row = rows["cats/001"]
    output = (tmp_path / "small/cats/001.vqz").read_bytes()
    content = GOOD["cats/001.png"]
    assert row == manifest.Row(
        "cats/001",
        "done",
        "cats/001.vqz",
        len(output),
        16,
        16,
        hashlib.sha256(content).hexdigest(),
        hashlib.sha256(output).hexdigest(),
        plan.settings["work"]["model_sha256"],
        "cats",
        "cats/001.png",
        len(content),
        "",
    )
    assert len(row.model) == 64
    failed = rows["broken/empty"]
    assert (failed.status, failed.file, failed.error) == (
        "failed",
        "",
        "is empty; name a picture",
    )
    assert not (tmp_path / "small/broken").exists()
    with open(tmp_path / "small/errors.csv", newline="") as stream:
        listed = list(csv.DictReader(stream))
    assert {each["source"] for each in listed} == set(corpora.BROKEN)
    assert all(each["error"] for each in listed)


def test_the_first_failure_may_end_it(source: Path, tmp_path: Path) -> None:
    work = Work("compress", lossless="always")
    plan = Wish(str(source), str(tmp_path / "small"), work).plan()
    with pytest.raises(CodecError, match=r"^(cut|broken/\w+): "):
        run.run(plan, workers=0, fail=True)
    (source / "cut.png").write_bytes(GOOD["000.png"])
    for name in ("text.png", "empty.jpg"):
        (source / "broken" / name).write_bytes(GOOD["000.png"])
    assert run.run(plan, workers=0, fail=True)[:2] == (14, 0)
    assert faults(plan) == []


class TestRefusals:
    def test_other_settings(self, corpus: Any, source: Path) -> None:
        corpus("compress", "photos", "small", quality=1, **LOSSY)
        with pytest.raises(OutputError, match="was begun with quality 1, not 2; give that"):
            corpus("compress", "photos", "small", quality=2, **LOSSY)
        with pytest.raises(OutputError, match="was begun with shard_size 10000, not 3"):
            corpus("compress", "photos", "small", quality=1, shard_size=3, **LOSSY)
        with pytest.raises(OutputError, match="was begun with command 'compress'"):
            corpus("tokenize", "photos", "small", quality=1, effort=1)

    def test_a_folder_with_something_else(self, corpus: Any, source: Path, tmp_path: Path) -> None:
        corpora.write(tmp_path / "small", {"mine.txt": b"mine"})
        with pytest.raises(OutputError, match="is not empty, and no corpus"):
            corpus("compress", "photos", "small")
        with pytest.raises(OutputError, match="is the source itself"):
            corpus("compress", "photos", "photos")

    def test_no_images(self, corpus: Any, tmp_path: Path) -> None:
        with pytest.raises(CodecError, match="no such folder"):
            corpus("compress", "nowhere", "small")
        (tmp_path / "empty").mkdir()
        with pytest.raises(CodecError, match="holds no image"):
            corpus("compress", "empty", "small")
        with pytest.raises(CodecError, match=r"holds no \*\.tar"):
            corpus("compress", "empty/*.tar", "small")

    def test_a_quality_or_model_that_is_not_there(self, corpus: Any, source: Path) -> None:
        with pytest.raises(CodecError, match="no quality 9"):
            corpus("compress", "photos", "small", quality=9, **LOSSY)
        with pytest.raises(CodecError, match="nonsense"):
            Wish(str(source), "other", Work("compress", model="nonsense")).plan()

    def test_two_runs_at_once(self, corpus: Any, source: Path) -> None:
        fcntl = pytest.importorskip("fcntl", reason="there are no locks here")
        plan = corpus("compress", "photos", "small")
        with open(Path(plan.store.root, "_vqcodec/.lock"), "wb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            with pytest.raises(CodecError, match="another run is at work"):
                run.run(plan, workers=0)

    def test_a_damaged_plan(self, corpus: Any, source: Path, tmp_path: Path) -> None:
        corpus("compress", "photos", "small")
        (tmp_path / "small/_vqcodec/plan.json").write_text('{"format": "other"}')
        with pytest.raises(CodecError, match="is no plan of this release"):
            corpus("compress", "photos", "small")

    def test_works_that_cannot_be(self) -> None:
        with pytest.raises(CodecError, match="no command 'paint'"):
            Work("paint")
        with pytest.raises(CodecError, match="of one quality"):
            Work("tokenize", bpp=1.0, pixels=(8, 8))


def test_a_plan_that_was_cut_short_is_made_anew(
    corpus: Any, account: Account, source: Path, tmp_path: Path
) -> None:
    corpora.write(tmp_path / "small/_vqcodec", {"plan/00000.csv": b"half a", "plan/00001.csv": b""})
    corpus("compress", "photos", "small")
    assert account()[:3] == (11, 3, 0)


def test_it_goes_on_where_it_was_stopped(source: Path, tmp_path: Path, form: str) -> None:
    """After every outcome once: what is finished stays, the rest is done, the bytes are equal."""
    work = Work("compress", lossless="always")
    whole = Wish(str(source), str(tmp_path / "whole"), work, format=form, shard_size=6).plan()
    expected = run.run(whole, workers=0)
    plan = Wish(str(source), str(tmp_path / "small"), work, format=form, shard_size=6).plan()
    done: list[int] = []

    def stop(outcome: Any) -> None:
        done.append(outcome.images + outcome.failed)
        raise KeyboardInterrupt

    summary = None
    while summary is None:
        with suppress(KeyboardInterrupt):
            summary = run.run(plan, workers=0, tell=stop)
    assert len(done) > 5
    assert sum(done) == 14
    assert summary == expected._replace(before=14)
    assert faults(plan) == []
    assert corpora.made(tmp_path / "small") == corpora.made(tmp_path / "whole")
    assert not (tmp_path / "small/_vqcodec/parts").exists()


def test_pictures_above_the_limit(corpus: Any, account: Account, source: Path) -> None:
    plan = corpus("compress", "photos", "small", max_pixels=1000)
    failed = {row.key: row.error for row in plan.rows() if row.status == "failed"}
    assert "the limit is 1,000" in failed["dogs/small/002"]  # 33 x 31
    assert account()[:2] == (7, 7)
    with pytest.raises(OutputError, match="was begun with max_pixels 1000, not 128000000"):
        corpus("compress", "photos", "small")


def test_weights_that_have_changed(
    corpus: Any, source: Path, tmp_path: Path, tiny_model: Path
) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(tiny_model.read_bytes())
    work = Work("tokenize", model=str(own))
    plan = Wish(str(source), str(tmp_path / "tokens"), work).plan()
    write_tiny_model(own, GROUPED)
    with pytest.raises(CodecError, match="is another model here than in the plan"):
        run.run(plan, workers=0)


class TestNames:
    def test_of_archives_that_mean_harm(
        self, corpus: Any, account: Account, tmp_path: Path
    ) -> None:
        (tmp_path / "shards").mkdir()
        good = GOOD["000.png"]
        names = ["../../out.png", "/etc/abs.png", "a/../b.png", "_vqcodec/plan.png", "x\\y.png"]
        names += ["a.seg.png", "a.png", "long" * 100 + ".png", "long" * 101 + ".png", ".png"]
        corpora.archive(tmp_path / "shards/one.tar", dict.fromkeys(names, good))
        corpora.archive(tmp_path / "shards/two.tar", {"a.png": good, "a.cls": b"7\n"})
        plan = corpus("compress", "shards", "small")
        assert account()[:2] == (11, 0)
        assert faults(plan) == []
        keys = [row.key for row in plan.rows()]
        assert len(set(keys)) == 11
        assert all(key.startswith(("one/", "two/")) for key in keys)
        assert {"one/out", "one/etc/abs", "one/a/b", "one/a", "two/a"} <= set(keys)
        assert {row.key: row.label for row in plan.rows()}["two/a"] == "7"
        assert len(corpora.made(tmp_path / "small")) == 12

    def test_of_files(self, corpus: Any, account: Account, tmp_path: Path) -> None:
        good = GOOD["000.png"]
        names = [
            "a.png",
            "a.jpg",
            "a.b.png",
            "a_b.png",
            "b/a.png",
            "b.png",
            "-x.png",
            ".hidden.png",
        ]
        corpora.write(tmp_path / "photos", dict.fromkeys(names, good))
        odd = os.fsencode(tmp_path / "photos") + b"/\xff\n,.png"
        with open(odd, "wb") as stream:
            stream.write(good)
        plan = corpus("compress", "photos", "small", format="webdataset")
        assert account()[:2] == (8, 0)
        assert faults(plan, source=open_store(str(tmp_path / "photos"))) == []
        keys = [row.key for row in plan.rows()]
        assert {"a", "a_png", "a_b", "a_b_png", "b/a", "b", "-x"} < set(keys)
        assert len(set(keys)) == 8
        with tarfile.open(tmp_path / "small/00000.tar") as archive:
            assert [name for name in archive.getnames() if name.endswith(".vqz")] == [
                f"{key}.vqz" for key in keys
            ]


class TestArchives:
    def test_what_cannot_be_read_of_them(
        self, corpus: Any, account: Account, tmp_path: Path
    ) -> None:
        path = tmp_path / "photos.tar"
        with tarfile.open(path, "w") as archive:
            about = tarfile.TarInfo("a.png")
            about.size = len(GOOD["000.png"])
            archive.addfile(about, io.BytesIO(GOOD["000.png"]))
            link = tarfile.TarInfo("b.png")
            link.type, link.linkname = tarfile.LNKTYPE, "a.png"
            archive.addfile(link)
        plan = corpus("compress", "photos.tar", "small")
        assert account()[:2] == (1, 1)
        (failed,) = (row for row in plan.rows() if row.status == "failed")
        assert failed.error.startswith("is a link")

    def test_damaged_ones(self, corpus: Any, tmp_path: Path) -> None:
        path = corpora.archive(tmp_path / "photos.tar", {"a.png": b"x" * 2000})
        path.write_bytes(b"x" * 2000)
        with pytest.raises(CodecError, match="cannot be read to its end"):
            corpus("compress", "photos.tar", "small")

    def test_compressed_ones(self, corpus: Any, tmp_path: Path) -> None:
        (tmp_path / "photos.tar.gz").write_bytes(b"")
        with pytest.raises(CodecError, match="is compressed"):
            corpus("compress", "photos.tar.gz", "small")

    def test_patterns(self, corpus: Any, account: Account, tmp_path: Path) -> None:
        for n in range(3):
            corpora.archive(tmp_path / f"s-{n}.tar", {"a.png": GOOD["000.png"]})
        corpora.archive(tmp_path / "other.tar", {"a.png": GOOD["000.png"]})
        corpus("compress", "s-*.tar", "small")
        assert account().images == 3


class TestParquet:
    @pytest.fixture(autouse=True)
    def arrow(self) -> Any:
        return pytest.importorskip("pyarrow", reason="extra corpus")

    def write(self, path: Path, columns: dict[str, Any]) -> None:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)

    def test_columns_of_others(
        self, corpus: Any, account: Account, tmp_path: Path, arrow: Any
    ) -> None:
        some = list(GOOD.values())[:5]
        self.write(
            tmp_path / "a.parquet",
            {"image": [{"bytes": each, "path": None} for each in some], "label": [3, 1, 4, 1, 5]},
        )
        plan = corpus("compress", "a.parquet", "one")
        assert account().images == 5
        assert [row.label for row in plan.rows()] == ["3", "1", "4", "1", "5"]
        self.write(tmp_path / "b.parquet", {"jpg": [*some[:2], None], "__key__": ["x/y", "x", "z"]})
        plan = corpus("compress", "b.parquet", "two")
        assert account()[:2] == (2, 1)
        assert [row.key for row in plan.rows()] == ["x/y", "x", "z"]
        self.write(tmp_path / "c.parquet", {"words": ["a"], "numbers": [1]})
        with pytest.raises(CodecError, match="no column of what is looked for, but words"):
            corpus("compress", "c.parquet", "three")
        (tmp_path / "d.parquet").write_bytes(b"nonsense")
        with pytest.raises(CodecError, match="is no Parquet file"):
            corpus("compress", "d.parquet", "four")

    def test_tokens_of_one_size(
        self, corpus: Any, account: Account, tmp_path: Path, arrow: Any
    ) -> None:
        import json

        import pyarrow.parquet

        corpora.write(tmp_path / "photos", GOOD)
        plan = corpus(
            "tokenize", "photos", "tokens", format="parquet", pixels=(16, 16), bits=True, quality=2
        )
        assert account()[:2] == (2, 9)
        assert "not 16 x 16" in next(iter(plan.rows())).error
        table = pyarrow.parquet.read_table(tmp_path / "tokens/00000.parquet")
        about = json.loads(table.schema.metadata[b"vqcodec"])
        assert about["shapes"] == [[1, 1, 2], [2, 2, 3], [4, 4, 2]]
        assert about["strides"] == [32, 16, 8]
        assert about["sha256"] == plan.settings["work"]["model_sha256"]
        for level, size in enumerate([2, 12, 32]):
            kind = table.schema.field(f"level_{level}").type
            assert kind == arrow.list_(arrow.uint8(), size)
        assert table.column("quality").to_pylist() == [2, 2]
        assert table.column("class").to_pylist() == ["cats", None] or table.num_rows == 2
        bits = table.column("bits").to_pylist()
        assert bits == [sum(each) for each in table.column("level_bits").to_pylist()]
        assert min(bits) > 0


class TestVerify:
    @pytest.fixture
    def plan(self, corpus: Any, source: Path, form: str) -> plans.Plan:
        found: plans.Plan = corpus("compress", "photos", "small", format=form, shard_size=5)
        return found

    def test_changed_missing_and_added(self, plan: plans.Plan, form: str) -> None:
        root = Path(plan.store.root)
        (root / "extra.vqz").write_bytes(b"")
        assert faults(plan) == ["extra.vqz: is no image of the corpus"]
        (root / "extra.vqz").unlink()
        row = next(row for row in plan.rows() if row.status == "done")
        path = root / row.file
        content = path.read_bytes()
        path.write_bytes(content.replace(container.MAGIC, b"\x89VQX"))
        assert faults(plan)
        path.unlink()
        assert any("no such file" in line.lower() for line in faults(plan))
        path.write_bytes(content)
        assert faults(plan) == []
        (root / "errors.csv").write_bytes(b"")
        assert faults(plan) == [
            "errors.csv: differs from the manifests; start the run again, which writes it"
        ]
        run.run(plan, workers=0)
        assert faults(plan) == []

    def test_unfinished(self, plan: plans.Plan) -> None:
        root = Path(plan.store.root)
        (root / "_vqcodec/manifests/00001.csv").unlink()
        assert any("shard 1 is not finished" in line for line in faults(plan))
        run.run(plan, workers=0)
        assert faults(plan) == []

    def test_deep(self, plan: plans.Plan, form: str) -> None:
        if form != "files":
            return
        row = next(row for row in plan.rows() if row.status == "done")
        path = Path(plan.store.root, row.file)
        path.write_bytes(b"nonsense")
        name = Path(plan.store.root, "_vqcodec/manifests/00000.csv")
        other = hashlib.sha256(b"nonsense").hexdigest()
        name.write_text(name.read_text().replace(row.output_sha256, other))
        assert faults(plan) == []
        (fault,) = faults(plan, deep=True)
        assert "is not a .vqz file" in fault

    def test_a_source_that_changed(self, plan: plans.Plan, source: Path) -> None:
        (source / "000.png").write_bytes(GOOD["003.png"])
        store = LocalStore(str(source))
        assert faults(plan, source=store) == ["000: its source has changed since"]
