"""`vqcodec corpus` on many images: equal bytes, kills, costs, memory, tokens.

    python benchmarks/corpus.py                       # all parts, 2,000 images
    python benchmarks/corpus.py --part kills --kills 100 --images 300

formats: a mixed corpus through every command, every format, both engines and several numbers of
workers; everything has to be the same bytes, whole by `verify --deep`, and done once.
kills: runs of `compress` and `tokenize` whose workers and driver are killed at random, and with Ray
on three nodes of this machine nodes, too; at the end everything has to be there once and right.
costs: images a second of one and two workers, and of a plain loop.
memory: of a worker and of the driver over many small images.
tokens: images of 64 x 64 to tokens: images a second, bytes against PNG and log2 K bits.

It leaves with exit code 1 if anything is not as it has to be. Needs the extra `corpus` for Parquet
and Ray, and scikit-image for its photographs.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import PIL.Image

from vqcodec.bench.command import Command, print_made, print_table
from vqcodec.corpus import plan as plans
from vqcodec.corpus import verification
from vqcodec.corpus.local import resident
from vqcodec.corpus.store import open_store
from vqcodec.errors import CodecError
from vqcodec.registry import DEFAULT_MODEL

PARTS = ("formats", "kills", "costs", "memory", "tokens")
FORMATS = ("files", "webdataset", "parquet")
PROGRAM = (sys.executable, "-m", "vqcodec", "corpus")
BROKEN_EVERY = 36  # 55 of 2,000
HUGE_EVERY = 500
SMALL = (1, 7, 16, 33, 64, 100)
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",
}
Pixels = npt.NDArray[np.uint8]


def photographs() -> list[Pixels]:
    """uint8 [H, W, 3] each."""
    from skimage import data

    return [np.ascontiguousarray(each()) for each in (data.astronaut, data.chelsea, data.coffee)]


def crop(photos: Sequence[Pixels], draw: random.Random, height: int, width: int) -> Pixels:
    """A random part of one of them, enlarged where it is too small."""
    photo = draw.choice(photos)
    factor = -(-max(height / photo.shape[0], width / photo.shape[1]) // 1)
    if factor > 1:
        size = (int(photo.shape[1] * factor), int(photo.shape[0] * factor))
        photo = np.asarray(PIL.Image.fromarray(photo).resize(size))
    top = draw.randint(0, photo.shape[0] - height)
    left = draw.randint(0, photo.shape[1] - width)
    return photo[top : top + height, left : left + width]


def encoded(pixels: Pixels, mode: str, name: str) -> bytes:
    """A picture's file; LA and RGBA are transparent to one side."""
    picture = PIL.Image.fromarray(pixels)
    if mode in ("LA", "RGBA"):
        picture = picture.convert("RGBA")
        picture.putalpha(PIL.Image.linear_gradient("L").resize(picture.size))
    stream = io.BytesIO()
    picture.convert(mode).save(stream, name)
    return stream.getvalue()


def broken(content: bytes, kind: int) -> bytes:
    """What no picture can be made of."""
    middle = len(content) // 2
    return (b"", b"nonsense", content[:middle], content[:middle] + b"\0" * 40 + content[middle:])[
        kind % 4
    ]


