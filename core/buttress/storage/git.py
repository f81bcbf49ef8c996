"""Read the state of the git repository around the working folder without running any program of that repository.

An unpacked archive brings a ``.git/config`` of its owner's choice, and git runs programs that stand there: file system
monitors, hooks, filters, helpers that fetch what is missing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

_SECONDS = 10
# Longest list of a repository's own filters that is looked at; one with more has no state.
_MOST_FILTERS = 100

# No index is written, so no hook sees it change; nothing is fetched, by whatever protocol; nobody is asked.
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_TERMINAL_PROMPT": "0",
}
_SETTINGS = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, "core.pager": "cat"}


def git_state() -> dict[str, Any] | None:
    """``commit`` and ``dirty`` (whether files differ from it), or None where there is no repository or no git.

    Submodules are not looked into: each has a config of its own.
    """
    try:
        commit = _ask({}, "rev-parse", "--verify", "HEAD").strip()
        changed = _ask(_without_filters(), "status", "--porcelain", "--ignore-submodules=all")
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changed.strip())}


def _without_filters() -> dict[str, str]:
    """Settings that leave out every filter: to see whether a file has changed, git would run it on the file."""
    names = list(dict.fromkeys(_filters()))
    if len(names) > _MOST_FILTERS:
        raise ValueError(f"{len(names)} filters")
    keys = ("clean", "smudge", "process")
    return {f"filter.{name}.{key}": "" for name in names for key in keys} | {
        f"filter.{name}.required": "false" for name in names
    }


def _filters() -> Iterator[str]:
    """The names of the filters in all configs that git reads here."""
    for key in _ask({}, "config", "--null", "--name-only", "--list").split("\0"):
        section, _, rest = key.partition(".")
        name, dot, _ = rest.rpartition(".")
        if section == "filter" and dot:
            yield name


def _ask(settings: Mapping[str, str], *words: str) -> str:
    pairs = list((_SETTINGS | dict(settings)).items())
    environment = {**os.environ, **_ENVIRONMENT, "GIT_CONFIG_COUNT": str(len(pairs))}
    for number, (key, value) in enumerate(pairs):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    done = subprocess.run(
        ["git", "--no-pager", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_SECONDS,
        env=environment,
    )
    return done.stdout.decode("utf-8", "surrogateescape")
