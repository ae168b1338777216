"""Commands that are killed at random and at every step of their writing, and disks that are full.

    OMP_NUM_THREADS=1 python benchmarks/interrupted.py

A tiny model is trained first. Then compress, decompress, folders of both and trainings run again
and again in forked processes, and are stopped by SIGKILL, SIGTERM or SIGINT: at a random time, or
before or after one of the system calls by which an output is written. It fails unless every output
is whole or is what was there before, the next run ends with what an undisturbed one gives, byte for
byte, and no temporary file is left then. Then two processes write one output, the second one at
every system call of the first one; and disks are full, after more and more pages and inodes (a
tmpfs in a namespace of its own, for which one has to be root on Linux). SIGINT and SIGTERM end it
with what was counted until then.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from vqcodec.kernels import CHOICE

SIGNALS = (*(signal.SIGKILL,) * 4, signal.SIGTERM, signal.SIGINT)
STOPS = {signal.SIGTERM, signal.SIGINT}
ENDED = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
WRITING = files.write_atomically.__code__
SYSTEM = ("posix", "fcntl", "_io")  # modules whose functions are system calls
MODEL_ID, LEVELS, CHECKPOINT = "interrupted-1", 2, "checkpoint.safetensors"
PICTURES, SIDE = 4, 32
STEPS = 25  # of a training, whose log has a row every 25; all but the last one are done before
EXACT = 0.6  # of all kills are at a system call
LONGEST = 150  # seconds: what takes longer hangs
PAGE = 4096
ROOMS = 8  # disks of a command, about
NEW_NAMESPACE = 0x20000  # CLONE_NEWNS

Content = dict[str, bytes]  # by name in a folder
Arguments = list[str | Path]  # of `vqcodec`
AtCall = Callable[[int], object]


# Processes


def start(arguments: Arguments, log: Path, at_call: AtCall | None = None) -> int:
    """Runs a command in a forked process, whose number it gives; SIGALRM ends what hangs.

    Args:
        arguments: Of it.
        log: Takes what it prints.
        at_call: Called with numbers from 0 before and after every system call of the writing.
    """
    sys.stdout.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    if process := os.fork():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        os.close(descriptor)
        return process
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for each in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(each, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        signal.alarm(LONGEST)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if at_call is not None:
            watch_writing(at_call)
        vqcodec(list(map(str, arguments)), prog_name="vqcodec")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0
    except KeyboardInterrupt:  # the command had not begun
        code = ENDED[signal.SIGINT]
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
        finally:
            os._exit(code)


def ended(process: int) -> int:
    """The exit code of a process; the negative number of a signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def watch_writing(at_call: AtCall) -> None:
    """Has Python call `at_call` before and after every system call of the writing."""
    number = 0

    def look(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal number
        if event == "return" and frame.f_code is WRITING:
            sys.setprofile(None)
        elif event in ("c_call", "c_return"):
            module = argument.__module__ or type(argument.__self__).__module__
            if module in SYSTEM:
                number += 1
                at_call(number - 1)

    check_writable = files.check_writable

    def begin(path: str | Path, force: bool) -> None:
        if sys._getframe(1).f_code is WRITING:
            sys.setprofile(look)  # not before: it is slow
        check_writable(path, force)

    files.check_writable = begin


def calls_of(arguments: Arguments, log: Path) -> int:
    """How often `at_call` is called.

    Raises:
        CodecError: the command fails.
    """
    reading, writing = os.pipe()
    process = start(arguments, log, lambda _: os.write(writing, b"."))
    os.close(writing)
    with open(reading, "rb") as stream:
        number = len(stream.read())
    succeed(process, log)
    return number


def succeed(process: int, log: Path) -> None:
    """Waits for a process.

    Raises:
        CodecError: it fails.
    """
    if code := ended(process):
        raise CodecError(f"ends with {code}: {log.read_text()}")


# What is there


def is_temporary(path: Path) -> bool:
    """Whether a file is one that is being written, or was when its process was killed."""
    return path.name.startswith(".") and path.name.endswith("-part")


def contents(folder: Path) -> Content:
    """All files of a folder but temporary ones."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not is_temporary(path)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def leftovers(folder: Path) -> int:
    """How many temporary files it has."""
    return sum(map(is_temporary, folder.rglob("*")))


def essence(name: str, content: bytes | None) -> object:
    """What of a file two undisturbed runs have alike: of a training not its seconds and folder."""
    if content is None:
        return None
    if name == "config.json":
        with contextlib.suppress(ValueError):
            return {**json.loads(content), "output": None}
    if name == "log.csv":
        return [row.split(b",")[0] for row in content.splitlines()]
    if name == CHECKPOINT:
        with contextlib.suppress(ValueError, KeyError):
            end = 8 + int.from_bytes(content[:8], "little")
            state = json.loads(json.loads(content[8:end])["__metadata__"]["state"])
            return state["step"], content[end:]
    return content


@dataclass(frozen=True)
class Case:
    """A command that is to be interrupted.

    Attributes:
        name: Of it.
        kills: Of a thousand.
        run: Its arguments, for a folder of outputs.
        before: What is in the folder before.
        after: What an undisturbed run leaves there.
        seconds: That such a run takes.
        calls: System calls of its writing, twice: before and after.
    """

    name: str
    kills: int
    run: Callable[[Path], Arguments]
    before: Content
    after: Content
    seconds: float
    calls: int

    def prepare(self, folder: Path) -> None:
        """Makes the folder as it is before."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write(folder, self.before)

    def check(self, folder: Path, *, finished: bool) -> int:
        """Checks that every output is as before or as after; as after, if it is finished.

        Returns:
            How many are as after.

        Raises:
            CodecError: one is not, or a temporary file is there and it is finished.
        """
        found = contents(folder)
        whole = 0
        for name in {*found, *self.before, *self.after}:
            has, old, new = (
                essence(name, each.get(name)) for each in (found, self.before, self.after)
            )
            if has != new and (finished or has != old):
                raise CodecError("is neither what it was nor what it is to be").in_file(name)
            whole += has == new != old
        if finished and leftovers(folder):
            raise CodecError("a temporary file is left over")
        return whole

    @property
    def outputs(self) -> int:
        """How many files it writes that were not the same before."""
        return sum(
            essence(name, new) != essence(name, self.before.get(name))
            for name, new in self.after.items()
        )


def write(folder: Path, content: Content) -> None:
    """Makes files."""
    for name, each in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each)


