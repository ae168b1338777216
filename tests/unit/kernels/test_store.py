"""Where compiled code is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vqcodec.kernels import store


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VQCODEC_CACHE", str(tmp_path / "cache"))
    store.folder.cache_clear()
    yield tmp_path / "cache"
    store.folder.cache_clear()


def test_a_folder_of_the_user_s_choice(root: Path) -> None:
    path = store.folder()
    assert path is not None
    assert path.parent == root
    assert path.is_dir()


def test_the_user_s_caches_if_nothing_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VQCODEC_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.root() == tmp_path
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.root() == Path.home() / ".cache"


def test_complete_when_everything_is_there(root: Path) -> None:
    assert not store.any_complete()
    assert not store.complete()
    store.finish()
    assert store.any_complete()
    assert store.complete()


def test_a_file_in_the_way_leaves_no_folder(root: Path) -> None:
    root.write_text("a file")
    assert store.folder() is None
    assert not store.complete()
    store.finish()
    assert not store.claim()


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(store, "root", homeless)
    store.folder.cache_clear()
    assert not store.any_complete()
    assert not store.complete()
    assert not store.claim()
    store.folder.cache_clear()


def test_one_process_at_a_time_compiles(root: Path) -> None:
    assert store.claim()
    assert not store.claim()
    long_ago = time.time() - store.CLAIM_SECONDS - 1
    os.utime(root / store.CLAIM, (long_ago, long_ago))
    assert store.claim()


def test_another_processor_has_another_folder(root: Path) -> None:
    program = "from vqcodec.kernels import store; print(store.folder())"
    environment = dict(os.environ)
    found = set()
    for features in ("", "+ssse3", "+ssse3,+avx2"):
        environment |= {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features}
        result = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(result.stdout)
    assert len(found) == 3
