"""``ptactors completion``: the script that teaches a shell to complete."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ptactors.cli.main import COMPLETION_VARIABLE, cli


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL; for bash: eval "$(ptactors completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None, "click knows all three"
    print(kind(cli, {}, "ptactors", COMPLETION_VARIABLE).source())
