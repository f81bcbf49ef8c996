"""Runs the blocks of a page, in order, in the working folder; they share files, and its Python blocks a namespace."""

import contextlib
import io
import shlex
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from buttress.cli import main
from buttress.components.validation import validate
from buttress.config.schema import Config
from buttress.config.yaml_source import parse_yaml

from .blocks import DOCS, Block, blocks

# What a fragment of a config is put upon, to be checked as a whole.
_WHOLE = {
    "name": "fragment",
    "data": {"name": "digits"},
    "model": {"name": "preact_tiny"},
    "threat": {"norm": "linf", "eps": "1/10"},
    "plugins": ["pgd"],
    "optimizer": {"lr": 0.1},
    "epochs": 10,
}


class PageError(AssertionError):
    """A block of a page does not do what it says."""


def run_page(page: str, environment: Mapping[str, str], *, everything: bool = False) -> None:
    """Run a page's blocks.

    Args:
        page: relative to ``docs/``.
        environment: variables of the shell.
        everything: the slow blocks too, and every command in a shell; else a block of ``buttress`` commands alone
            runs in this process, which has torch loaded already.

    Raises:
        PageError: a command failed, or a fragment of a config is not valid.
    """
    skipped = {"not run"} if everything else {"not run", "slow"}
    here, before = str(Path.cwd()), set(sys.modules)
    namespace = {"__name__": f"page_{Path(page).stem}"}
    sys.path.insert(0, here)
    try:
        for block in blocks(page):
            if block.mark in skipped:
                continue
            _run(block, f"{page}:{block.line}", environment, namespace, everything)
    finally:
        sys.path[:] = [path for path in sys.path if path != here]
        for name in set(sys.modules) - before:  # modules that the page wrote: another page may write one of that name
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(here):
                del sys.modules[name]


def _run(block: Block, place: str, environment: Mapping[str, str], namespace: dict[str, Any], shell: bool) -> None:
    if block.title is not None:
        path = Path(block.title)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.code, encoding="utf-8")
    elif block.language == "python":
        code = compile("\n" * block.line + block.code, str(DOCS / place.partition(":")[0]), "exec")
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="The given buffer is not writable"
            )  # torch.export.load; exporting.md
            exec(code, namespace)
    elif block.language in ("sh", "console"):
        quick = not shell and all(command.removeprefix("! ").startswith("buttress ") for command in block.commands)
        (_in_process if quick else _in_shell)(block.commands, place, environment)
    elif block.language in _CHECKS:
        _CHECKS[block.language](block.code, place)


def _in_shell(commands: list[str], place: str, environment: Mapping[str, str]) -> None:
    script = ["bash", "-euo", "pipefail", "-c", "\n".join(commands)]
    done = subprocess.run(script, env=dict(environment), capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise PageError(f"{place}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")


def _in_process(commands: list[str], place: str, environment: Mapping[str, str]) -> None:
    for command in commands:
        words = _expanded(command.removeprefix("! "), environment)[1:]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = main(words)
        if bool(code) != command.startswith("! "):
            raise PageError(f"{place}: {shlex.join(words)}: exit {code}\n{said.getvalue()}")


def _expanded(command: str, environment: Mapping[str, str]) -> list[str]:
    """The words of a command as the shell makes them: globs, braces and quotes done, comments gone."""
    printed = ["bash", "-c", f"printf '%s\\0' {command}"]
    done = subprocess.run(printed, env=dict(environment), capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def _check_yaml(code: str, place: str) -> None:
    """A config, or a part of one."""
    source = parse_yaml(code, place)
    assert isinstance(source.value, dict), f"{place}: expected keys of a config"
    validate(Config, _WHOLE | source.value, source.place)


def _check_toml(code: str, place: str) -> None:
    tomllib.loads(code)


_CHECKS: dict[str, Callable[[str, str], None]] = {"yaml": _check_yaml, "toml": _check_toml}
