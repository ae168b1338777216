from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ambient_calls
import numpy as np
import PIL.Image
import pytest
import torch
from conftest import Run

import vqcodec
from vqcodec import ambient
from vqcodec.ambient import ordinary_state
from vqcodec.drawing.sampling import Place, Request, draw
from vqcodec.errors import CodecError
from vqcodec.threads import share

PROGRAM = Path(ambient_calls.__file__)
LONG = 100  # seconds, for a process that does not hang

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, astronaut: Path) -> Path:
    found = tmp_path_factory.mktemp("ambient")
    for name in ("used", "fresh"):
        shutil.copy(tiny_model, found / f"{name}.safetensors")
    photo = PIL.Image.open(astronaut).convert("RGB").crop((0, 0, 56, 48))
    photo.save(found / "photo.png")
    data = vqcodec.compress(photo, effort=2, lossless="never", model=tiny_model).data
    (found / "photo.vqz").write_bytes(data)
    return found


def program(environment: dict[str, str], *arguments: str | Path, **variables: str) -> str:
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def found_in(name: str, kernels: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    output = program(
        environment, PROGRAM, name, folder, VQCODEC_KERNELS=kernels, VQCODEC_GEMM="float32"
    )
    found: dict[str, Any] = json.loads(output)
    return found


@pytest.fixture(scope="module")
def usual(folder: Path, environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What the calls give in the ordinary state, by kernels."""
    return {
        kernels: found_in("ordinary", kernels, folder, environment)
        for kernels in ("torch", "numba")
    }


@pytest.mark.parametrize(
    ("name", "kernels"),
    [*((name, "torch") for name in ambient_calls.STATES), ("all at once", "numba")],
)
def test_calls_give_the_same_in_every_state(
    name: str,
    kernels: str,
    folder: Path,
    environment: dict[str, str],
    usual: dict[str, dict[str, Any]],
) -> None:
    if name in ambient_calls.NEWER and not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has the older switches only")
    if name == "missing device" and torch.cuda.is_available():
        pytest.skip("it is there")
    expected = usual[kernels]["used"]
    assert not [each for each in expected.values() if "Error" in each]
    found = found_in(name, kernels, folder, environment)
    assert found["used"] == expected
    assert found["fresh"] == expected
    assert found["kept"]
    assert found["random kept"]
    good = {"none": "none or ieee", "ieee": "none or ieee"}  # as good as each other
    for switch, value in usual[kernels]["within"].items():
        if switch != "precision":  # the older one is mixed with what the newer ones say
            now = found["within"][switch]
            assert good.get(now, now) == good.get(value, value), switch


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
def test_the_last_of_overlapping_calls_puts_back_what_is_of_the_process() -> None:
    """The first call ends before the second one."""
    entered, leave = threading.Event(), threading.Event()

    def second() -> None:
        with ordinary_state():
            entered.set()
            leave.wait(LONG)

    other = threading.Thread(target=second)
    with ordinary_state():
        other.start()
        assert entered.wait(LONG)
    assert torch.get_default_dtype() == torch.float32
    leave.set()
    other.join()
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.usefixtures("float64")
def test_what_is_of_the_process_is_put_back_after_an_error() -> None:
    with pytest.raises(KeyError, match="float32"), ordinary_state(), ordinary_state():
        raise KeyError(torch.get_default_dtype())
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.usefixtures("float64")
def test_threads_of_different_states_at_once(folder: Path) -> None:
    data, model = (folder / "photo.vqz").read_bytes(), folder / "used.safetensors"
    torch.set_default_dtype(torch.float32)
    expected = vqcodec.decompress(data, model=model).pixels
    torch.set_default_dtype(torch.float64)
    found = []

    def decompress(state: str) -> None:
        with ambient_calls.ExitStack() as stack:
            ambient_calls.STATES[state](stack)
            for _ in range(5):
                found.append(np.array_equal(vqcodec.decompress(data, model=model).pixels, expected))
            found.append(torch.get_default_dtype() in (torch.float32, torch.float64))

    states = ("autocast to bfloat16", "inference mode", "no gradients", "meta device for a block")
    threads = [threading.Thread(target=decompress, args=(state,)) for state in states]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [True] * 24
    assert torch.get_default_dtype() == torch.float64


def test_worker_threads_are_in_it_too() -> None:
    found = []

    def look(_: int) -> None:
        found.append({**ambient_calls.state(), "threads": ""})

    usual = {**ambient_calls.state(), "threads": ""}
    with ambient_calls.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast("cpu"))
        stack.enter_context(torch.device("meta"))
        with ordinary_state():
            share(look, range(8), threads=3)
    assert found == [usual] * 8


def test_samples_are_drawn_in_it_and_given_in_the_caller_s_state(tiny_model: Path) -> None:
    request, place = Request(32, 32, count=3), Place(tiny_model, batch=1)
    expected = [each.image.pixels for each in draw(request, place=place)]
    with torch.inference_mode(), torch.autocast("cpu"), torch.device("meta"):
        before = ambient_calls.state()
        for sample, pixels in zip(draw(request, place=place), expected, strict=True):
            assert np.array_equal(sample.image.pixels, pixels)
            assert ambient_calls.state() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "photo.png", "photo.vqz"],
        ["evaluate", "likelihood", "--images", ".", "--crop", "32", "--json", "-"],
    ],
)
def test_commands_are_in_it(arguments: list[str], folder: Path, run: Run, tmp_path: Path) -> None:
    """In one process with other code, as of a notebook."""
    for name in ("photo.png", "photo.vqz"):
        shutil.copy(folder / name, tmp_path)
    results = []
    for state in ("ordinary", "all at once"):
        model = tmp_path / f"{arguments[0]}-{len(results)}.safetensors"  # read in this state
        shutil.copy(folder / "used.safetensors", model)
        with ambient_calls.ExitStack() as stack:
            stack.callback(torch.set_default_dtype, torch.float32)
            stack.callback(torch.set_flush_denormal, False)
            stack.callback(torch.set_float32_matmul_precision, "highest")
            stack.callback(torch.set_default_device, None)
            ambient_calls.STATES[state](stack)
            results.append(run(*arguments, "--model", model))
    assert results[0].returncode == 0, results[0].stderr
    assert results[1].returncode == 0, results[1].stderr
    assert results[1].stdout == results[0].stdout


# Processes that are forked

POOL = """
import multiprocessing, sys
import numpy as np, torch, vqcodec

def size(grey):
    photo = np.full((64, 64, 3), grey, np.uint8)
    photo[::3, ::5] = 90
    data = vqcodec.compress(photo, effort=2, lossless="never").data
    vqcodec.verify(data)
    return data, vqcodec.decompress(data).pixels.tobytes()

torch.set_num_threads(3)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
expected = [size(each) for each in (0, 80)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(size, (0, 80)).get(60) == expected
    assert pool.apply(torch.get_num_threads) == 3  # put back, as everything is
"""

WITHIN_ANOTHER_CALL = """
import os, threading, torch
from vqcodec.ambient import ordinary_state

torch.set_default_dtype(torch.float64)
entered, leave = threading.Event(), threading.Event()

def call():
    with ordinary_state():
        entered.set()
        leave.wait(60)

thread = threading.Thread(target=call)
thread.start()
entered.wait(60)
assert torch.get_default_dtype() == torch.float32
child = os.fork()
if child == 0:
    good = torch.get_default_dtype() == torch.float64
    with ordinary_state():
        good = good and torch.get_default_dtype() == torch.float32
        good = good and torch.get_num_threads() == 1
    os._exit(0 if good and torch.get_default_dtype() == torch.float64 else 1)
_, status = os.waitpid(child, 0)
leave.set()
thread.join()
assert status == 0
assert torch.get_default_dtype() == torch.float64
"""


@needs_fork
@pytest.mark.parametrize("kernels", ["torch", "numba"])
def test_a_forked_process_goes_on_in_one_thread(
    kernels: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    program(
        environment,
        tmp_path / "pool.py",
        VQCODEC_KERNELS=kernels,
        OMP_NUM_THREADS="3",
        OMP_WAIT_POLICY="passive",
    )


@needs_fork
def test_a_process_forked_within_another_thread_s_call(environment: dict[str, str]) -> None:
    program(environment, "-c", WITHIN_ANOTHER_CALL, OMP_NUM_THREADS="3", OMP_WAIT_POLICY="passive")


def test_what_a_forked_process_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "Cannot re-initialize CUDA in forked subprocess."
    with pytest.raises(RuntimeError, match=message), ordinary_state():
        raise RuntimeError(message)
    monkeypatch.setattr(ambient, "_forked", True)
    with pytest.raises(CodecError, match=r"CUDA in forked subprocess.*spawn"), ordinary_state():
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="else"), ordinary_state():
        raise RuntimeError("something else")
