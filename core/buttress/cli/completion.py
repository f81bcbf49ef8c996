"""The verb ``completion``, and the answers to a shell that asks how a word may go on. Loads no torch."""

from __future__ import annotations

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    shell_complete,
)

from buttress.cli.options import WordType
from buttress.cli.verb import verb
from buttress.console.output import Exact


class _Bash(BashComplete):
    """Bash takes the colon in ``buttress:digits/at`` for the end of a word: only what follows it is completed."""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, incomplete = super().get_completion_args()
        self._typed = ""
        if incomplete == ":" and words:
            words, incomplete = words[:-1], f"{words[-1]}:"
        elif words[-1:] == [":"] and len(words) > 1:
            words, incomplete = words[:-2], f"{words[-2]}:{incomplete}"
        if ":" in incomplete:
            self._typed = incomplete[: incomplete.index(":") + 1]
        return words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{str(item.value).removeprefix(self._typed)}"


add_completion_class(_Bash)

VARIABLE = "_BUTTRESS_COMPLETE"
"""Environment variable with which a shell asks for completions."""


@verb()
@click.argument("shell", type=WordType(["bash", "zsh", "fish"]), metavar="bash|zsh|fish", help="shell of the script")
@click.pass_context
def completion(context: click.Context, shell: str) -> str:
    """Print the script that completes verbs, options, configs and plugins in a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    return Exact(kind(context.find_root().command, {}, "buttress", VARIABLE).source().strip())


def complete(commands: click.Command, request: str) -> None:
    """Answer a shell.

    Args:
        commands: the group of all verbs.
        request: value of ``VARIABLE``: ``"bash_complete"``.
    """
    shell_complete(commands, {}, "buttress", VARIABLE, request)
