"""Pictures of every kind look as Chromium shows them."""

from __future__ import annotations

import shutil

import inputs
import pytest

from vqcodec.image import load

pytest.importorskip("selenium", reason="selenium is not installed: pip install selenium")
needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium or chromedriver is not installed: apt-get install chromium-driver",
)
MOST = 2  # of 255 levels


@needs_chromium
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # selenium's own sockets
def test_colours_are_those_of_a_browser() -> None:
    compared = 0
    with inputs.browser() as shown:
        for name, encoded in inputs.pictures().items():
            # Chromium does not turn WebP by EXIF; it shows HDR, which is refused here.
            if (name.startswith("WebP") and "orientation" in name) or "PQ" in name:
                continue
            seen = shown(encoded)
            if seen is None:
                assert name.startswith("TIFF"), name
                continue
            words = inputs.difference(load(encoded, allow_damaged=True), seen)
            assert int(words.rpartition("at most ")[2]) <= MOST, (name, words)
            compared += 1
    assert compared > 30


def test_a_row_tells_what_is_kept_and_left_out() -> None:
    found = inputs.pictures()["JPEG, EXIF orientation 6"]
    assert inputs.row("name", found, None) == (
        "| name | RGB 64 x 96 | EXIF | GPS position (--keep-metadata) | not shown |"
    )
    assert inputs.row("name", b"text", None) == (
        "| name | refused: is text, no picture; name a picture | | | not shown |"
    )
