"""Small corpora for tests, and work on them that goes wrong in other processes."""

from __future__ import annotations

import io
import os
import signal
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pictures import encode

from vqcodec.corpus import site
from vqcodec.corpus.work import Made, Work

SIZES = [(1, 1), (16, 16), (33, 31), (64, 48), (5, 64)]
MODES = ["RGB", "L", "RGBA", "LA", "P"]
BROKEN = {"broken/text.png": b"nonsense", "broken/empty.jpg": b"", "cut.png": b"\x89PNG\r\n\x1a\n"}
KILLER, STALLER, HOG, FAULT = b"die", b"stall", b"hog", b"fault"


def pictures(count: int) -> dict[str, bytes]:
    """So many good pictures of several sizes and modes, by names, some in folders."""
    random = np.random.default_rng(count)
    found = {}
    for n in range(count):
        width, height = SIZES[n % len(SIZES)]
        pixels = random.integers(256, size=(height, width, 3), dtype=np.uint8)
        picture = PIL.Image.fromarray(pixels).convert("RGBA")
        picture.putalpha(PIL.Image.linear_gradient("L").resize(picture.size))
        folder = ("", "cats/", "dogs/small/")[n % 3]
        mode = MODES[n % len(MODES)]
        found[f"{folder}{n:03}.png"] = encode(np.asarray(picture), "PNG", mode=mode)
    return found


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    """Writes files into a folder."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def archive(path: Path, contents: dict[str, bytes]) -> Path:
    """Writes a tar file."""
    with tarfile.open(path, "w") as written:
        for name, content in contents.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            written.addfile(about, io.BytesIO(content))
    return path


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder but those that begin with a dot."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def made(folder: Path) -> dict[str, bytes]:
    """Those of them that are no plan, and tell of no time."""
    return {name: data for name, data in files(folder).items() if not name.startswith("_")}


def do_badly(given: tuple[Any, Any]) -> Any:
    """As `site.do`; some pictures mean mischief."""
    if Work.do is not _mischief:
        Work.do = _mischief  # type: ignore[method-assign]
    return site.do(given)


def _mischief(work: Work, picture: Any) -> Made:
    if picture == KILLER:
        os.kill(os.getpid(), signal.SIGKILL)
    if picture.startswith(b"once:"):
        path = Path(picture.removeprefix(b"once:").decode())
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if picture == STALLER:
        time.sleep(600)
    if picture == HOG:
        hoard = []
        while True:
            hoard.append(np.ones(1 << 22, np.uint8))
            time.sleep(0.01)
    if picture == FAULT:
        raise ZeroDivisionError("a fault of our own")
    return Made(picture + b"!", 1, 1, "")


def die(beat: Any) -> None:
    """As `site.begin`, for a process that cannot live."""
    os._exit(1)
