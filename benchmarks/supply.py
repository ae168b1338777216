"""Whether the wheel and the sdist install and work, by the oldest and the newest requirements.

    pip install uv
    python benchmarks/supply.py --python 3.10 --python 3.13

Builds both as a publisher would, looks into them, and makes an environment for each Python and each
end of the requirements' ranges, one at a time: some 6 GB where torch is a CUDA build. There the
golden tests run on what was installed, outside of the checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import NamedTuple

import click

from vqcodec.bench.command import Command, print_made, print_table, tracked
from vqcodec.errors import CodecError

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
ENDS = ("lowest-direct", "highest")
TOLD = ("torch", "numpy", "pillow", "click", "rich", "imageio", "safetensors", "numba")
TESTING = ("pytest", "pytest-timeout", "hypothesis")
TEST_SECONDS = 3600  # a test may take: the first one compiles


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """What a command prints.

    Raises:
        CodecError: it fails.
    """
    result = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        said = (result.stdout + result.stderr).strip().splitlines()[-3:]
        raise CodecError(f"{' '.join(map(str, command[:4]))} ... failed: {' '.join(said)}")
    return result.stdout


class Built(NamedTuple):
    """What a publisher uploads."""

    wheel: Path
    sdist: Path


def build(folder: Path) -> Built:
    """The sdist, and the wheel that is made from it.

    Raises:
        CodecError: the checkout gives another wheel.
    """
    run("uv", "build", "--quiet", "--out-dir", folder, ROOT)
    run("uv", "build", "--quiet", "--wheel", "--out-dir", folder / "checkout", ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    (direct,) = (folder / "checkout").glob("*.whl")
    if contents(wheel) != contents(direct):
        differ = contents(wheel).items() ^ contents(direct).items()
        raise CodecError(f"sdist and checkout make different wheels: {sorted(dict(differ))}")
    return Built(wheel, sdist)


def contents(wheel: Path) -> dict[str, int]:
    """Checksums of a wheel's files by name; of its own list of them, none."""
    with zipfile.ZipFile(wheel) as archive:
        found = {each.filename: each.CRC for each in archive.infolist()}
    return {name: crc for name, crc in found.items() if not name.endswith("/RECORD")}


def faults(built: Built) -> list[str]:
    """What is in the files and should not be, or is missing."""
    packed = {name for name in contents(built.wheel) if ".dist-info/" not in name}
    tracked_files = set(run("git", "ls-files", "vqcodec", "weights", cwd=ROOT).split("\n")) - {""}
    expected = {
        re.sub("^weights/", "vqcodec/weights/", name)
        for name in tracked_files
        if "/samples/" not in name
    }
    with tarfile.open(built.sdist) as archive:
        source = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    found = [f"{name} is in the wheel and not in the checkout" for name in packed - expected]
    found += [f"{name} is not in the wheel" for name in expected - packed]
    unwanted = ("tests/", "benchmarks/")
    found += [f"{name} is in the sdist" for name in source if name.startswith(unwanted)]
    if not any(name.endswith("licenses/LICENSE") for name in contents(built.wheel)):
        found.append("the licence is not in the wheel")
    return sorted(found)


def requirements(wheel: Path) -> list[str]:
    """What the wheel requires without extras."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    return [each for each in metadata.get_all("Requires-Dist", []) if "extra ==" not in each]


def pins(built: Built, python: str, end: str, folder: Path) -> Path:
    """A file of the versions at one end of what is required, of those that have wheels."""
    wanted, found = folder / "requirements.in", folder / "requirements.txt"
    wanted.write_text("\n".join(requirements(built.wheel)))
    given = ("--python-version", python, "--only-binary", ":all:", "--resolution", end)
    run("uv", "pip", "compile", "--quiet", *given, "--output-file", found, wanted)
    return found


def tried(built: Built, python: str, end: str, tests: list[str]) -> list[str]:
    """Installs the wheel and tests it, then the sdist in its place, and tests that.

    Raises:
        CodecError: it cannot be installed.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="supply-") as temporary:
        folder = Path(temporary)
        environment = folder / "environment"
        run("uv", "venv", "--quiet", "--python", python, environment)
        install = ("uv", "pip", "install", "--quiet", "--python", environment)
        run(*install, "-r", pins(built, python, end, folder), built.wheel)
        run(*install, "--only-binary", ":all:", *TESTING)
        shutil.copytree(ROOT / "tests", folder / "tests")
        (folder / "benchmarks").mkdir()
        shutil.copy(ROOT / "pyproject.toml", folder)
        told = [tested(environment, folder, tests)]
        run(*install, "--no-deps", "--reinstall", built.sdist)
        told.append(tested(environment, folder, ["-k", "test_indices", *tests]))
        listed = run("uv", "pip", "freeze", "--quiet", "--python", environment)
    versions = dict(line.split("==") for line in listed.splitlines() if "==" in line)
    coder = "constriction" if "constriction" in versions else "own"
    seconds = f"{time.perf_counter() - start:.0f}"
    own = [versions.get(name, "") for name in TOLD]
    return [python, end.removesuffix("-direct"), *own, coder, *told, seconds]


def tested(environment: Path, folder: Path, tests: list[str]) -> str:
    """The last line of pytest, without its seconds. What is compiled stays in the folder.

    Raises:
        CodecError: a test fails, or none is found.
    """
    patient = ("-o", f"timeout={TEST_SECONDS}")
    asked = ("-x", "-q", "--no-header", "-p", "no:cacheprovider", "-m", "not slow", *patient)
    binaries = environment / ("Scripts" if os.name == "nt" else "bin")
    own = {"PYTHONPATH": "", "OMP_NUM_THREADS": "1", "VQCODEC_CACHE": str(folder), "COLUMNS": "300"}
    said = run(binaries / "pytest", *asked, *tests, cwd=folder, **own)
    return said.strip().splitlines()[-1].split(" in ")[0]


@click.command(cls=Command)
@click.argument("tests", nargs=-1)
@click.option("--python", "pythons", multiple=True, default=PYTHONS, show_default=True)
@click.option("--end", "ends", type=click.Choice(ENDS), multiple=True, default=ENDS)
def main(tests: tuple[str, ...], pythons: tuple[str, ...], ends: tuple[str, ...]) -> None:
    """Runs TESTS, or the golden ones, on installed packages; exit code 1 if any fails.

    uv chooses the versions and fetches Pythons that are not there; its own variables, such as
    UV_TORCH_BACKEND=cpu, are heeded.
    """
    if shutil.which("uv") is None:
        raise CodecError("there is no uv here; pip install uv")
    rows, failed = [], []
    with tempfile.TemporaryDirectory(prefix="supply-") as folder:
        built = build(Path(folder))
        failed += faults(built)
        for each in built:
            click.echo(f"{each.name}: {each.stat().st_size / 1e6:.1f} MB")
        for python, end in tracked([(p, e) for p in pythons for e in ends], "environments"):
            try:
                rows.append(tried(built, python, end, [*tests] or ["tests/golden"]))
                click.echo(", ".join(rows[-1]), err=True)
            except CodecError as error:
                failed.append(f"Python {python}, {end}: {error}")
                click.echo(failed[-1], err=True)
    if rows:
        columns = ["Python", "versions", *TOLD, "coder", "wheel", "sdist", "seconds"]
        print_table("installed and tested", columns, rows)
    print_made(None)
    if failed:
        raise CodecError("; ".join(failed))


if __name__ == "__main__":
    main()
