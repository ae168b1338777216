"""Broken files by the ten thousand: nothing may come of them but a result or an error of ours.

    python benchmarks/fuzz.py reader --cases 100000

A case is a file that was changed (`mutations.py`), and a call. It goes wrong if anything but a
CodecError of one line is raised, if it takes more than 10 s of the processor or 1 GiB, if a library
prints, if what is restored has another size than the file says, or if the process dies. Cases run
in a process of their own, and depend on the target, the seed and their number alone: `--first 123
--cases 1` does one again. Files that went wrong are kept in `--out`, and shown in hex.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import resource
import tempfile
import time
import traceback
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import click
import mutations
import numpy as np
import PIL.Image
from inputs import DISPLAY_P3, exif, pictures, scene, written

from vqcodec import codec, container
from vqcodec.bench.command import Command, print_made, print_table
from vqcodec.errors import ChecksumError, CodecError, ImageError, ModelError
from vqcodec.image import dump, load, size_of
from vqcodec.registry import DEFAULT_MODEL

TESTS = Path(__file__).parents[1] / "tests"
GOLDEN, CORPUS = TESTS / "golden", TESTS / "fuzz" / "corpus"
MOST_SECONDS = 10.0  # of the processor, a case may take
PATIENCE = 120.0  # seconds after which one that computes nothing hangs
START_SECONDS = 3600.0  # a process may take, which compiles
MOST_BYTES = 1 << 30  # a process may map more than it had before the first case
IN_A_ROW = 100  # cases of one file
SHOWN = 400  # bytes of a file in hex


class Seed(NamedTuple):
    """A file that is right."""

    name: str
    data: bytes
    model: Path | None = None


class WrongError(Exception):
    """What is no crash, but must not be."""


Check = Callable[[Seed, bytes, random.Random], str]
"""A seed, a file made of it and random numbers to how far the file got."""


@dataclass(frozen=True)
class Target:
    """What is given broken files.

    Attributes:
        seeds: Gives files that are right.
        mutate: Makes a broken one of it.
        check: Gives it to the code.
    """

    seeds: Callable[[], list[Seed]]
    mutate: mutations.Mutation
    check: Check

    def case(self, seed: int, number: int) -> tuple[Seed, bytes, random.Random]:
        """A case: the seed, the file made of it, and the random numbers for the call."""
        files = _seeds(self.seeds)
        rng = random.Random(f"{seed} {number}")
        own = files[number // IN_A_ROW % len(files)]
        plain = rng.random()
        if plain < 0.2:
            return own, mutations.scrambled(own.data, rng), rng
        if plain < 0.25:
            return own, mutations.spliced(own.data, rng.choice(files).data, rng), rng
        return own, self.mutate(own.data, rng), rng

    def once(self, data: bytes) -> str:
        """Does a file of no case: the call depends on the file alone."""
        return self.check(Seed("", data, model_of(data)), data, random.Random(zlib.crc32(data)))


@functools.cache
def _seeds(files: Callable[[], list[Seed]]) -> list[Seed]:
    return files()


# The reader


def vqz_files() -> list[Seed]:
    """Lossy and lossless files of tiny models and of the packaged ones."""
    files = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.vqz"))}
    found = [Seed(name, data, model_of(data)) for name, data in files.items()]
    packaged = [Seed(path.stem, path.read_bytes()) for path in sorted(_packaged())]
    gradient = np.add.outer(np.arange(70), np.arange(90)).astype(np.uint8)
    plain = [Seed("lossless", bytes(codec.compress(gradient, lossless="always")))]
    # Models are loaded again where another one's files follow: those of one stay together.
    found.sort(key=lambda each: str(each.model))
    lossless = [seed for seed in found if seed.model is None]  # these are soon read
    return [*found, *plain * 4, *lossless * 3, *packaged]


def model_of(data: bytes) -> Path | None:
    """The weights of the tiny model that a file names, if it names one."""
    try:
        model_id = container.peek(data).model_id
    except CodecError:
        return None
    name = model_id.removeprefix("golden-")
    path = GOLDEN / f"{ {'1': 'tiny', '2': 'grouped'}.get(name, name) }.safetensors"
    return path if model_id != name and path.exists() else None


def _packaged() -> list[Path]:
    return [*(GOLDEN / "packaged").glob("*-q1*.vqz"), GOLDEN / "packaged" / "hvq-photo-1.vqz"]


def read_vqz(seed: Seed, data: bytes, rng: random.Random) -> str:
    """A `.vqz` file through everything that reads one."""
    for what in (container.peek, container.beginning, container.salvage, codec.inspect):
        try:
            contents = what(data)
        except CodecError as error:
            one_line(error)
            if what is container.peek:
                return f"header refused ({type(error).__name__})"
            if what is container.beginning:
                return f"extras refused ({type(error).__name__})"
            if what is container.salvage:
                return f"sections refused ({type(error).__name__})"
    try:
        contents = container.unpack(data, partial=(partial := rng.random() < 0.4))
    except CodecError as error:
        one_line(error)
        return "cut short"
    reached: list[str] = []
    try:
        return _decoded(seed, data, contents, partial, reached, rng)
    except ModelError as error:
        one_line(error)
        return "of another model"
    except CodecError as error:
        one_line(error)
        if contents.header.lossless:
            return "lossless: pixels or extras refused"
        at = "before decoding" if not reached else f"in {reached[-1]}"
        if isinstance(error, ChecksumError):
            at = "by the checksum of indices"
        return f"refused {at}"


def _decoded(
    seed: Seed,
    data: bytes,
    contents: container.Container,
    partial: bool,
    reached: list[str],
    rng: random.Random,
) -> str:
    header = contents.header

    def progress(stage: str, done: int, total: int) -> None:
        reached.append(stage)

    kind = "lossless" if header.lossless else "lossy"
    options = {"model": seed.model, "progress": progress}
    way = rng.random()
    if way < 0.08:
        codec.verify(data, **options)
        return f"{kind}: verified"
    wanted = (header.height, header.width)
    if way < 0.2:
        left, top = rng.randrange(header.width), rng.randrange(header.height)
        width, height = rng.randint(1, header.width - left), rng.randint(1, header.height - top)
        options["region"] = (left, top, width, height)
        wanted = (height, width)
    if way < 0.4:
        options["max_side"] = 1 << rng.randrange(10)
    elif way < 0.5:
        options["levels"] = rng.randint(1, header.levels)
    image = codec.decompress(data, partial=partial, **options)
    image.check()
    if "max_side" not in options and image.pixels.shape[:2] != wanted:
        raise WrongError(f"restored {image.pixels.shape}, not {wanted}")
    if rng.random() < 0.05:
        dump(image, rng.choice(("PNG", "JPEG", "WEBP", "TIFF")))
    return f"{kind}: restored"


# Pictures


def picture_files() -> list[Seed]:
    """Pictures of every kind that Pillow writes, with metadata."""
    files = {**pictures(), **_other_pictures()}
    return [Seed(name, data) for name, data in files.items() if "orientation" not in name]


def _other_pictures() -> dict[str, bytes]:
    picture = PIL.Image.fromarray(scene())
    grey = picture.convert("L")
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a tiff:Orientation='6'/></x:xmpmeta>"
    everything = {"exif": exif(6), "icc_profile": DISPLAY_P3, "xmp": xmp}
    found = {
        f"{format}, with metadata": written(picture, format, **everything)
        for format in ("JPEG", "PNG", "WEBP", "AVIF")
    }
    for format in ("PPM", "BMP", "TGA", "PCX", "ICO", "ICNS", "JPEG2000", "DDS", "QOI", "SGI"):
        found[format] = written(picture, format)
    for format in ("GIF", "PPM", "BMP", "TIFF", "SGI", "JPEG2000"):
        found[f"{format}, grey"] = written(grey, format)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        found[f"TIFF, {compression}"] = written(picture, "TIFF", compression=compression)
    pages = {"save_all": True, "append_images": [grey.copy(), grey.copy()]}
    found["TIFF, pages with metadata"] = written(
        picture.copy(), "TIFF", exif=exif(3), icc_profile=DISPLAY_P3, **pages
    )
    found["TIFF, group 4"] = written(picture.convert("1"), "TIFF", compression="group4")
    found["TIFF, floats"] = written(grey.convert("F"), "TIFF")
    found["TIFF, CMYK"] = written(picture.convert("CMYK"), "TIFF")
    found["PPM, bits"] = written(picture.convert("1"), "PPM")
    found["PNG, interlaced grey of 2 bits"] = written(grey.quantize(4), "PNG", bits=2)
    found["WebP, lossless"] = written(picture.convert("RGBA"), "WEBP", lossless=True)
    return found


def read_picture(seed: Seed, data: bytes, rng: random.Random) -> str:
    """A picture through `load`; of some, what was read is written again."""
    try:
        height, width = size_of(data)
    except CodecError as error:
        one_line(error)
    else:
        if height * width > mutations.MANY_PIXELS:
            return "claims more than 4 megapixels, not read"
    try:
        image = load(
            data,
            keep=rng.choice(("common", "all", "none")),
            frame=rng.choice((0, 0, 0, 1, 2)),
            tone_map=rng.random() < 0.5,
            allow_damaged=rng.random() < 0.5,
        )
    except ImageError as error:
        one_line(error)
        return "refused"
    image.check()
    if any("\n" in words for words in image.left_out):
        raise WrongError(f"what is left out is more than a line: {image.left_out}")
    if rng.random() < 0.1:
        format = rng.choice(("PNG", "JPEG", "WEBP", "TIFF", "AVIF"))
        try:
            load(dump(image, format), keep="all")
        except CodecError as error:
            one_line(error)
            return f"read, refused as {format}"
    if rng.random() < 0.05:
        again = codec.decompress(bytes(codec.compress(image, lossless="always")))
        if not np.array_equal(again.channels, image.channels) or again.texts != image.texts:
            raise WrongError("a lossless file gives another image than was read")
    return "read, the pixels those of the original" if _same(seed, image.pixels) else "read"


def _same(seed: Seed, pixels: np.ndarray) -> bool:
    known = _pixels(seed)
    return known is not None and np.array_equal(known, pixels)


@functools.cache
def _pixels(seed: Seed) -> np.ndarray | None:
    try:
        return load(seed.data).pixels
    except CodecError:
        return None


# Weights


def weights_files() -> list[Seed]:
    """Those of tiny models of every family, and of a natural synthesis."""
    from vqcodec import syntheses, weights_file
    from vqcodec.models.natural import Natural, NaturalConfig

    paths = [
        GOLDEN / f"{name}.safetensors"
        for name in ("tiny", "grouped", "hrvqvae", "residual", "vqvae", "vqvae2")
    ]
    model = weights_file.load(paths[1])
    with tempfile.TemporaryDirectory() as folder:
        natural = Path(folder) / "natural.safetensors"
        syntheses.write(natural, model, Natural(model.autoencoder, NaturalConfig(1, 1, 8)))
        found = Seed("natural", natural.read_bytes(), paths[1])
    return [*(Seed(path.stem, path.read_bytes()) for path in paths), found]


def read_weights(seed: Seed, data: bytes, rng: random.Random) -> str:
    """A weights file through `load`; what is loaded compresses an image and restores it."""
    from vqcodec import weights_file

    pixels = scene()[:20, :30]
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(data)
        file.flush()
        if seed.model is not None:
            made = GOLDEN / "grouped-rgb-61x50-tile32-q1.vqz"
            try:
                codec.decompress(made.read_bytes(), model=seed.model, synthesis=file.name)
            except CodecError as error:
                one_line(error)
                return "synthesis refused"
            return "synthesis used"
        weights_file._loaded.cache_clear()
        try:
            weights_file.load(file.name)
        except CodecError as error:
            one_line(error)
            return "refused"
        try:
            made = codec.compress(pixels, model=file.name, lossless="never", effort=1)
            image = codec.decompress(bytes(made), model=file.name)
        except CodecError as error:
            one_line(error)
            return f"loaded, and refused when used ({type(error).__name__})"
    if image.pixels.shape != pixels.shape:
        raise WrongError(f"restored {image.pixels.shape}")
    return "loaded and used"


# Coders


def words_of_coders() -> list[Seed]:
    """Payloads."""
    return [Seed(str(n), random.Random(n).randbytes(4 * n)) for n in (0, 1, 2, 3, 8, 40)]


def read_words(seed: Seed, data: bytes, rng: random.Random) -> str:
    """Words through all coders: the same symbols, or all see that none fit."""
    from vqcodec.entropy import coder, range_coder
    from vqcodec.spec.prior import TOTAL

    size, count = rng.choice((2, 3, 8, 64, 512)), rng.choice((1, 2, 7, 60))
    numbers = np.random.default_rng(rng.randrange(1 << 32))
    shares = numbers.random((count, size)) ** rng.choice((1, 8, 60)) + 1e-9
    above = np.floor(shares / shares.sum(1, keepdims=True) * (TOTAL - 2 * size)).astype(np.int64)
    above[np.arange(count), numbers.integers(size, size=count)] += TOTAL - size - above.sum(1)
    rows = above.astype(np.float32)
    data = data[: len(data) // 4 * 4]
    words = np.frombuffer(data, "<u4").astype(np.uint32)
    if rng.random() < 0.5:  # words that fit, up to where they are changed
        encoder = range_coder.RangeEncoder(compiled=False)
        encoder.encode(numbers.integers(size, size=count).astype(np.int32), rows)
        fitting = encoder.words()
        kept = rng.randrange(len(fitting) + 1)
        words = np.concatenate([fitting[:kept], words[kept:]])
    decoders = [range_coder.RangeDecoder(words, compiled) for compiled in (False, True)]
    decoders.append(coder.chosen("constriction").RangeDecoder(words))
    cut = rng.randrange(count + 1)
    outcomes = []
    for decoder in decoders:
        first = decoder.decode(rows[:cut])
        second = None if first is None else decoder.decode(rows[cut:])
        if first is None or second is None:
            outcomes.append(None)
        else:
            outcomes.append(([*first.tolist(), *second.tolist()], decoder.exhausted()))
    if any(outcome != outcomes[0] for outcome in outcomes):
        raise WrongError(f"coders differ: {outcomes}")
    if outcomes[0] is None:
        return "no symbols fit"
    return "symbols" if outcomes[0][1] else "symbols, and words are left"


TARGETS = {
    "reader": Target(vqz_files, mutations.vqz, read_vqz),
    "images": Target(picture_files, mutations.picture, read_picture),
    "weights": Target(weights_files, mutations.weights, read_weights),
    "decoder": Target(words_of_coders, mutations.scrambled, read_words),
}


def one_line(error: CodecError) -> None:
    """Checks what an error says.

    Raises:
        WrongError: it is nothing, or more than a line.
    """
    if len(str(error).splitlines()) != 1:
        raise WrongError(f"the message of {type(error).__name__} is not one line: {error!r}")


# Processes


class Done(NamedTuple):
    """What became of a case.

    Attributes:
        outcome: How far it got.
        fault: What went wrong, or None: its kind and place, and details.
        seconds: It took.
        peak: Of the resident memory of the process so far, in bytes.
    """

    outcome: str
    fault: tuple[str, str] | None
    seconds: float
    peak: int


def work(target: Target, seed: int, numbers: range, results: Connection) -> None:
    """Does cases; sends "" when it is ready, or what keeps it, and then what became of each."""
    printed = _printed()
    try:
        _warm(target)
    except Exception:
        results.send(traceback.format_exc())
        raise
    results.send("")
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MOST_BYTES, resource.RLIM_INFINITY))
    before = printed()
    for number in numbers:
        own, data, rng = target.case(seed, number)
        fault, outcome = None, "went wrong"
        start = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                outcome = target.check(own, data, rng)
        except Exception as error:
            fault = _place(error), traceback.format_exc()
        seconds = time.process_time() - start
        if fault is None and (after := printed()) != before:
            before, fault = after, ("something was printed", own.name)
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        results.send(Done(outcome, fault, seconds, peak))


def _warm(target: Target) -> None:
    """Loads and compiles what is needed, outside of the limits."""
    for number in range(0, IN_A_ROW * len(_seeds(target.seeds)), IN_A_ROW):
        own = _seeds(target.seeds)[number // IN_A_ROW]
        target.check(own, own.data, random.Random(0))


def _printed() -> Callable[[], int]:
    """Sends standard output and error to a file; gives how much has been written to it."""
    sink = tempfile.TemporaryFile()  # noqa: SIM115 - it stays open
    for stream in (1, 2):
        os.dup2(sink.fileno(), stream)
    return lambda: os.fstat(sink.fileno()).st_size


def _place(error: Exception) -> str:
    """The kind of an error, and where in this package it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if "/vqcodec/" in each.filename] or list(frames)
    path = Path(own[-1].filename)
    return f"{type(error).__name__} in {path.parent.name}/{path.name}, {own[-1].name}"


