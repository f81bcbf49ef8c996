"""Errors for words that are no call of a verb: unknown verbs and options, values of a wrong type."""

from __future__ import annotations

from difflib import get_close_matches

import click

from buttress.console.output import print_to
from buttress.console.visible import one_line, visible
from buttress.errors import InputError, nearest


def usage_error(problem: click.UsageError) -> InputError:
    """The error of buttress for a mistake that click has noticed; prints the usage of the verb on standard error."""
    if problem.ctx is not None:
        print_to("stderr", visible(problem.ctx.get_usage()))
    return InputError(_message(problem))


def _message(problem: click.UsageError) -> str:
    match problem:
        case click.NoSuchOption():
            return f"no such option {one_line(problem.option_name)}{_nearest_option(problem)}"
        case click.exceptions.NoSuchCommand():
            return f"no such verb {problem.command_name!r}{nearest(problem.command_name, _verbs(problem))}"
        case click.MissingParameter(param=(click.Option() | click.Argument()) as parameter):
            return f"expected {_name(parameter)}: {parameter.help}"
        case click.BadParameter(param=click.Parameter() as parameter):
            return f"{_name(parameter)}: {problem.message}"
        case _ if problem.message == "Missing command.":
            return f"expected a verb{nearest('', _verbs(problem))}"
    message = problem.format_message().rstrip(".")
    return message[:1].lower() + message[1:]


def _name(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name


def _verbs(problem: click.UsageError) -> list[str]:
    command = problem.ctx.command if problem.ctx else None
    return list(command.commands) if isinstance(command, click.Group) else []


def _nearest_option(problem: click.NoSuchOption) -> str:
    """The nearest option; where there is none and the verb takes settings of a config, how one is given."""
    if problem.ctx is None:
        return ""
    parameters = problem.ctx.command.get_params(problem.ctx)
    known = {name.lstrip("-"): name for each in parameters if isinstance(each, click.Option) for name in each.opts}
    name = problem.option_name.lstrip("-")
    close = get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {known[close[0]]}?"
    takes_settings = any(each.name == "overrides" for each in parameters)
    return f"; a setting is given without dashes: {one_line(name)}=..." if takes_settings else ""
