"""Help pages, and what shells complete."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from conftest import Invoke, Run

from vqcodec.cli import main


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path, groups too."""
    yield path, group
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


EVERY = dict(commands(main))


def examples(command: click.Command) -> list[list[str]]:
    """The words of the examples of a help page, without comments, pipes and `vqcodec`."""
    assert command.epilog is not None
    block = command.epilog.partition("Examples:\n")[2]
    lines = block.replace("\\\n", " ").splitlines()
    words = [shlex.split(re.split(r" [<>]", line)[0], comments=True) for line in lines]
    assert all(each[0] == "vqcodec" for each in words)
    return [each[1:] for each in words]


@pytest.mark.parametrize("path", EVERY, ids=lambda path: " ".join(path) or "vqcodec")
def test_examples_are_command_lines_that_exist(path: tuple[str, ...]) -> None:
    found = examples(EVERY[path])
    assert found
    for words in found:
        named = max((each for each in EVERY if tuple(words[: len(each)]) == each), key=len)
        assert named[: len(path)] == path
        rest = words[len(named) :]
        if rest != ["--help"]:
            EVERY[named].make_context(named[-1], rest)  # refuses what it does not know


def test_examples_stay_one_a_line(invoke: Invoke) -> None:
    page = invoke("compress", "--help").output
    for line in (EVERY["compress",].epilog or "").splitlines()[2:]:
        assert f"  {line}\n" in page


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_code_for_the_shell(invoke: Invoke, shell: str) -> None:
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert f"_VQCODEC_COMPLETE={shell}_complete" in result.output


def test_the_code_is_code_of_bash(process: Run, tmp_path: Path) -> None:
    (tmp_path / "code").write_bytes(process("completion", "bash").stdout)
    subprocess.run(["bash", "-n", "code"], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("vqcodec gal", ["plain,gallery"]),
        ("vqcodec compress --eff", ["plain,--effort"]),
        ("vqcodec compress --model hvq-photo-", ["plain,hvq-photo-1", "plain,hvq-photo-2"]),
        ("vqcodec compress --model ./mine", ["file,./mine"]),
        ("vqcodec decompress pho", ["file,pho"]),
    ],
)
def test_what_is_completed(environment: dict[str, str], words: str, expected: list[str]) -> None:
    asked = {
        "_VQCODEC_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result = subprocess.run(
        [sys.executable, "-c", "from vqcodec.cli import main; main(prog_name='vqcodec')"],
        env={**environment, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split(os.linesep)[:-1] == expected
