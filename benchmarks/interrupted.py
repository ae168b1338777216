"""Commands that are killed at random and at every step of their writing, and disks that are full.

    OMP_NUM_THREADS=1 python benchmarks/interrupted.py

A tiny model is trained first. Then compress, decompress, folders of both and trainings run again
and again in forked processes, and are stopped by SIGKILL, SIGTERM or SIGINT: at a random time, or
before or after one of the system calls by which an output is written. Folders with `--jobs 2` are
processes of their own. It fails unless every output is whole or is what was there before, the next
run ends with what an undisturbed one gives, byte for byte, and no temporary file is left then.
Checkpoints have to go on to the same weights. Then two processes write one output, the second one
at every system call of the first one; and disks are full, after more and more pages (a tmpfs in a
namespace of its own, for which one has to be root on Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NamedTuple

import click
import PIL.Image
import torch
from skimage import data

from vqcodec import files
from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.cli import main as vqcodec
from vqcodec.errors import CodecError
from vqcodec.training import checkpoint

SIGNALS = (*(signal.SIGKILL,) * 4, signal.SIGTERM, signal.SIGINT)
ENDED = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
WRITING = {files.write_atomically.__code__}
SYSTEM = ("posix", "fcntl", "_io")  # modules whose functions are system calls
MODEL_ID = "interrupted-1"
PICTURES = 6
BEFORE, STEPS = 24, 28  # of a training, whose log has a row every 25
EXACT = 0.6  # of all kills are at a system call
SOON = 200.0  # seconds: what takes longer hangs
PAGE = 4096
NEW_NAMESPACE = 0x20000  # CLONE_NEWNS

Content = dict[str, bytes]  # by name in a folder
AtCall = Callable[[int], None]


# Processes


def start(arguments: Sequence[str | Path], log: Path, at_call: AtCall | None = None) -> int:
    """Runs a command in a forked process, whose number it gives.

    Args:
        arguments: Of `vqcodec`.
        log: Takes what it prints.
        at_call: Called with numbers from 0 before and after every system call of the writing.
    """
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if at_call is not None:
            watch_writing(at_call)
        vqcodec(list(map(str, arguments)), prog_name="vqcodec")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def watch_writing(at_call: AtCall) -> None:
    """Has Python call `at_call` before and after every system call of the writing."""
    number = 0

    def look(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal number
        if event == "return" and frame.f_code in WRITING:
            sys.setprofile(None)
        elif event in ("c_call", "c_return"):
            module = argument.__module__ or type(argument.__self__).__module__
            if module in SYSTEM:
                number += 1
                at_call(number - 1)

    check_writable = files.check_writable

    def begin(path: str | Path, force: bool) -> None:
        if sys._getframe(1).f_code in WRITING:
            sys.setprofile(look)  # not before: it is slow
        check_writable(path, force)

    files.check_writable = begin


def ended(process: int) -> int:
    """The exit code of a process; the negative number of a signal that killed it."""
    deadline = time.monotonic() + SOON
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise CodecError("a command hangs")
        time.sleep(0.002)


def calls_of(arguments: Sequence[str | Path], log: Path) -> int:
    """How often `at_call` is called."""
    reading, writing = os.pipe()
    process = start(arguments, log, lambda _: os.write(writing, b".") and None)
    os.close(writing)
    with open(reading, "rb") as stream:
        number = len(stream.read())
    if code := ended(process):
        raise CodecError(f"ended with {code}: {log.read_text()}").in_file(log)
    return number


# What is there


def contents(folder: Path) -> Content:
    """All files of a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def leftovers(folder: Path) -> list[Path]:
    """Its temporary files."""
    return list(folder.rglob(".*-part"))


