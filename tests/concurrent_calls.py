"""Public calls from many threads in a new process: `python concurrent_calls.py MODEL PHOTO`.

All threads begin at once, with the first calls of the process. Prints as JSON by the calls' names
how many different results there were in all threads and afterwards in one, or their errors; how
often the model was read; and what of the process the calls have changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import locale
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import PIL.PngImagePlugin
import torch

import vqcodec
from vqcodec import threads

THREADS = 8
NUMBER = 3  # of torch's threads


def size(grey: int) -> int:
    """Bytes of the file of a grey square."""
    return len(vqcodec.compress(np.full((32, 32), grey, np.uint8), lossless="always").data)


def of_new_threads() -> int:
    """How many threads torch takes where it has not computed yet."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    with threads._lock:  # while no thread of the pool begins
        thread.start()
        thread.join()
    return found[0]


def state() -> dict[str, Any]:
    """What is of the process, and of nobody else to change."""
    return {
        "torch's threads": torch.get_num_threads(),
        "torch's threads of a new thread": of_new_threads(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "dtype": str(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "Pillow": (
            PIL.Image.MAX_IMAGE_PIXELS,
            PIL.ImageFile.LOAD_TRUNCATED_IMAGES,
            PIL.PngImagePlugin.MAX_TEXT_CHUNK,
            PIL.PngImagePlugin.MAX_TEXT_MEMORY,
        ),
        "warnings": [str(each) for each in warnings.filters],
        "signals": [str(signal.getsignal(each)) for each in signal.valid_signals()],
        "mask": [str(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "locale": locale.setlocale(locale.LC_ALL),
        "environment": dict(os.environ),
        "recursion": sys.getrecursionlimit(),
        "random": random.getstate(),
        "numpy's random": str(np.random.get_state()),  # noqa: NPY002
        "numpy's errors": np.geterr(),
        "torch's random": torch.random.get_rng_state().numpy().tobytes(),
        "folder": os.getcwd(),
        "standard error": os.fstat(2).st_ino,
        "hooks": (sys.excepthook, threading.excepthook, sys.getprofile(), sys.gettrace()),
    }


def main(model: Path, photo: Path) -> None:
    """See above."""
    if os.environ.get("VQCODEC_KERNELS") == "numba":
        importlib.import_module("numba")  # which adds to the warnings' filters
    torch.set_num_threads(NUMBER)
    encoded = photo.read_bytes()
    with PIL.Image.open(photo) as picture:
        pixels = np.array(picture.convert("RGB"))[:56, :72]
    options: dict[str, Any] = {"model": model, "lossless": "never", "tile": 32}
    calls: dict[str, Callable[[], Any]] = {
        "effort 1": lambda: bytes(vqcodec.compress(pixels, effort=1, **options)),
        "effort 3": lambda: bytes(vqcodec.compress(pixels, effort=3, **options)),
        "lossless": lambda: bytes(vqcodec.compress(pixels, lossless="always")),
        "load": lambda: importlib.import_module("vqcodec.image").load(encoded).pixels,
        "sample": lambda: vqcodec.sample(32, 48, model=model, seed=3)[0].pixels,
    }
    before = state()
    found: dict[str, list[str]] = {}
    first = together(calls, found)
    data = first["effort 3"]
    opened = vqcodec.open(data, model=model)
    calls |= {
        "decompress": lambda: vqcodec.decompress(data, model=model).pixels,
        "verify": lambda: repr(vqcodec.verify(data, model=model)).encode(),
        "region": lambda: opened.region(20, 8, 31, 40).pixels,
        "preview": lambda: opened.thumbnail(16).pixels,
        "lossless back": lambda: vqcodec.decompress(first["lossless"]).pixels,
    }
    together(calls, found)
    asyncio.run(awaited(calls, found))
    for name, call in calls.items():
        found[name].append(hashed(call()))
    after = state()

    from vqcodec import weights_file

    print(
        json.dumps(
            {
                "results": {name: sorted(set(each)) for name, each in found.items()},
                "read": weights_file._loaded.cache_info().misses,
                "changed": [name for name in before if before[name] != after[name]],
            }
        )
    )


def together(calls: dict[str, Callable[[], Any]], found: dict[str, list[str]]) -> dict[str, bytes]:
    """Has all threads make all calls, each in an order of its own; gives what the last one had."""
    begin = threading.Barrier(THREADS)
    given: dict[str, bytes] = {}

    def some(number: int) -> None:
        names = list(calls)
        begin.wait()
        for name in names[number % len(names) :] + names[: number % len(names)]:
            try:
                given[name] = content = calls[name]()
                found.setdefault(name, []).append(hashed(content))
            except Exception as error:
                found.setdefault(name, []).append(f"{type(error).__name__}: {error}")

    callers = [threading.Thread(target=some, args=(number,)) for number in range(THREADS)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    return given


async def awaited(calls: dict[str, Callable[[], Any]], found: dict[str, list[str]]) -> None:
    """Makes all calls at once, in asyncio's threads."""
    contents = await asyncio.gather(*(asyncio.to_thread(call) for call in calls.values()))
    for name, content in zip(calls, contents, strict=True):
        found[name].append(hashed(content))


def hashed(content: Any) -> str:
    """A hash of bytes or of an array."""
    content = content if isinstance(content, bytes) else content.tobytes()
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
