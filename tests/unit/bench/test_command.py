"""What commands that measure print."""

from __future__ import annotations

import click
import pytest

from vqcodec.bench.command import Command, print_made, print_table
from vqcodec.errors import CodecError


def test_codec_errors_become_click_errors() -> None:
    @click.command(cls=Command)
    def failing() -> None:
        raise CodecError("nothing works")

    with pytest.raises(click.ClickException, match="nothing works"):
        failing.main([], standalone_mode=False)


def test_tables_and_what_they_depend_on(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", ["name", "value"], [["[a]", 1], ["b", None]])
    print_made(None)
    printed = capsys.readouterr().out
    assert "title" in printed
    assert "[a]" in printed
    assert "None" not in printed
    assert "weights" not in printed
    assert "torch" in printed
