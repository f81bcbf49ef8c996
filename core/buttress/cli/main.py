"""The ``buttress`` command: its verbs, and the exit code of a call. Loads no torch.

Exit codes: 0 done, 1 failed at work, 2 wrong input.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from buttress._version import __version__
from buttress.cli.bench import bench
from buttress.cli.compare import compare
from buttress.cli.completion import VARIABLE, complete, completion
from buttress.cli.config import config
from buttress.cli.corruptions import corruptions
from buttress.cli.doctor import doctor
from buttress.cli.evaluate import evaluate
from buttress.cli.inspect import analyze, audit, report
from buttress.cli.mistakes import usage_error
from buttress.cli.plugins import plugins
from buttress.cli.pseudo_label import pseudo_label
from buttress.cli.recipes import recipes
from buttress.cli.search import search
from buttress.cli.train import reproduce, resume, train
from buttress.cli.verb import Group
from buttress.cli.weights import ensemble, export
from buttress.components.metadata import pass_over_unreadable
from buttress.console.lasting import Lasting, lasting_streams
from buttress.console.output import account_for, exit_code_of, say

_TRAINING = (train, resume, reproduce, bench)
_RESULTS = (evaluate, corruptions, audit, analyze, report, compare, search, export, ensemble, pseudo_label)
_INSTALLATION = (plugins, recipes, config, doctor, completion)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the entry point of the ``buttress`` command.

    Args:
        arguments: words after ``buttress``; by default those that the process was started with.

    Returns:
        The exit code.
    """
    pass_over_unreadable()
    words = sys.argv[1:] if arguments is None else list(arguments)
    with lasting_streams() as output:
        return exit_code_of(lambda: _run(words, output))


def _run(words: list[str], output: Lasting) -> None:
    if request := os.environ.get(VARIABLE):
        complete(buttress, request)
        return
    answer = _answer(words)
    say(answer)
    account_for(output, bool(answer))


def _answer(words: list[str]) -> str:
    """The text that a verb leaves for the caller to print."""
    try:
        with buttress.make_context("buttress", words) as context:
            answer: str = buttress.invoke(context)
            return answer
    except click.exceptions.Exit:  # after --help and --version
        return ""
    except click.UsageError as problem:
        raise usage_error(problem) from None


@click.group(cls=Group, epilog="exit codes: 0 done, 1 failed at work, 2 wrong input")
@click.version_option(__version__, message="%(prog)s %(version)s", help="show the version and exit")
def buttress() -> None:
    """Adversarial training with plugins, and the methods against robust overfitting."""


for verb in (*_TRAINING, *_RESULTS, *_INSTALLATION):
    buttress.add_command(verb)