def outcomes(target: Target, seed: int, numbers: range) -> Iterator[tuple[int, Done]]:
    """Number and outcome of each case, in order; processes that die or hang are replaced."""
    processes = multiprocessing.get_context("spawn")
    while numbers:
        results, sender = processes.Pipe(duplex=False)
        process = processes.Process(target=work, args=(target, seed, numbers, sender), daemon=True)
        process.start()
        sender.close()
        ready, fault = False, ""
        try:
            while numbers:
                fault = _waited(process, results, PATIENCE if ready else START_SECONDS)
                if fault:
                    break
                done = results.recv()
                if isinstance(done, str):
                    if done:
                        raise CodecError(f"undamaged files go wrong: {done}")
                    ready = True
                    continue
                yield numbers[0], done
                numbers = numbers[1:]
        except EOFError:
            process.join()
            fault = f"the process ended with {process.exitcode}"
        process.kill()
        process.join()
        if not fault:
            continue
        if not ready:
            raise CodecError(f"{fault} before the first case")
        yield numbers[0], Done("went wrong", (fault, ""), 0.0, 0)
        numbers = numbers[1:]


def _waited(process: BaseProcess, results: Connection, patience: float) -> str:
    """Waits for a result; says what is wrong if none comes."""
    started, before = time.monotonic(), _busy(process)
    while not results.poll(1.0):
        if patience == PATIENCE and _busy(process) - before > MOST_SECONDS:
            return f"took more than {MOST_SECONDS:.0f} s of the processor"
        if time.monotonic() - started > patience:
            return f"took more than {patience:.0f} s"
    return ""


