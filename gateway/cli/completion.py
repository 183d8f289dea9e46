"""`deltawire completion`: print the script with which a shell completes the command line."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from deltawire.gateway.cli.options import examples

SHELLS: Final = ("bash", "zsh", "fish")

VARIABLE: Final = "_DELTAWIRE_COMPLETE"
"""The variable that a script sets to request completions; click derives this name from that of the command."""


@click.command(
    "completion",
    epilog=examples(
        'eval "$(deltawire completion bash)"',
        "deltawire completion fish > ~/.config/fish/completions/deltawire.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, /, shell: str) -> None:
    """Print a script that lets a shell complete commands, options and values.

    To enable it in every new shell:

    \b
    bash  add to ~/.bashrc:
          eval "$(deltawire completion bash)"
    zsh   add to ~/.zshrc, below compinit:
          eval "$(deltawire completion zsh)"
    fish  run once:
          deltawire completion fish > ~/.config/fish/completions/deltawire.fish

    bash must be 4.4 or newer; the one in macOS is older.
    """  # noqa: D301 - \b tells click to keep line breaks
    root = ctx.find_root()
    completing = get_completion_class(shell)
    assert completing is not None
    assert root.info_name is not None
    click.echo(completing(root.command, {}, root.info_name, VARIABLE).source(), nl=False)
