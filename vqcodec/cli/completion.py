"""`vqcodec completion`: what a shell needs to complete command lines."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from vqcodec.cli.console import examples


@click.command(
    epilog=examples(
        "completion bash >> ~/.bashrc",
        "completion zsh >> ~/.zshrc",
        "completion fish > ~/.config/fish/completions/vqcodec.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the code that has a shell complete commands, options and files.

    It asks `vqcodec` itself at every completion, so it stays right when vqcodec changes.
    """
    completion = get_completion_class(shell)
    assert completion is not None
    main = ctx.find_root().command
    click.echo(completion(main, {}, "vqcodec", "_VQCODEC_COMPLETE").source())
