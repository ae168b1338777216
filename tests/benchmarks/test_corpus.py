"""The benchmark of corpora: what it makes, and a short run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import corpus
import pytest
from click.testing import CliRunner

from vqcodec.errors import ImageError
from vqcodec.image import load


def test_the_mixed_corpus(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="extra bench")
    corpus.make_mixed(tmp_path, 160, 300)
    paths = sorted(tmp_path.rglob("*.*"))
    assert len(paths) == 160
    sizes, grey, alpha = set(), 0, 0
    for path in paths:
        with suppress(ImageError):
            image = load(path)
            sizes.add(image.pixels.shape[:2])
            grey += image.grey
            alpha += image.alpha is not None
    assert {(1, 1), (300, 200)} & sizes
    assert max(sizes) == (300, 200)
    assert grey > 10
    assert alpha > 10
    for kind in range(4):
        content = corpus.broken((tmp_path / "00" / "000000.png").read_bytes(), kind)
        with pytest.raises(ImageError):
            load(content)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory(tmp_path: Path, tiny_model: Path) -> None:
    pytest.importorskip("skimage", reason="extra bench")
    options = ["--part", "memory", "--small", "30", "--folder", str(tmp_path)]
    done = CliRunner().invoke(corpus.main, [*options, "--model", str(tiny_model)])
    assert done.exit_code == 0, done.output
    assert "Memory over 30 images" in done.output