class Setting:
    """A model, pictures and .vqz files, and the cases made of them.

    Args:
        root: A folder for all of it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.work, self.log = root, root / "work", root / "log"
        self.pictures, self.coded, self.images = root / "pictures", root / "coded", root / "images"
        self.system = root / "system"
        self.model = self.system / f"{MODEL_ID}.safetensors"
        photo = data.astronaut()
        self.images.mkdir()
        PIL.Image.fromarray(photo[:128, 160:288]).save(self.images / "a.png")
        for number in range(PICTURES):
            path = self.pictures / f"{number % 2}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            top = SIDE * number
            PIL.Image.fromarray(photo[top : top + SIDE, 200 : 200 + SIDE]).save(path)
        self.picture, self.file = self.pictures / "0/0.png", self.coded / "0/0.vqz"
        photographs = ("--images", self.images, "--crop", "32", "--workers", "0")
        self.trained: Arguments = ["--autoencoder", self.system / "autoencoder" / CHECKPOINT]
        indices = self.system / "indices.safetensors"
        self.trainings = {
            "autoencoder": self.train("autoencoder", *photographs, "--preset", "tiny"),
            **{
                f"prior-{level}": self.train(
                    *("prior", "--level", str(level), "--indices", indices, *self.trained),
                    *("--channels", "8", "--blocks", "1"),
                )
                for level in range(LEVELS)
            },
        }
        # In this process, so that forked ones need not load it all anew.
        for name, train in self.trainings.items():
            self.call(*train(self.system / name, STEPS - 1))
            if name == "autoencoder":
                self.call("train", "indices", indices, *self.trained, *photographs, "--count", "8")
        priors = (f"--prior={self.system / name / CHECKPOINT}" for name in self.trainings)
        self.trained += list(priors)[1:]
        self.call("export", self.model, "--model-id", MODEL_ID, *self.trained)
        self.lossless: Arguments = ["--lossless", "always"]
        self.with_model: Arguments = ["--model", self.model]
        self.lossy: Arguments = [*self.with_model, "--effort", "1", "--lossless", "never"]
        self.call(*self.compress_all(self.coded))
        self.call(*self.decompress_all(root / "back"))
        self.call("compress", self.picture, root / "lossless.vqz", *self.lossless)
        self.call("decompress", root / "lossless.vqz", root / "lossless.png")

    def call(self, *arguments: str | Path) -> None:
        """Runs a command in this process.

        Raises:
            CodecError: it fails, and has told why.
        """
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
            if code := vqcodec(list(map(str, arguments)), standalone_mode=False):
                raise CodecError(f"{arguments[0]} ends with {code}")

    def train(self, kind: str, *options: str | Path) -> Callable[[Path, int], Arguments]:
        """A training that goes on in a folder, with a checkpoint after every step."""
        often = ("--batch", "1", "--device", "cpu", "--checkpoint-minutes", "0.000001")
        return lambda folder, steps=STEPS: [
            *("train", kind, folder, *options, *often, "--steps", str(steps)),
        ]  # fmt: skip

    def compress(self, *options: str | Path) -> Callable[[Path], Arguments]:
        """One picture to a file of a folder."""
        return lambda folder: ["compress", self.picture, folder / "a.vqz", *options]

    def decompress(self, *options: str | Path) -> Callable[[Path], Arguments]:
        """One file to a picture of a folder."""
        both = (*self.with_model, *options)
        return lambda folder: ["decompress", self.file, folder / "a.png", *both]

    def compress_all(self, folder: Path) -> Arguments:
        """All pictures, but those that are there."""
        several = ("--recursive", "--skip-existing")
        return ["compress", self.pictures, "--out", folder, *several, *self.lossy]

    def decompress_all(self, folder: Path) -> Arguments:
        """All files, but those that are there."""
        several = ("--recursive", "--skip-existing")
        return ["decompress", self.coded, "--out", folder, *several, *self.with_model]

    def cases(self) -> list[Case]:
        """What is killed."""
        skip, force = "--skip-existing", "--force"
        old = b"old" * 5000
        back = self.decompress
        found = [
            self.case("compress", 160, self.compress(*self.lossy, skip)),
            self.case("compress --force", 160, self.compress(*self.lossy, force), {"a.vqz": old}),
            self.case("compress --lossless", 160, self.compress(*self.lossless, skip)),
            self.case("decompress", 120, back(skip)),
            self.case("decompress --force", 120, back(force), {"a.png": old}),
            self.case("compress folder", 80, self.compress_all),
            self.case("decompress folder", 80, self.decompress_all),
        ]
        for name in ("autoencoder", "prior-0"):
            begun = contents(self.system / name)
            found.append(self.case(f"train {name}", 60, self.trainings[name], begun))
        return found

    def more_cases(self) -> list[Case]:
        """What else fills disks."""
        drawn = [*self.with_model, "--size", "32x32", "--seed", "1"]
        shown = [self.picture, "--quality", "1", *self.with_model]
        measured = ["--images", self.images, "--crop", "32", *self.with_model]
        return [
            self.case(name, 0, run)
            for name, run in {
                "export": lambda to: ["export", to / "m", "--model-id", "m", *self.trained],
                "sample": lambda to: ["sample", to / "a.png", *drawn],
                "gallery": lambda to: ["gallery", *shown, "--out", to / "a.html"],
                "evaluate": lambda to: [
                    *("evaluate", "likelihood", *measured, "--json", to / "a.json")
                ],
            }.items()
        ]

    def case(
        self,
        name: str,
        kills: int,
        run: Callable[[Path], Arguments],
        before: Content | None = None,
    ) -> Case:
        """A case, of which all is measured.

        Raises:
            CodecError: the command fails, or it leaves other than the first time.
        """
        click.echo(name, err=True)
        case = Case(name, kills, run, before or {}, {}, 0.0, 0)
        case.prepare(self.work)
        begin = time.monotonic()
        succeed(start(run(self.work), self.log), self.log)
        seconds, after = time.monotonic() - begin, contents(self.work)
        case.prepare(self.work)
        calls = calls_of(run(self.work), self.log)
        case = replace(case, seconds=seconds, after=after, calls=calls)
        case.check(self.work, finished=True)
        return case


# Kills


class Killed(NamedTuple):
    """What became of a kill.

    Attributes:
        case: Its name.
        sent: The signal.
        exact: Whether it was before or after a system call of the writing.
        whole: Outputs that were there afterwards.
        left: Temporary files that were.
        wrong: What was not as it should be.
    """

    case: str
    sent: int
    exact: bool
    whole: int = 0
    left: int = 0
    wrong: str = ""


def kill(case: Case, times: random.Random, folder: Path) -> Killed:
    """Kills a case once, and goes on."""
    log = folder.with_suffix(".log")
    sent = times.choice(SIGNALS)
    code = 0
    while code == 0:  # or it was too late
        case.prepare(folder)
        exact = times.random() < EXACT
        if exact:
            at = times.randrange(case.calls)
            process = start(case.run(folder), log, partial(kill_at, at, sent))
        else:
            process = start(case.run(folder), log)
            time.sleep(times.uniform(0, case.seconds))
            os.kill(process, sent)
        code = ended(process)
    whole = left = 0
    try:
        said = log.read_text()
        good = {ENDED[sent], -sent}
        if sent == signal.SIGINT and "Aborted!" in said:
            good.add(1)  # of click, before or after the command
        if code not in good or "Traceback" in said:
            raise CodecError(f"ends with {code}: {said}")
        whole = case.check(folder, finished=False)
        left = leftovers(folder)
        if left and code != -signal.SIGKILL:
            raise CodecError("a temporary file is left")
        succeed(start(case.run(folder), log), log)
        case.check(folder, finished=True)
        return Killed(case.name, sent, exact, whole, left)
    except CodecError as error:
        return Killed(case.name, sent, exact, whole, left, str(error))


def kill_at(at: int, sent: signal.Signals, number: int) -> None:
    """Sends this process a signal when its number has come."""
    if number == at:
        os.kill(os.getpid(), sent)


def kill_all(
    setting: Setting, order: list[Case], seed: int, jobs: int, found: list[Killed]
) -> None:
    """Kills cases in several processes.

    Args:
        setting: Of the cases.
        order: A case for every kill.
        seed: Of signals and times.
        jobs: How many processes.
        found: Takes what became of each, as soon as it is known.
    """
    reading, writing = os.pipe()
    workers = []
    for worker in range(jobs):
        if process := os.fork():
            workers.append(process)
            continue
        try:
            os.setpgid(0, 0)  # a terminal's interrupt is for the first one alone
            for number in range(worker, len(order), jobs):
                times = random.Random(f"{seed} {number}")
                one = kill(order[number], times, setting.root / str(worker))
                wrong = one.wrong and f"{number} of seed {seed}, {one.case}: {one.wrong[:2000]}"
                os.write(writing, f"{json.dumps(one._replace(wrong=wrong))}\n".encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with open(reading) as lines:
            for line in tracked(lines, "killing", len(order)):
                found.append(Killed(*json.loads(line)))
                if found[-1].wrong:
                    click.echo(found[-1].wrong, err=True)
    finally:
        for process in workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            ended(process)


def print_kills(cases: list[Case], found: list[Killed]) -> None:
    """Prints how many there were of each kind, and what was there between kill and next run."""
    rows = []
    for case in cases:
        its = [one for one in found if one.case == case.name]
        sent = Counter(one.sent for one in its)
        exact, whole = sum(one.exact for one in its), sum(one.whole for one in its)
        rows.append([
            *(case.name, len(its), *(sent[each] for each in ENDED), exact, len(its) - exact),
            *(whole, len(its) * case.outputs - whole, sum(one.left for one in its)),
            sum(one.wrong != "" for one in its),
        ])  # fmt: skip
    rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    print_table(
        "kills",
        ["what", "kills", *(each.name for each in ENDED), "at a system call", "at random",
         "outputs whole", "absent or old", "temporary files", "faults"],
        rows,
    )  # fmt: skip


# Two at once


def two_at_once(setting: Setting, force: bool) -> Counter[str]:
    """Two processes write one output: the second one within every system call of the first one.

    Returns:
        How often which of them has written, the last one with force, one alone without; and how
        often that was wrong.
    """
    folder, log, other = setting.work, setting.log, setting.root / "other"
    options = [*setting.lossless, *(["--force"] if force else [])]
    old = {"a.vqz": b"old"} if force else {}
    first, second = (
        setting.case(
            f"{name} {'--force' if force else ''}",
            0,
            lambda to, name=name: ["compress", setting.pictures / name, to / "a.vqz", *options],
            old,
        )
        for name in ("0/0.png", "1/1.png")
    )
    found: Counter[str] = Counter()
    for at in range(first.calls):
        first.prepare(folder)
        reached, reach = os.pipe()
        leave, left = os.pipe()

        def wait(number: int, at: int = at, reach: int = reach, leave: int = leave) -> None:
            if number == at:
                os.write(reach, b".")
                os.read(leave, 1)

        process = start(first.run(folder), log, wait)
        os.close(reach)
        os.read(reached, 1)  # or nothing, if it has ended
        code = ended(start(second.run(folder), other))
        os.write(left, b".")
        codes = ended(process), code
        for each in (reached, leave, left):
            os.close(each)
        has = contents(folder)
        winner = "first" if has == first.after else "second"
        good = codes == (0, 0) if force else codes == ((0, 1) if winner == "first" else (1, 0))
        told = (log if codes[0] else other).read_text()
        good = good and (force or "exists already; use --force" in told)
        if has in (first.after, second.after) and good and not leftovers(folder):
            found[winner] += 1
        else:
            click.echo(f"two at once, at {at}: ended with {codes}: {told}", err=True)
            found["wrong"] += 1
    return found


# Full disks


def mount(folder: Path, options: str) -> None:
    """An empty tmpfs at a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


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