@dataclass(frozen=True)
class Case:
    """A command that is to be interrupted.

    Attributes:
        name: Of it.
        arguments: Of `vqcodec`, for a folder of outputs.
        before: What is in the folder before.
        after: What an undisturbed run leaves there.
        again: The arguments with which it goes on.
    """

    name: str
    arguments: Callable[[Path], list[str | Path]]
    before: Content
    after: Content
    again: Callable[[Path], list[str | Path]]

    def prepare(self, folder: Path) -> None:
        """Makes the folder as it is before."""
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in self.before.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        folder.mkdir(exist_ok=True)

    def check(self, folder: Path, *, finished: bool) -> None:
        """Checks that every output is as before or as after; as after, if it is finished.

        Raises:
            CodecError: it is not.
        """
        found = contents(folder)
        for path in leftovers(folder):
            if finished:
                raise CodecError("is left over").in_file(path)
            del found[str(path.relative_to(folder))]
        for name in {*found, *self.before, *self.after}:
            good = [self.after.get(name)] if finished else [self.before.get(name)]
            if found.get(name) not in (*good, self.after.get(name)):
                raise CodecError("is neither what it was nor what it is to be").in_file(name)


class TrainingCase(Case):
    """A training, whose folder holds what no two runs have alike: seconds."""

    def check(self, folder: Path, *, finished: bool) -> None:
        """Checks that the checkpoint loads, and that its weights are those if it is finished."""
        if finished and (found := leftovers(folder)):
            raise CodecError("is left over").in_file(found[0])
        path = folder / "checkpoint.safetensors"
        tensors, state = checkpoint.load(path)
        if not BEFORE <= state["step"] <= STEPS or (finished and state["step"] != STEPS):
            raise CodecError(f"is of step {state['step']}").in_file(path)
        json.loads((folder / "config.json").read_bytes())
        if not finished:
            return
        expected = folder.with_suffix(".expected")
        expected.write_bytes(self.after[path.name])
        for name, tensor in checkpoint.load(expected)[0].items():
            if not torch.equal(tensors[name], tensor):
                raise CodecError(f"has another {name} than an undisturbed run").in_file(path)
        steps = [line.split(",")[0] for line in (folder / "log.csv").read_text().splitlines()]
        if steps != ["step", "25"]:
            raise CodecError(f"has the rows {steps}").in_file(folder / "log.csv")


def undisturbed(name: str, arguments: Sequence[str | Path], folder: Path) -> Content:
    """What a command leaves in a folder, and how."""
    log = folder.with_suffix(".log")
    if code := ended(start(arguments, log)):
        raise CodecError(f"{name} ends with {code}: {log.read_text()}")
    return contents(folder)