def make_mixed(folder: Path, images: int, huge: int) -> None:
    """Pictures of many sizes and modes, some broken, some of so many pixels a side."""
    photos, draw = photographs(), random.Random(0)
    for n in range(images):
        sides = (huge, huge * 2 // 3) if n % HUGE_EVERY == 7 else draw.choices(SMALL, k=2)
        mode, name = draw.choice(
            [("RGB", "PNG"), ("L", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("RGB", "JPEG")]
        )
        content = encoded(crop(photos, draw, *sides), mode, name)
        if n % BROKEN_EVERY == 5:
            content = broken(content, n // BROKEN_EVERY)
        path = folder / f"{n % 20:02}" / f"{n:06}.{'jpg' if name == 'JPEG' else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def make_small(folder: Path, images: int, side: int) -> int:
    """Crops of photographs as PNG files; gives their bytes."""
    photos, draw, total = photographs(), random.Random(1), 0
    for n in range(images):
        path = folder / f"{n // 1000:03}" / f"{n:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = encoded(crop(photos, draw, side, side), "RGB", "PNG")
        path.write_bytes(content)
        total += len(content)
    return total


def hashed(folder: Path) -> dict[str, str]:
    """SHA-256 of all files of a corpus but its plan, which names its source and target."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("plan.json", ".lock")
    }


def call(*arguments: object, codes: Sequence[int] = (0, 1)) -> float:
    """Seconds of a run of the command line.

    Raises:
        CodecError: it ended otherwise than it has to.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True
    )
    if done.returncode not in codes or "Traceback" in done.stderr:
        raise CodecError(f"{' '.join(map(str, arguments))} ended so: {done.stderr[-2000:]}")
    return time.perf_counter() - start


def check(folder: Path, *, deep: bool) -> tuple[int, int]:
    """Images that are there and that failed.

    Raises:
        CodecError: the corpus is not whole.
    """
    plan = plans.read(open_store(str(folder)))
    assert plan is not None
    found = list(verification.verify(plan, deep=deep))
    faults = [line for each in found for line in each.faults]
    if faults:
        raise CodecError(f"{folder.name}: {len(faults)} faults, first {faults[0]}")
    images, failed = sum(each.images for each in found), sum(each.failed for each in found)
    if images + failed != plan.images:
        raise CodecError(f"{folder.name}: {images} and {failed} are not {plan.images}")
    return images, failed


def formats(folder: Path, given: dict[str, Any]) -> None:
    """The part of this name."""
    source = folder / "mixed"
    make_mixed(source, given["images"], given["huge"])
    asked = ["--model", given["model"]]
    rows: list[list[object]] = []
    engines = [("local", workers) for workers in (1, 2, 3)]
    engines += [("ray", 2)] if given["ray"] else []
    for form in FORMATS:
        steps = {
            "compress": (source, ["--effort", 1]),
            "decompress": (f"compress-{form}-local-1", []),
            "tokenize": (source, ["--bits"]),
            "detokenize": (f"tokenize-{form}-local-1", ["--to", "VQZ"]),
        }
        for command, (of, options) in steps.items():
            first: dict[str, str] = {}
            for engine, workers in engines:
                target = folder / f"{command}-{form}-{engine}-{workers}"
                own = [command, folder / of, target, "--format", form, *options, *asked]
                own += ["--engine", engine, "--workers", workers, "--shard-size", given["shard"]]
                seconds = call(*own)
                images, failed = check(target, deep=not first)
                found = hashed(target)
                first = first or found
                if found != first:
                    raise CodecError(f"{target.name} has other bytes than one local worker gives")
                again = call(*own)
                if hashed(target) != found:
                    raise CodecError(f"{target.name}: a second run has changed something")
                rows.append(
                    [
                        form,
                        command,
                        engine,
                        workers,
                        images,
                        failed,
                        f"{seconds:.1f}",
                        f"{again:.1f}",
                    ]
                )
    columns = ["format", "command", "engine", "workers", "images", "failed", "seconds", "again"]
    print_table("A mixed corpus: the same bytes from all, whole, and done once", columns, rows)


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and theirs."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found


def workers_of(pid: int) -> list[int]:
    """Those among them that work on images."""
    found = []
    for each in descendants(pid):
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes():
                found.append(each)
    return found


class Nodes:
    """A Ray cluster of three nodes on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        self.others = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
        self.address = self.cluster.address

    def kill(self, draw: random.Random) -> None:
        """Kills a node that is not the head, and starts another."""
        node = self.others.pop(draw.randrange(len(self.others)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.others.append(self.cluster.add_node(num_cpus=1))

    def workers(self) -> list[int]:
        """Processes that work on images, or hand them out, on any node."""
        found: list[int] = []
        for node in (self.cluster.head_node, *self.others):
            for process in node.all_processes.get("raylet", []):
                found += descendants(process.process.pid)
        alive = []
        for each in found:
            with suppress(OSError):
                line = Path(f"/proc/{each}/cmdline").read_bytes()
                if b"spawn_main" in line or b"MapWorker" in line or b"MapBatches" in line:
                    alive.append(each)
        return alive


@contextmanager
def nodes(wanted: bool) -> Iterator[Nodes | None]:
    """The cluster, if it is wanted."""
    if not wanted:
        yield None
        return
    os.environ |= ENVIRONMENT
    made = Nodes()
    try:
        yield made
    finally:
        made.cluster.shutdown()


def kills(folder: Path, given: dict[str, Any]) -> None:
    """The part of this name."""
    source, draw = folder / "mixed", random.Random(given["seed"])
    if not source.exists():
        make_mixed(source, given["images"], given["huge"])
    rows = []
    for engine in ("local", "ray") if given["ray"] else ("local",):
        counts = dict.fromkeys(("driver", "worker", "node"), 0)
        with nodes(engine == "ray") as cluster:
            runs = 0
            while sum(counts.values()) < given["kills"]:
                command = ("compress", "tokenize")[runs % 2]
                form = FORMATS[runs // 2 % (3 if given["ray"] else 2)]
                runs += 1
                options = ["--format", form, "--model", given["model"], "--effort", 1]
                options += ["--shard-size", given["shard"]]
                whole, target = folder / f"{command}-{form}-whole", folder / "killed"
                if not whole.exists():
                    call(command, source, whole, *options, "--workers", 2)
                own = [command, source, target, *options, "--engine", engine, "--workers", 2]
                until_whole(own, cluster, counts, draw, given["kills"], given["pause"])
                check(target, deep=False)
                if hashed(target) != hashed(whole):
                    raise CodecError(
                        f"run {runs} of {command} has other bytes than one undisturbed"
                    )
                subprocess.run(["rm", "-r", str(target)], check=True)
        rows.append([engine, runs, *counts.values()])
    columns = ["engine", "corpora", "drivers killed", "workers killed", "nodes killed"]
    print_table("Killed at random: every image there once and right", columns, rows)


def until_whole(
    own: Sequence[object],
    cluster: Nodes | None,
    counts: dict[str, int],
    draw: random.Random,
    most: int,
    pause: float,
) -> None:
    """Starts a run again and again, and kills what belongs to it, until it has ended by itself."""
    environment = ENVIRONMENT | ({} if cluster is None else {"RAY_ADDRESS": cluster.address})
    while True:
        run = subprocess.Popen(
            [*PROGRAM, *map(str, own)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        while True:
            try:
                _, errors = run.communicate(timeout=draw.uniform(0, 2 * pause))
            except subprocess.TimeoutExpired:
                if sum(counts.values()) >= most:
                    continue
                if not strike(run, cluster, counts, draw):
                    break
                continue
            if run.returncode not in (0, 1) or b"Traceback" in errors:
                raise CodecError(f"a run ended by itself so: {errors.decode()[-2000:]}")
            if is_finished(Path(str(own[2]))):
                return
            break


def is_finished(folder: Path) -> bool:
    """Whether every shard of a corpus is done, and the failures are listed."""
    plan = plans.read(open_store(str(folder)))
    done = plan is not None and len(plan.finished()) == len(plan.counts)
    return done and (folder / "errors.csv").exists()


def strike(
    run: subprocess.Popen[bytes],
    cluster: Nodes | None,
    counts: dict[str, int],
    draw: random.Random,
) -> bool:
    """Kills something; gives whether the run lives."""
    kind = draw.choice(["worker", "worker", "driver", "node" if cluster else "driver"])
    if kind == "driver":
        run.kill()
        run.communicate()
        counts[kind] += 1
        return False
    if kind == "node":
        assert cluster is not None
        cluster.kill(draw)
        counts[kind] += 1
        return True
    able = workers_of(run.pid) if cluster is None else cluster.workers()
    if able:
        with suppress(ProcessLookupError):
            os.kill(draw.choice(able), signal.SIGKILL)
            counts[kind] += 1
    return True


LOOP = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from vqcodec import codec, compiling, image
from vqcodec.files import write_atomically
compiling.prepare(compiling.WORTH_COMPILING)
source, target, model = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
for path in sorted(source.rglob("*.*")):
    try:
        made = codec.compress(image.load(path.read_bytes()), effort=1, model=model)
    except vqcodec.CodecError:
        continue
    out = target / path.relative_to(source).with_suffix(".vqz")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, made.data, force=True)
"""


def costs(folder: Path, given: dict[str, Any]) -> None:
    """The part of this name."""
    source = folder / "photographs"
    photos, draw = photographs(), random.Random(2)
    source.mkdir()
    side = given["side"]
    for n in range(given["photographs"]):
        (source / f"{n:05}.png").write_bytes(encoded(crop(photos, draw, side, side), "RGB", "PNG"))
    rows = []
    for attempt in range(given["repeats"]):
        start = time.perf_counter()
        program = [sys.executable, "-c", "import vqcodec\n" + LOOP]
        out = folder / f"loop-{attempt}"
        subprocess.run(
            [*program, str(source), str(out), given["model"]], env=ENVIRONMENT, check=True
        )
        seconds = {"loop": time.perf_counter() - start}
        for workers in (1, 2):
            target = folder / f"by-{workers}-{attempt}"
            own = ["compress", source, target, "--model", given["model"], "--effort", 1]
            seconds[f"{workers}"] = call(*own, "--workers", workers, codes=[0])
        rate = {name: given["photographs"] / each for name, each in seconds.items()}
        rows.append(
            [
                *(f"{seconds[name]:.1f}" for name in seconds),
                *(f"{rate[name]:.2f}" for name in rate),
                f"{100 * (seconds['1'] / seconds['loop'] - 1):+.1f}",
                f"{rate['2'] / rate['1'] / 2:.3f}",
            ]
        )
    columns = ["loop, s", "1 worker, s", "2 workers, s", "loop, images/s", "1 worker", "2 workers"]
    columns += ["the engine's cost, %", "2 workers of twice 1"]
    title = f"{given['photographs']} crops of {side} x {side}, start included"
    print_table(title, columns, rows)


def memory(folder: Path, given: dict[str, Any]) -> None:
    """The part of this name."""
    source, target = folder / "small", folder / "small-tokens"
    make_small(source, given["small"], 32)
    own = ["tokenize", source, target, "--format", "webdataset", "--model", given["model"]]
    run = subprocess.Popen(
        [*PROGRAM, *map(str, own), "--workers", "1", "--shard-size", "2000"],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
    )
    seen: list[tuple[float, float, float]] = []
    start = time.perf_counter()
    while run.poll() is None:
        time.sleep(1)
        workers = workers_of(run.pid)
        if workers:
            both = (resident(workers[-1]), resident(run.pid))
            seen.append((time.perf_counter() - start, both[0] / 2**20, both[1] / 2**20))
    check(target, deep=False)
    rows = []
    for share in (0.1, 0.25, 0.5, 0.75, 1.0):
        at = seen[min(len(seen) - 1, int(share * len(seen)))]
        rows.append([f"{100 * share:.0f} %", *(f"{each:.0f}" for each in at)])
    columns = ["of the run", "seconds", "worker, MiB", "driver, MiB"]
    print_table(f"Memory over {given['small']} images of 32 x 32", columns, rows)


def tokens(folder: Path, given: dict[str, Any]) -> None:
    """The part of this name."""
    import pyarrow.parquet

    source = folder / "tokenized"
    count, side = given["tokens"], 64
    png = make_small(source, count, side)
    rows = []
    for options in ([], ["--bits"]):
        for workers in (1, 2):
            target = folder / f"tokens-{len(options)}-{workers}"
            own = ["tokenize", source, target, "--format", "parquet", "--pixels", f"{side}x{side}"]
            own += ["--model", given["model"], "--workers", workers, *options]
            seconds = call(*own, codes=[0])
            tables = [pyarrow.parquet.read_table(each) for each in target.glob("*.parquet")]
            plain = sum(
                len(table.column(name)[0].values) * table.num_rows
                for table in tables
                for name in table.column_names
                if name.startswith("level_") and name[6:].isdecimal()
            )
            of_prior = (
                sum(sum(table.column("bits").to_pylist()) for table in tables) / 8 if options else 0
            )
            size = sum(each.stat().st_size for each in target.glob("*.parquet"))
            rows.append(
                [
                    "yes" if options else "no",
                    workers,
                    f"{count / seconds:.1f}",
                    f"{size / count:.1f}",
                    f"{png / count:.1f}",
                    f"{plain * 7 / 8 / count:.1f}",
                    f"{of_prior / count:.1f}" if options else None,
                ]
            )
    columns = ["bits", "workers", "images/s", "Parquet, bytes an image", "PNG", "log2 K bits (7)"]
    columns += ["under the prior"]
    print_table(f"{count} images of {side} x {side} to tokens", columns, rows)


@click.command(cls=Command)
@click.option("--part", "chosen", type=click.Choice(PARTS), multiple=True, help="All if none.")
@click.option("--images", default=2000, show_default=True, help="Of the mixed corpus.")
@click.option("--huge", default=3000, show_default=True, help="Longer side of the largest.")
@click.option("--shard", default=500, show_default=True, help="Images of a shard.")
@click.option("--kills", default=100, show_default=True, help="Of each engine.")
@click.option("--pause", default=5.0, show_default=True, help="Seconds between kills, about.")
@click.option("--seed", default=0, show_default=True, help="Of the kills.")
@click.option("--photographs", default=200, show_default=True, help="Of `costs`.")
@click.option("--side", default=256, show_default=True, help="Of those, in pixels.")
@click.option("--repeats", default=3, show_default=True, help="Of `costs`.")
@click.option("--small", default=20_000, show_default=True, help="Images of `memory`.")
@click.option("--tokens", default=10_000, show_default=True, help="Images of `tokens`.")
@click.option("--ray/--no-ray", default=True, help="Whether to run on Ray, too.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="For all files; kept.")
def main(chosen: tuple[str, ...], folder: Path | None, **given: Any) -> None:
    """Many images through `vqcodec corpus`."""
    work: dict[str, Callable[[Path, dict[str, Any]], None]] = {
        "formats": formats,
        "kills": kills,
        "costs": costs,
        "memory": memory,
        "tokens": tokens,
    }
    with tempfile.TemporaryDirectory(prefix="vqcodec-corpus-") as temporary:
        for part in chosen or PARTS:
            work[part](folder or Path(temporary), given)
    print_made(given["model"])


if __name__ == "__main__":
    main()