def full_disks(setting: Setting, case: Case) -> Counter[str]:
    """A case on disks with ever more room, until it fits.

    Returns:
        How often it failed and succeeded, and how often neither as it should.
    """
    found: Counter[str] = Counter()
    folder, log = setting.work, setting.log
    most = pages(case.after) + pages(case.before) + 2
    rooms = [f"size={PAGE * (pages(case.before) + 1 + free)}" for free in
             range(0, most + 1, max(1, most // ROOMS))]  # fmt: skip
    inodes = [f"size=64m,nr_inodes={len(case.before) + 2 + free}" for free in range(4)]
    for room in [*rooms, *inodes]:
        mount(folder, room)
        try:
            (folder / "full").write_bytes(b"." * PAGE)
            write(folder, case.before)
            code = ended(start(case.run(folder), log))
            (folder / "full").unlink()
            told = log.read_text()
            known = "no space left on the device" in told and str(folder) in told
            if code not in (0, 1) or "Traceback" in told or (code and not known):
                raise CodecError(f"ends with {code}: {told}")
            if leftovers(folder):
                raise CodecError("a temporary file is left")
            case.check(folder, finished=code == 0)
            found["failed" if code else "succeeded"] += 1
        except CodecError as error:
            click.echo(f"{case.name}, {room}: {error}", err=True)
            found["wrong"] += 1
        finally:
            subprocess.run(["umount", folder], check=True)
    return found


def raise_timeout(*_: object) -> None:
    """Ends the kills.

    Raises:
        TimeoutError: always.
    """
    raise TimeoutError


@click.command(cls=Command)
@click.option("--kills", default=1000, show_default=True, help="How many, about.")
@click.option("--jobs", default=2, show_default=True, help="Processes that kill.")
@click.option("--seed", default=0, show_default=True, help="Of cases, signals and times.")
@click.option("--minutes", type=float, help="Kill so long at most.")
@click.option("--pairs/--no-pairs", default=True, help="Have two write one file, too.")
@click.option("--disks/--no-disks", default=True, help="Fill disks, too; needs root.")
def main(kills: int, jobs: int, seed: int, minutes: float | None, pairs: bool, disks: bool) -> None:
    """Kill commands, have two write one file, and fill disks."""
    torch.set_num_threads(1)
    os.environ[CHOICE] = "torch"  # nobody is to compile in the background
    # A shell may start its background jobs with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGALRM, raise_timeout)
    found: list[Killed] = []
    with TemporaryDirectory() as name:
        setting = Setting(Path(name))
        cases = setting.cases()
        order = [case for case in cases for _ in range(round(case.kills * kills / 1000))]
        random.Random(seed).shuffle(order)
        try:
            signal.setitimer(signal.ITIMER_REAL, 60 * (minutes or 0))
            kill_all(setting, order, seed, jobs, found)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if len(found) < len(order):
                raise CodecError("a process that kills has ended")
        except TimeoutError:
            pass
        finally:
            if found:
                print_kills(cases, found)
        wrong = sum(one.wrong != "" for one in found)
        if pairs:
            rows = []
            for how, force in (("without", False), ("--force", True)):
                writers = two_at_once(setting, force)
                rows.append([how, writers["first"], writers["second"], writers["wrong"]])
                wrong += writers["wrong"]
            columns = ["how", "first's", "second's", "faults"]
            print_table("two processes, one output", columns, rows)
        if disks:
            own_namespace()
            rows = []
            for case in (*cases, *setting.more_cases()):
                ends = full_disks(setting, case)
                rows.append([case.name, ends["failed"], ends["succeeded"], ends["wrong"]])
                wrong += ends["wrong"]
                click.echo(f"{case.name}: {dict(ends)}", err=True)
            print_table("full disks", ["what", "refused", "done", "faults"], rows)
    print_made(None)
    if wrong:
        raise CodecError(f"{wrong} faults")


if __name__ == "__main__":
    main()
