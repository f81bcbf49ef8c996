"""Verbs, groups of verbs and options, as click has them, in the style of buttress."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from buttress.console.output import notice, print_to
from buttress.console.tracebacks import traceback_of
from buttress.errors import ButtressError


class _Command(click.Command):
    """A command whose help begins with ``usage:``, as errors begin with ``error:``, and is never cut."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        return ["-h", "--help"]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)), "usage: ")

    def get_short_help_str(self, limit: int = 0) -> str:
        return str(self.help)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = "show this help and exit"
        return option


class Verb(_Command):
    """A verb, such as ``train``. Its function returns the text to print.

    Args:
        imports_torch: whether the verb imports torch, which takes seconds; a notice then says so.
    """

    def __init__(self, *args: Any, imports_torch: bool = False, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._imports_torch = imports_torch
        self.params.append(Option(["--traceback"], is_flag=True, help="print the traceback of an error"))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for each in self.params:
            args = each.spread(args) if isinstance(each, Pairs) else args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with_traceback = ctx.params.pop("traceback")
        if self._imports_torch and "torch" not in sys.modules and _is_first_process():
            notice("importing torch ...")
        try:
            return super().invoke(ctx)
        except ButtressError as problem:
            if with_traceback:
                print_to("stderr", traceback_of(problem).rstrip())
            raise


def _is_first_process() -> bool:
    """Whether this is the first of the processes that torchrun or srun has started, or one process alone."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


class Group(_Command, click.Group):
    """A group of verbs, listed in the order in which they were added."""

    command_class = Verb

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.options_metavar, self.subcommand_metavar, self.no_args_is_help = "", "VERB ...", False

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class Option(click.Option):
    """An option whose help ends with its default, as in ``number of examples (default: 200)``.

    Args:
        show_default: words for a default that is not a fixed value, such as ``"the time"``.
    """

    def __init__(self, *args: Any, show_default: str | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        shown = show_default if show_default is not None else attributes.get("default")
        if shown is not None:
            self.help = f"{self.help} (default: {shown})"

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [self.get_help_spec(ctx)] if self.required else []


class Pairs(Option):
    """An option that takes every ``key=value`` after it, up to the next other word: ``--launcher-option a=1 b=2``."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, multiple=True, **attributes)

    def spread(self, words: Sequence[str]) -> list[str]:
        """The words of a command line with the option before each of its pairs, as click takes them."""
        spread: list[str] = []
        within, taken = False, False  # whether the words are those of the option, and whether it has one of them
        for word in words:
            if word == "--":
                within = False
            elif word in self.opts:
                within, taken = True, False
            elif within and (word.startswith("-") or "=" not in word):
                within = False
            elif within:
                spread += [self.opts[0]] if taken else []
                taken = True
            spread.append(word)
        return spread


option = partial(click.option, cls=Option)


def verb(name: str | None = None, *, imports_torch: bool = False) -> Callable[[Callable[..., str]], click.Command]:
    """Declare a function as a verb; its docstring is the help text."""
    return click.command(name, cls=Verb, imports_torch=imports_torch)