def _busy(process: BaseProcess) -> float:
    """Seconds of the processor that a process has used; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Report:
    """What came of a target's cases.

    Attributes:
        counts: By outcome.
        seconds: By outcome.
        slowest: Seconds, and the number of the case.
        peak: Resident memory in bytes.
        faults: Numbers of cases, by what went wrong.
    """

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    slowest: tuple[float, int] = (0.0, 0)
    peak: int = 0
    faults: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, number: int, done: Done) -> None:
        """Takes note of a case."""
        self.counts[done.outcome] += 1
        self.seconds[done.outcome] += done.seconds
        self.slowest = max(self.slowest, (done.seconds, number))
        self.peak = max(self.peak, done.peak)
        if done.fault is not None:
            self.faults[done.fault[0]].append(number)

    def rows(self) -> list[list[object]]:
        """Of a table."""
        names = sorted(self.counts, key=lambda name: -self.counts[name])
        rows: list[list[object]] = [
            [name, self.counts[name], f"{self.seconds[name]:.1f}"] for name in names
        ]
        all_seconds = sum(self.seconds.values())
        return [*rows, ["all", sum(self.counts.values()), f"{all_seconds:.1f}"]]


@click.command(cls=Command)
@click.argument("names", metavar="[TARGET]...", nargs=-1, type=click.Choice(list(TARGETS)))
@click.option("--cases", default=1000, show_default=True, help="Of each target.")
@click.option("--first", default=0, show_default=True, help="Number of the first case.")
@click.option("--seed", default=0, show_default=True, help="Of the random numbers.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="faults",
    show_default=True,
    help="Folder for files that went wrong, made when it is needed.",
)
def main(names: tuple[str, ...], cases: int, first: int, seed: int, out: Path) -> None:
    """Give broken files to TARGETs, all of them if none is named."""
    wrong = 0
    for name in names or TARGETS:
        report = Report()
        start = time.perf_counter()
        for number, done in outcomes(TARGETS[name], seed, range(first, first + cases)):
            report.add(number, done)
            if done.fault is not None:
                _keep(name, seed, number, done.fault, report, out)
            if sum(report.counts.values()) % 1000 == 0:
                _tell(name, report, time.perf_counter() - start)
        slowest, case = report.slowest
        print_table(
            f"{name}: {cases} cases from {first}, {len(report.faults)} kinds of faults; "
            f"{time.perf_counter() - start:.0f} s, the slowest {slowest:.2f} s (case {case}), "
            f"at most {report.peak >> 20} MiB",
            ["what became of it", "cases", "seconds of the processor"],
            report.rows(),
        )
        for fault, numbers in report.faults.items():
            print(f"{len(numbers)} x {fault}: cases {' '.join(map(str, numbers[:8]))}")
        wrong += len(report.faults)
    print_made(DEFAULT_MODEL)
    if wrong:
        raise CodecError(f"{wrong} kinds of faults; the files are in {out}")


def _tell(name: str, report: Report, seconds: float) -> None:
    done = sum(report.counts.values())
    click.echo(
        f"{name}: {done} cases, {len(report.faults)} kinds of faults, {seconds:.0f} s", err=True
    )


def _keep(
    name: str, seed: int, number: int, fault: tuple[str, str], report: Report, out: Path
) -> None:
    """Stores the file of a case that went wrong, and shows the first ones of each kind."""
    own, data, _ = TARGETS[name].case(seed, number)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}-{seed}-{number}.bin").write_bytes(data)
    if len(report.faults[fault[0]]) > 3:
        return
    click.echo(f"{name}, case {number}, of {own.name}: {fault[0]}\n{fault[1]}", err=True)
    click.echo(f"{len(data)} bytes: {data[:SHOWN].hex()}", err=True)


if __name__ == "__main__":
    main()
