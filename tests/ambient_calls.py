"""Every public call in some state of torch: `python ambient_calls.py STATE FOLDER`.

The folder holds used.safetensors and fresh.safetensors, one model under two names, and
photo.png and photo.vqz. Prints as JSON what the calls gave, with a model loaded before the state
was set and with one loaded in it; what the state is within a call; and whether the calls left it
and the random numbers alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
import PIL.Image
import torch

import vqcodec
import vqcodec.imageio
from vqcodec import pillow
from vqcodec.drawing.completion import complete
from vqcodec.drawing.sampling import Place

torch_backends: Any = torch.backends

STATES: dict[str, Callable[[ExitStack], object]] = {
    "ordinary": lambda stack: None,
    "autocast to bfloat16": lambda stack: stack.enter_context(torch.autocast("cpu")),
    "autocast to float16": lambda stack: stack.enter_context(torch.autocast("cpu", torch.float16)),
    "inference mode": lambda stack: stack.enter_context(torch.inference_mode()),
    "no gradients": lambda stack: stack.enter_context(torch.no_grad()),
    "float64": lambda stack: torch.set_default_dtype(torch.float64),
    "bfloat16": lambda stack: torch.set_default_dtype(torch.bfloat16),
    "float16": lambda stack: torch.set_default_dtype(torch.float16),
    "meta device": lambda stack: torch.set_default_device("meta"),
    "meta device for a block": lambda stack: stack.enter_context(torch.device("meta")),
    "missing device": lambda stack: torch.set_default_device("cuda"),
    "older precision": lambda stack: torch.set_float32_matmul_precision("medium"),
    "newer precision": lambda stack: setattr(torch_backends, "fp32_precision", "bf16"),
    "precision of products": lambda stack: (
        setattr(torch_backends.mkldnn.matmul, "fp32_precision", "bf16"),
        setattr(torch_backends.mkldnn.conv, "fp32_precision", "bf16"),
    ),
    "mixed precision switches": lambda stack: (
        torch.set_float32_matmul_precision("high"),
        setattr(torch_backends.mkldnn.matmul, "fp32_precision", "bf16"),
    ),
    "precision of CUDA": lambda stack: setattr(torch_backends.cuda.matmul, "allow_tf32", True),
    "deterministic": lambda stack: torch.use_deterministic_algorithms(True),
    "anomalies looked for": lambda stack: stack.enter_context(torch.autograd.detect_anomaly()),
    "denormals flushed": lambda stack: torch.set_flush_denormal(True),
    "all at once": lambda stack: (
        torch.set_default_dtype(torch.float64),
        torch.set_default_device("meta"),
        torch.set_float32_matmul_precision("medium"),
        torch.set_flush_denormal(True),
        stack.enter_context(torch.autocast("cpu")),
        stack.enter_context(torch.inference_mode()),
    ),
}
NEWER = ("newer precision", "precision of products", "mixed precision switches")  # torch 2.9


def state() -> dict[str, str]:
    """What of torch's state vqcodec computes in another one of."""
    try:
        device = str(torch.empty(0).device)
    except (AssertionError, RuntimeError):
        device = "missing"
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:
        precision = "mixed"
    found = {
        "autocast": torch.is_autocast_enabled("cpu"),
        "inference": torch.is_inference_mode_enabled(),
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": device,
        "precision": precision,
        "denormals": sys.float_info.min / 2 > 0,
        "threads": torch.get_num_threads(),
    }
    if hasattr(torch._C, "_get_fp32_precision_getter"):
        for backend in ("generic", "mkldnn", "cuda"):
            for of in ("all",) if backend == "generic" else ("all", "matmul", "conv"):
                found[f"{backend} {of}"] = torch._C._get_fp32_precision_getter(backend, of)
    return {name: str(value) for name, value in found.items()}


def calls(folder: Path, model: Path) -> dict[str, str]:
    """A hash of what each call gives, or its error."""
    photo = np.array(PIL.Image.open(folder / "photo.png"))
    data = (folder / "photo.vqz").read_bytes()
    opened = vqcodec.open(data, model=model)
    pillow.MODEL = model

    def saved() -> bytes:
        stream = io.BytesIO()
        picture = PIL.Image.fromarray(photo)
        picture.save(stream, "VQZ", model=model, effort=1, lossless="never")
        return stream.getvalue()

    def compressed(**options: Any) -> bytes:
        return bytes(vqcodec.compress(photo, model=model, lossless="never", **options))

    given: dict[str, Callable[[], Any]] = {
        "compress": lambda: compressed(effort=1),
        "search": lambda: compressed(effort=4, tune="ssimulacra2"),
        "verify": lambda: str(vqcodec.verify(data, model=model)).encode(),
        "decompress": lambda: vqcodec.decompress(data, model=model).pixels,
        "region": lambda: opened.region(8, 8, 32, 32).pixels,
        "thumbnail": lambda: opened.thumbnail(16).pixels,
        "complete": lambda: complete(data, place=Place(model), levels=1).image.pixels,
        "sample": lambda: vqcodec.sample(40, 48, model=model, seed=3)[0].pixels,
        "pillow": lambda: np.array(PIL.Image.open(io.BytesIO(data))),
        "pillow saves": saved,
        "imageio": lambda: imageio.v3.imread(data, extension=".vqz"),
    }
    found = {}
    for name, call in given.items():
        try:
            content = call()
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
        else:
            content = content if isinstance(content, bytes) else content.tobytes()
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def main(name: str, folder: Path) -> None:
    """See above."""
    vqcodec.decompress((folder / "photo.vqz").read_bytes(), model=folder / "used.safetensors")
    generator = torch.random.default_generator
    with ExitStack() as stack:
        STATES[name](stack)
        before, random = state(), generator.get_state()
        found: dict[str, Any] = {
            model: calls(folder, folder / f"{model}.safetensors") for model in ("used", "fresh")
        }
        found["kept"] = state() == before
        found["random kept"] = bytes(generator.get_state().numpy()) == bytes(random.numpy())
        within: list[dict[str, str]] = []
        vqcodec.compress(
            np.zeros((32, 32, 3), np.uint8),
            effort=1,
            lossless="never",
            model=folder / "used.safetensors",
            progress=lambda *_: within.append(state()),
        )
        found["within"] = within[0]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
