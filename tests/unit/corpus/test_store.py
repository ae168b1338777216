"""Where corpora lie: folders, and what fsspec reaches."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import corpora
import pytest

from vqcodec.corpus import store as stores
from vqcodec.corpus import verification
from vqcodec.corpus.store import LocalStore, RemoteStore, Store, StoreError, open_store
from vqcodec.errors import CodecError


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    pytest.importorskip("fsspec", reason="extra corpus")
    return open_store(f"memory://{tmp_path}")


def test_files(store: Store) -> None:
    assert list(store.names()) == []
    store.write("b/c.txt", b"hello")
    store.write("a.txt", b"")
    store.write("b/c.txt", b"hello world")
    assert list(store.names()) == ["a.txt", "b/c.txt"]
    assert list(store.names("b")) == ["b/c.txt"]
    assert list(store.names("nothing")) == []
    assert store.read("b/c.txt") == b"hello world"
    assert store.read("b/c.txt", 6, 3) == b"wor"
    assert store.read("b/c.txt", 6, 0) == b""
    with store.open("b/c.txt") as stream:
        stream.seek(2)
        assert stream.read(3) == b"llo"
    assert store.exists("a.txt")
    store.remove("a.txt")
    store.remove("a.txt")
    assert not store.exists("a.txt")
    with pytest.raises(CodecError, match="cannot be read") as caught:
        store.read("a.txt")
    assert not isinstance(caught.value, StoreError)


def test_a_file_that_is_built_is_there_at_its_end(store: Store) -> None:
    with store.building("x/y.bin") as path:
        path.write_bytes(b"half")
        assert not store.exists("x/y.bin")
    assert store.read("x/y.bin") == b"half"
    with suppress(ZeroDivisionError), store.building("x/z.bin") as path:
        path.write_bytes(b"half")
        raise ZeroDivisionError
    assert list(store.names()) == ["x/y.bin"]


def test_what_killed_processes_leave_goes(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    (tmp_path / ".00000.tar.77.building").write_bytes(b"half")
    store.tidy("")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be made a folder"):
        LocalStore(str(tmp_path)).write("file/a.txt", b"")


class TestFailures:
    @pytest.fixture
    def remote(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteStore:
        pytest.importorskip("fsspec", reason="extra corpus")
        monkeypatch.setattr(stores, "PAUSE", 0.0)
        return RemoteStore(f"memory://{tmp_path}")

    def failing(self, monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> list[int]:
        from fsspec.implementations.memory import MemoryFileSystem

        real, calls = getattr(MemoryFileSystem, name), [0]

        def call(*given: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] <= times:
                raise TimeoutError("it is slow")
            return real(*given, **options)

        monkeypatch.setattr(MemoryFileSystem, name, call)
        return calls

    @pytest.mark.parametrize("name", ["pipe_file", "cat_file", "find"])
    def test_that_pass(
        self, remote: RemoteStore, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        calls = self.failing(monkeypatch, name, stores.TRIES - 1)
        remote.write("a", b"abc")
        assert remote.read("a") == b"abc"
        assert list(remote.names()) == ["a"]
        assert calls[0] >= stores.TRIES

    def test_that_last(self, remote: RemoteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing(monkeypatch, "pipe_file", 100)
        with pytest.raises(StoreError, match=r"cannot be written \(TimeoutError: it is slow\)"):
            remote.write("a", b"abc")

    def test_an_answer_that_is_cut_short(
        self, remote: RemoteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        remote.write("a", b"abc")
        with pytest.raises(StoreError, match="3 bytes came instead of 5"):
            remote.read("a", 0, 5)

    def test_kinds_that_there_are_not(self) -> None:
        pytest.importorskip("fsspec", reason="extra corpus")
        with pytest.raises(CodecError, match="cannot be reached"):
            open_store("nonsense://bucket")


@pytest.mark.parametrize("form", ["files", "webdataset", "parquet"])
def test_a_corpus_in_memory(corpus: Any, tmp_path: Path, form: str) -> None:
    fsspec = pytest.importorskip("fsspec", reason="extra corpus")
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="extra corpus")
    here = f"memory://{tmp_path}"
    files = fsspec.filesystem("memory")
    for name, content in (corpora.pictures(7) | corpora.BROKEN).items():
        files.pipe_file(f"{tmp_path}/photos/{name}", content)
    small = corpus("compress", f"{here}/photos", f"{here}/small", format=form, shard_size=4)
    rows = list(small.rows())
    assert [row.status for row in rows].count("done") == 7
    assert not [line for each in verification.verify(small, deep=True) for line in each.faults]
    corpora.write(tmp_path / "photos", corpora.pictures(7) | corpora.BROKEN)
    local = corpus("compress", "photos", "small", format=form, shard_size=4)
    by_key = {row.key: row.output_sha256 for row in local.rows()}
    assert by_key == {row.key: row.output_sha256 for row in rows}
    back = corpus("decompress", f"{here}/small", f"{here}/back", format=form)
    assert [row.status for row in back.rows()] == ["done"] * 7


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(CodecError, match=r"s3://bucket needs fsspec.*vqcodec\[corpus\]"):
        open_store("s3://bucket")
