"""`tenfold completion SHELL`: the script that lets a shell complete commands, options, rungs and servers.

The script asks `tenfold` itself at every Tab (click's way); `words` answers from files alone, so no runtime is needed.
"""

import click
from click import shell_completion

from tenfold.cli import words

VARIABLE = "_TENFOLD_COMPLETE"
"""The environment variable by which the script asks."""


@click.command()
@click.argument("shell", type=words.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell: commands, options, rungs, servers, sections.

    \b
    bash  put into ~/.bashrc:  source <(tenfold completion bash)
    zsh   put into ~/.zshrc:   source <(tenfold completion zsh)
    fish  once:  tenfold completion fish > ~/.config/fish/completions/tenfold.fish

    Example: tenfold completion bash
    """
    made = shell_completion.get_completion_class(shell)
    assert made is not None, "click knows these three"
    script = made(ctx.find_root().command, {}, "tenfold", VARIABLE)
    click.echo(script.source_template % script.source_vars())
