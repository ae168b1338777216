"""Files that `benchmarks/fuzz_guided.py` found: each takes a path of its own through the code."""

from __future__ import annotations

import resource
from pathlib import Path

import fuzz
import pytest

PATHS = sorted(fuzz.CORPUS.glob("*/*.bin"))
MOST_BYTES = 1 << 30
MOST_OF_ALL = 300_000  # bytes of the corpus


def peak() -> int:
    """Resident memory of this process at its largest, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.timeout(60)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_result_or_an_error_of_ours(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = peak()
    assert fuzz.TARGETS[path.parent.name].once(path.read_bytes())
    assert peak() < before + MOST_BYTES
    assert capfd.readouterr() == ("", "")


def test_the_corpus_is_small() -> None:
    assert len(PATHS) > 20
    assert sum(path.stat().st_size for path in PATHS) < MOST_OF_ALL
