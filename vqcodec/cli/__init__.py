"""The `vqcodec` command line: one module per command, imported when the command is asked for.

Every failure that input or the machine can cause is one line on standard error,
`vqcodec: error: ...`, and exit code 1; wrong usage is click's exit code 2; an interrupt is 130 and
a termination 143, both after the temporary output is removed.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

# Threads that wait for the next piece of work sleep. Else they keep others from a processor that is
# not theirs alone, and one image takes three times as long. Before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from vqcodec import __version__
from vqcodec.cli.console import described, examples, fail
from vqcodec.cli.options import verbosity_options

_COMMANDS = (
    "compress",
    "decompress",
    "view",
    "compare",
    "gallery",
    "sample",
    "complete",
    "info",
    "verify",
    "corpus",
    "models",
    "train",
    "export",
    "evaluate",
    "bench",
    "completion",
)
_ALIASES = {"generate": "sample"}


class CommandLine(click.Group):
    """A click group that imports a command's module on demand and reports errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands in the order of the help page."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name or alias, its module imported now; None if there is none."""
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"vqcodec.cli.{name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what input or the machine can cause becomes one line and a code."""
        try:
            with _unwinding():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            fail("interrupted", code=128 + signal.SIGINT)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # click ends quietly when the reader of a pipe is gone
            if (known := described(error)) is None:
                raise
            fail(known)


@contextmanager
def _unwinding() -> Iterator[None]:
    """Let SIGTERM unwind the stack as SIGINT does: a half-written output is removed on the way.

    The library that is interrupted may make an error of its own of that, which is not meant.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stops: list[BaseException] = []

    def leave(signum: int, frame: FrameType | None) -> None:
        stops.append(KeyboardInterrupt() if signum == signal.SIGINT else SystemExit(128 + signum))
        raise stops[-1]

    previous = {signal.SIGTERM: signal.signal(signal.SIGTERM, leave)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        previous[signal.SIGINT] = signal.signal(signal.SIGINT, leave)
    try:
        yield
    except Exception:
        if stops:
            raise stops[0] from None
        raise
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


@click.group(
    cls=CommandLine,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`-` as a file name is standard input or standard output.\n\n"
    + examples(
        "compress photo.jpg photo.vqz --quality 40",
        "decompress photo.vqz photo.png",
        "gallery photo.jpg --out page.html",
        "compress --help                  # its options, and more examples",
    ),
)
@click.version_option(__version__, prog_name="vqcodec")
@verbosity_options
def main() -> None:
    """A learned image codec: images to .vqz files and back, and new images from its priors."""
