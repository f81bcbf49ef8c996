"""Types of arguments, and the options that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from buttress.cli.candidates import configs, launchers
from buttress.cli.verb import Pairs, option
from buttress.errors import ConfigError, PathError, nearest
from buttress.storage.user_path import user_path

Function = TypeVar("Function", bound=Callable[..., Any])

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_PART = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
# Characters of a word that an error quotes, at most.
_QUOTED = 40


class UserPath(click.ParamType[Path]):
    """A path as people write them: ``~`` is the home folder.

    Args:
        kind: kind of path that a shell completes: ``"file"`` or ``"dir"``.
    """

    name = "path"

    def __init__(self, kind: str = "file") -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        try:
            return user_path(value)
        except PathError as problem:
            self.fail(str(problem), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type=self.kind)]


class WholeNumber(click.ParamType[int]):
    """A whole number of at most 18 digits, from 0 to 9; underscores and digits of other scripts are refused."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not _WHOLE.fullmatch(text):
            shown = repr(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}...")
            self.fail(f"expected a whole number of at most 18 digits, got {shown}", param, ctx)
        return int(text)


class WordType(click.Choice[str]):
    """One of several words; the error for another one names the nearest."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        *most, last = self.choices
        return f"expected {', '.join(most)} or {last}, got {value!r}{nearest(str(value), self.choices)}"


FOLDER, FILE, NUMBER = UserPath("dir"), UserPath("file"), WholeNumber()


def config_arguments(function: Function) -> Function:
    """The arguments ``CONFIG`` and ``key=value``."""
    function = click.argument(
        "overrides",
        nargs=-1,
        metavar="[key=value]...",
        help="settings that replace those of the config: epochs=10 data.batch_size=64 pgd.steps=5",
    )(function)
    return click.argument(
        "config",
        type=FILE,
        metavar="CONFIG",
        help="YAML file, or distribution:recipe (listed by: buttress recipes list)",
        shell_complete=configs,
    )(function)


def subject_arguments(function: Function) -> Function:
    """The arguments ``RUN|FILE`` and ``key=value``, and the options that choose the weights."""
    declarations = (
        click.argument("subject", type=FILE, metavar="RUN|FILE", help="run folder, or weights file"),
        click.argument(
            "overrides",
            nargs=-1,
            metavar="[key=value]...",
            help="settings that replace those of the config: threat.eps=4/255 evaluation.seed=1, or model.name=... for "
            "a FILE",
        ),
        option("--config", type=FILE, metavar="CONFIG", help="YAML file with the model, data and threat for a FILE"),
        option(
            "--track", metavar="TRACK", show_default="live", help="track of a RUN: live, or the name of an ensemble"
        ),
        option(
            "--checkpoint",
            metavar="WHICH",
            show_default="best",
            help="weights of a RUN: best, last, or a weights file",
        ),
        option("--key", metavar="KEY", help="key of the weights in a FILE with several sets of them: state_dict, ema"),
    )
    for declare in reversed(declarations):
        function = declare(function)
    return function


def part_of(text: str, name: str) -> tuple[int, int]:
    """``"2/3"``, the value of the option ``name``, is the second of three parts.

    Raises:
        ConfigError: no such part.
    """
    match = _PART.fullmatch(text)
    part, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= parts:
        raise ConfigError(
            "expected a part and the number of parts, like 1/2 and 2/2 on two machines", key=f"{name} {text!r}"
        )
    return part, parts


run_argument = click.argument("run", type=FOLDER, metavar="RUN", help="run folder")
runs_option = option("--runs", type=FOLDER, metavar="FOLDER", default=Path("runs"), help="folder of all runs")
processes_option = option(
    "--processes",
    type=NUMBER,
    metavar="N",
    show_default="one, or those that torchrun or srun has started",
    help="number of processes on this machine that work together, started as by torchrun; each takes a GPU",
)
track_option = option("--track", metavar="TRACK", default="live", help="live, or the name of an ensemble")
json_option = option("--json", "as_json", is_flag=True, help="print JSON")


def checkpoint_option(default: str) -> Callable[[Function], Function]:
    """``--checkpoint best`` or ``last``."""
    return option("--checkpoint", type=WordType(["best", "last"]), default=default, help="weights of the run to use")


def launcher_options(function: Function) -> Function:
    """``--launcher submitit --launcher-option partition=gpu gpus_per_node=1``, as ``launcher`` and its settings."""
    function = option(
        "--launcher-option",
        "launcher_settings",
        cls=Pairs,
        metavar="key=value...",
        help="settings of the launcher, all words after it up to the next option; may be repeated",
    )(function)
    return option(
        "--launcher",
        metavar="NAME",
        default="local",
        help="where the runs are carried out, listed by: buttress plugins list --kind launcher",
        shell_complete=launchers,
    )(function)


def trust_option(owner: str = "the run") -> Callable[[Function], Function]:
    """``--trust``, for the code that comes with ``owner``."""
    return option(
        "--trust",
        is_flag=True,
        help=f"execute the code of {owner} (its plugins_file, the modules of its targets), and remember it as trusted",
    )