class Setting:
    """A model, pictures and .vqz files, and the cases made of them.

    Args:
        root: A folder for all of it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.work = root, root / "work"
        self.pictures, self.coded = root / "pictures", root / "coded"
        self.model = root / "system" / f"{MODEL_ID}.safetensors"
        self.images = root / "images"
        self.images.mkdir()
        photo = data.astronaut()
        PIL.Image.fromarray(photo[:128, 160:288]).save(self.images / "a.png")
        for number in range(PICTURES):
            path = self.pictures / f"{number % 2}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            top = 24 * number
            PIL.Image.fromarray(photo[top : top + 40, 200:248]).save(path)
        # In this process, so that forked ones need not load it all anew.
        self.call("train", "system", self.model.parent, *self.training(), "--model-id", MODEL_ID,
                  "--minutes", "0.05", "--count", "8", "--channels", "16")  # fmt: skip
        self.call(*self.compress_all(self.coded, jobs=1))
        self.call(*self.decompress_all(root / "back", jobs=1))
        self.call(
            "compress", self.pictures / "0/0.png", root / "lossless.vqz", "--lossless", "always"
        )
        self.call("decompress", root / "lossless.vqz", root / "lossless.png")
        self.call("train", "autoencoder", root / "begun", *self.training(), "--steps", str(BEFORE))

    def call(self, *arguments: str | Path) -> None:
        """Runs a command in this process."""
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
            vqcodec(list(map(str, arguments)), standalone_mode=False)

    def training(self) -> list[str | Path]:
        """Options of every training."""
        return [
            *("--images", self.images, "--preset", "tiny", "--batch", "1", "--crop", "32"),
            *("--workers", "0", "--device", "cpu"),
        ]

    def train(self, folder: Path, steps: int = STEPS) -> list[str | Path]:
        """A training that goes on in a folder, with a checkpoint after every step."""
        often = ("--checkpoint-minutes", "0.000001", "--steps", str(steps))
        return ["train", "autoencoder", folder, *self.training(), *often]

    def compress(self, folder: Path, *options: str) -> list[str | Path]:
        """One picture to a file of a folder."""
        lossy = () if "--lossless" in options else self.lossy()
        return ["compress", self.pictures / "0/0.png", folder / "a.vqz", *options, *lossy]

    def decompress(self, folder: Path, *options: str) -> list[str | Path]:
        """One file to a picture of a folder."""
        return ["decompress", self.coded / "0/0.vqz", folder / "a.png", *options, *self.lossy()[:2]]

    def compress_all(self, folder: Path, jobs: int) -> list[str | Path]:
        """All pictures, but those that are there."""
        several = ("--recursive", "--skip-existing", "--jobs", str(jobs))
        return ["compress", self.pictures, "--out", folder, *several, *self.lossy()]

    def decompress_all(self, folder: Path, jobs: int) -> list[str | Path]:
        """All files, but those that are there."""
        several = ("--recursive", "--skip-existing", "--jobs", str(jobs))
        return ["decompress", self.coded, "--out", folder, *several, *self.lossy()[:2]]

    def lossy(self) -> tuple[str, ...]:
        """The model, and how to compress with it."""
        return ("--model", str(self.model), "--effort", "1", "--lossless", "never")

    def cases(self) -> list[Case]:
        """What is killed."""
        skip, force = "--skip-existing", "--force"
        lossless = ("--lossless", "always")
        one, back = self.compress, self.decompress
        old_vqz, old_png = {"a.vqz": b"old" * 5000}, {"a.png": b"old" * 5000}
        begun = contents(self.root / "begun")
        found = [
            self._case("compress", partial(self._with, one, skip)),
            self._case("compress --force", partial(self._with, one, force), old_vqz),
            self._case("compress --lossless", partial(self._with, one, *lossless, skip)),
            self._case("decompress", partial(self._with, back, skip)),
            self._case("decompress --force", partial(self._with, back, force), old_png),
            self._case("train autoencoder", self.train, begun, kind=TrainingCase),
        ]
        for name, several in (("compress", self.compress_all), ("decompress", self.decompress_all)):
            alone = partial(several, jobs=1)
            found.append(self._case(f"{name} folder", alone))
            both = partial(several, jobs=2)
            found.append(self._case(f"{name} folder --jobs 2", both, again=alone))
        return found

    def more_cases(self) -> list[Case]:
        """What else fills disks."""
        of = self.model.parent
        levels = len(list(of.glob("prior-*")))
        priors = [f"--prior={of}/prior-{level}/checkpoint.safetensors" for level in range(levels)]
        checkpoints = ["--autoencoder", of / "autoencoder/checkpoint.safetensors", *priors]
        drawn = ["--model", self.model, "--size", "32x32", "--seed", "1"]
        shown = ["gallery", self.pictures / "0/0.png", "--quality", "1", "--model", self.model]
        return [
            self._case(
                "export",
                lambda folder: ["export", folder / "m", "--model-id", "m", *checkpoints],
            ),
            self._case("sample", lambda folder: ["sample", folder / "a.png", *drawn]),
            self._case("gallery", lambda folder: [*shown, "--out", folder / "a.html"]),
            self._case(
                "bench's table",
                lambda folder: ["evaluate", "likelihood", "--images", self.images, "--crop", "32",
                                "--model", self.model, "--json", folder / "a.json"],
            ),
        ]  # fmt: skip

    def _case(
        self,
        name: str,
        arguments: Callable[[Path], list[str | Path]],
        before: Content | None = None,
        again: Callable[[Path], list[str | Path]] | None = None,
        kind: type[Case] = Case,
    ) -> Case:
        folder = self.root / "work"
        case = kind(name, arguments, before or {}, {}, again or arguments)
        case.prepare(folder)
        after = undisturbed(name, case.again(folder), folder)
        return replace(case, after=after)

    @staticmethod
    def _with(arguments: Callable[..., list[str | Path]], *rest: Any) -> list[str | Path]:
        *options, folder = rest
        return arguments(folder, *options)


# Kills


@dataclass
class Tally:
    """What became of a case's kills.

    Attributes:
        signals: How often each was sent.
        exact: How often before or after a system call of the writing.
        whole: Outputs that were there afterwards.
        left: Temporary files that were.
        wrong: What was not as it should be.
    """

    signals: Counter[signal.Signals] = field(default_factory=Counter)
    exact: int = 0
    whole: int = 0
    left: int = 0
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        """Of both."""
        return Tally(
            self.signals + other.signals,
            self.exact + other.exact,
            self.whole + other.whole,
            self.left + other.left,
            self.wrong + other.wrong,
        )


class Killing:
    """Kills cases, and looks at what is left.

    Args:
        setting: Of the cases.
        times: Of the kills.
        number: Of those that kill at the same time, for folders of its own.
    """

    def __init__(self, setting: Setting, times: random.Random, number: int) -> None:
        self.setting, self.times = setting, times
        self.folder = setting.root / str(number)
        self.log = self.folder.with_suffix(".log")
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def kill(self, case: Case, tally: Tally) -> None:
        """Kills once, and goes on.

        Raises:
            CodecError: an output is neither whole nor absent, or more is wrong.
        """
        sent = self.times.choice(SIGNALS)
        while True:
            case.prepare(self.folder)
            exactly = self.times.random() < EXACT
            if "--jobs 2" in case.name:
                exactly, code = False, self._in_processes(case, sent)
            elif exactly:
                code = self._exactly(case, sent)
            else:
                code = self._at_random(case, sent)
            if code is not None:  # and not too late
                break
        text = self.log.read_text()
        good = {ENDED[sent], -sent}
        if sent == signal.SIGINT and not text:
            good.add(1)  # the command had not begun
        if code not in good or "Traceback" in text:
            raise CodecError(f"{case.name}: ended with {code} of {sent.name}: {text}")
        case.check(self.folder, finished=False)
        left = len(leftovers(self.folder))
        if left and code != -9:
            raise CodecError(f"{case.name}: a temporary file is left by {sent.name}")
        tally.signals[sent] += 1
        tally.exact += exactly
        tally.left += left
        found = contents(self.folder)
        tally.whole += sum(found.get(name) == content for name, content in case.after.items())
        if code := ended(start(case.again(self.folder), self.log)):
            raise CodecError(f"{case.name}: goes on and ends with {code}: {self.log.read_text()}")
        case.check(self.folder, finished=True)

    def _exactly(self, case: Case, sent: signal.Signals) -> int | None:
        """Within a system call of the writing, or just before or after it."""
        arguments = case.arguments(self.folder)
        if case.name not in self.calls:
            self.calls[case.name] = calls_of(arguments, self.log)
            case.prepare(self.folder)
        at = self.times.randrange(self.calls[case.name])

        def stop(number: int) -> None:
            if number == at:
                os.kill(os.getpid(), sent)

        code = ended(start(arguments, self.log, stop))
        return code if code else None

    def _at_random(self, case: Case, sent: signal.Signals) -> int | None:
        arguments = case.arguments(self.folder)
        if case.name not in self.seconds:
            begin = time.monotonic()
            ended(start(arguments, self.log))
            self.seconds[case.name] = time.monotonic() - begin
            case.prepare(self.folder)
        process = start(arguments, self.log)
        time.sleep(self.times.uniform(0, self.seconds[case.name]))
        os.kill(process, sent)
        code = ended(process)
        return code if code else None

    def _in_processes(self, case: Case, sent: signal.Signals) -> int | None:
        """Once the first output is there: the time before is that of loading torch."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "vqcodec", *map(str, case.arguments(self.folder))],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while process.poll() is None and not contents(self.folder):
            time.sleep(0.01)
        time.sleep(self.times.uniform(0, 0.6))
        if process.poll() is not None:
            return None
        process.send_signal(sent)
        try:
            code = process.wait(SOON)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise CodecError(f"goes on for {SOON:.0f} seconds after {sent.name}") from error
        deadline = time.monotonic() + SOON
        while _alive(process.pid):  # its processes end with it
            if time.monotonic() > deadline:
                raise CodecError("processes go on without that which started them")
            time.sleep(0.01)
        return code if code else None


def _alive(session: int) -> bool:
    """Whether a process of a session is there that has not ended."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, found = path.read_text().rpartition(")")[2].split()[:4]
            if int(found) == session and state != "Z":
                return True
    return False


# Two at once


def two_at_once(setting: Setting, force: bool) -> Counter[str]:
    """Two processes write one output: the second one within every system call of the first one.

    Returns:
        How often which of them has written.

    Raises:
        CodecError: not the last one with force, or not one alone without.
    """
    folder, log, other = setting.work, setting.root / "log", setting.root / "other"
    options = ["--lossless", "always", *(["--force"] if force else [])]
    arguments = [
        ["compress", setting.pictures / name, folder / "a.vqz", *options]
        for name in ("0/0.png", "1/1.png")
    ]
    whole = []
    for each in arguments:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        whole.append(undisturbed("compress", each, folder)["a.vqz"])
    before = {"a.vqz": b"old"} if force else {}
    case = Case("", lambda _: arguments[0], before, {}, lambda _: arguments[0])
    case.prepare(folder)
    found: Counter[str] = Counter()
    for at in tracked(range(calls_of(arguments[0], log)), "two at once"):
        case.prepare(folder)
        reached, reach = os.pipe()
        leave, left = os.pipe()

        def wait(number: int, at: int = at, reach: int = reach, leave: int = leave) -> None:
            if number == at:
                os.write(reach, b".")
                os.read(leave, 1)

        first = start(arguments[0], log, wait)
        os.read(reached, 1)
        second = ended(start(arguments[1], other))
        os.write(left, b".")
        codes = ended(first), second
        for each in (reached, reach, leave, left):
            os.close(each)
        content = contents(folder)
        good = codes == (0, 0) if force else sorted(codes) == [0, 1]
        if content not in ({"a.vqz": each} for each in whole) or not good:
            raise CodecError(f"two at once, at {at}: ended with {codes}, left {list(content)}")
        if not force:
            told = (log if codes[0] else other).read_text()
            if "exists already; use --force" not in told:
                raise CodecError(f"two at once, at {at}: {told}")
            if content["a.vqz"] != whole[codes.index(0)]:
                raise CodecError(f"two at once, at {at}: the file is not of who says so")
        found["first" if content["a.vqz"] == whole[0] else "second"] += 1
    return found


# Full disks


def mount(folder: Path, *options: str) -> None:
    """An empty tmpfs at a folder, in place of the one before."""
    subprocess.run(["umount", folder], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    wanted = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder]
    subprocess.run(wanted, check=True)


def own_namespace() -> None:
    """Has mounts from here on be those of this process and its own.

    Raises:
        CodecError: the system does not allow it.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NAMESPACE):
        reason = os.strerror(ctypes.get_errno())
        raise CodecError(f"no namespace of its own ({reason}); be root, or leave disks out")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def pages(content: Content) -> int:
    """How many pages a tmpfs takes for files."""
    return sum(-(-len(each) // PAGE) for each in content.values())


def full_disks(setting: Setting, case: Case, steps: int) -> Counter[str]:
    """A case on disks with ever more room, until it fits.

    Args:
        setting: Of the case.
        case: What is to be done.
        steps: On about so many.

    Returns:
        How often it failed and succeeded.

    Raises:
        CodecError: it did neither as it should.
    """
    found: Counter[str] = Counter()
    most = pages(case.after) + pages(case.before) + 2
    rooms = [f"size={PAGE * (pages(case.before) + 1 + free)}" for free in
             range(0, most + 1, max(1, most // steps))]  # fmt: skip
    inodes = [f"size=64m,nr_inodes={len(case.before) + 2 + free}" for free in range(4)]
    for room in tracked([*rooms, *inodes], case.name):
        mount(setting.work, room)
        (setting.work / "full").write_bytes(b"." * PAGE)
        for name, content in case.before.items():
            (setting.work / name).write_bytes(content)
        log = setting.root / "log"
        code = ended(start(case.arguments(setting.work), log))
        (setting.work / "full").unlink()
        told = log.read_text()
        if code not in (0, 1) or "Traceback" in told or leftovers(setting.work):
            raise CodecError(f"{case.name}, {room}: ends with {code}: {told}")
        if code and ("no space left on the device" not in told or str(setting.work) not in told):
            raise CodecError(f"{case.name}, {room}: says {told}")
        case.check(setting.work, finished=code == 0)
        found["succeeded" if code == 0 else "failed"] += 1
    subprocess.run(["umount", setting.work], check=True)
    return found


def killed(number: int) -> dict[str, Tally]:
    """What a process of several kills, by case."""
    given = GIVEN[0]
    times = random.Random(f"{given.seed} {number}")
    order = [
        each for each, share in SHARES.items() for _ in range(round(given.kills * share / 100))
    ]
    times.shuffle(order)
    killing = Killing(given.setting, times, number)
    tallies = {each: Tally() for each in given.cases}
    end = time.monotonic() + 60 * given.minutes
    for each in order[number :: given.jobs]:
        if time.monotonic() < end:
            try:
                killing.kill(given.cases[each], tallies[each])
            except CodecError as error:
                tallies[each].wrong.append(f"{each}: {error}")
    return tallies


class Given(NamedTuple):
    """What processes that kill have from the one that forks them."""

    setting: Setting
    cases: dict[str, Case]
    kills: int
    minutes: float
    jobs: int
    seed: int


GIVEN: list[Given] = []

SHARES = {
    "compress": 18,
    "compress --force": 19,
    "compress --lossless": 15,
    "decompress": 13,
    "decompress --force": 13,
    "compress folder": 6,
    "decompress folder": 6,
    "compress folder --jobs 2": 0.8,
    "decompress folder --jobs 2": 0.4,
    "train autoencoder": 9,
}
"""Of a hundred kills."""


@click.command(cls=Command)
@click.option("--kills", default=1000, show_default=True, help="How many.")
@click.option("--jobs", default=2, show_default=True, help="Processes that kill.")
@click.option("--seed", default=0, show_default=True, help="Of cases, signals and times.")
@click.option("--minutes", type=float, help="Kill so long at most.")
@click.option("--pairs/--no-pairs", default=True, help="Have two write one file, too.")
@click.option("--disks/--no-disks", default=True, help="Fill disks, too; needs root.")
@click.option("--steps", default=12, show_default=True, help="Disks of a command, about.")
def main(
    kills: int,
    jobs: int,
    seed: int,
    minutes: float | None,
    pairs: bool,
    disks: bool,
    steps: int,
) -> None:
    """Kill commands, have two write one file, and fill disks."""
    torch.set_num_threads(1)
    # A shell may start its background jobs with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with TemporaryDirectory() as name:
        setting = Setting(Path(name))
        cases = {case.name: case for case in setting.cases()}
        most = math.inf if minutes is None else minutes
        GIVEN.append(Given(setting, cases, kills, most, jobs, seed))
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
            found = list(tracked(pool.map(killed, range(jobs)), "killing", jobs))
        tallies = {each: sum((one[each] for one in found), Tally()) for each in cases}
        done = sum(tally.signals.total() for tally in tallies.values())
        wrong = [each for tally in tallies.values() for each in tally.wrong]
        print_table(
            f"{done} kills, {len(wrong)} of them with faults",
            ["what", "SIGKILL", "SIGTERM", "SIGINT", "within the writing", "outputs whole",
             "temporary files left, then removed"],
            [
                [each, *(tally.signals[one] for one in ENDED), tally.exact, tally.whole, tally.left]
                for each, tally in tallies.items()
            ],
        )  # fmt: skip
        if wrong:
            raise CodecError("; ".join(wrong))
        rows = []
        for force in (False, True) if pairs else ():
            writers = two_at_once(setting, force)
            rows.append(["--force" if force else "without", writers["first"], writers["second"]])
        print_table("two processes, one output", ["how", "first's", "second's"], rows)
        if disks:
            own_namespace()
            rows = []
            for case in (*cases.values(), *setting.more_cases()):
                if "--jobs" not in case.name:
                    ends = full_disks(setting, case, steps)
                    rows.append([case.name, ends["failed"], ends["succeeded"]])
            print_table("full disks", ["what", "refused", "done"], rows)
    print_made(None)


if __name__ == "__main__":
    main()
