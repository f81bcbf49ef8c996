"""Render the list of installed components, and the description of one, as text. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from buttress.components.sources import words
from buttress.config.yaml_source import dump_yaml
from buttress.console.tables import WIDTH, table
from buttress.hookspecs import TITLES, main_hook

# Number of columns of a description.
_WIDTH = 100
# Headings of the kinds of components that are not listed by hook.
_HEADINGS = {
    "attack": "attacks of evaluations",
    "model": "models",
    "dataset": "data sets",
    "logger": "loggers",
    "schedule": "schedules",
    "attack_loss": "attack losses",
    "launcher": "launchers",
    "unknown": "distributions that cannot be read",
}
_INDENT = "  "
# Hooks that say nothing of what a plugin does in training.
_AROUND_A_RUN = {"start_run", "end_run"}


def render_list(rows: Sequence[Mapping[str, Any]]) -> str:
    """An inventory as text: plugins by their main hooks in the order of a step, then the other kinds.

    The text is at most as wide as a terminal, but for long names.
    """
    if not rows:
        return "nothing"
    order = [*map(_heading_of_hook, [*TITLES, ""]), *_HEADINGS.values()]
    names = table([""] * 3, [(row["name"], f"{row['distribution']} {row['version']}", _remark(row)) for row in rows])
    entries: dict[str, list[str]] = {}
    for row, entry in zip(rows, names.splitlines()[2:], strict=True):
        lines = entries.setdefault(_heading(row), [])
        lines += [row["entry point"] if row["kind"] == "unknown" else entry, *_details(row)]
    return "\n\n".join(
        "\n".join([heading, *(f"{_INDENT}{line}" for line in entries[heading])])
        for heading in order
        if heading in entries
    )


def _heading(row: Mapping[str, Any]) -> str:
    if row["kind"] == "plugin":
        return _heading_of_hook(main_hook(row["hooks"].split(", ")))
    return _HEADINGS[row["kind"]]


def _heading_of_hook(hook: str) -> str:
    return f"{TITLES[hook]}: {hook}" if hook else "plugins whose hooks only an import shows (--check)"


def _remark(row: Mapping[str, Any]) -> str:
    """The remark behind a name: the status, unless it is only listed, and hooks beside the main one."""
    hooks = row["hooks"].split(", ") if row["kind"] == "plugin" else []
    others = [hook for hook in hooks if hook != main_hook(hooks) and hook not in _AROUND_A_RUN]
    status = row["status"].partition(": ")[0]
    remarks = [status if status != "listed" else "", f"also {', '.join(others)}" if any(others) else ""]
    return "; ".join(remark for remark in remarks if remark)


def _details(row: Mapping[str, Any]) -> list[str]:
    """Lines below the name: the reason of a status, and the facts from an import."""
    facts = {"why": row["status"].partition(": ")[2], "cost": row.get("cost"), "paper": row.get("paper")}
    return [line for key, text in facts.items() if text for line in _indented(f"{key}: {text}", WIDTH - len(_INDENT))]


def description_text(facts: Mapping[str, Any]) -> str:
    """A description as text."""
    lines = [
        f"{words(facts['kind'])} {facts['name']} ({facts['distribution']} {facts['version']}, {facts['entry point']})"
    ]
    lines += [f"another component of that name: --kind {kind}" for kind in facts["other kinds"]]
    if "status" in facts:
        lines += [f"status: {facts['status']}"]
    if "settings" not in facts:
        return "\n".join(lines)
    lines += [facts["summary"], "", facts["source"] or "", ""]
    facts_by_name = {
        "paper": facts["paper"],
        "hooks": ", ".join(facts["hooks"]),
        "cost, with these defaults": facts["cost"],
    }
    for key, text in facts_by_name.items():
        if text:
            lines += [f"{key}: {text}", ""]
    if facts["settings"]:
        rows = [[s["name"], s["type"], as_yaml(s["default"])] for s in facts["settings"]]
        head, rule, *entries = table(["setting", "type", "default"], rows).splitlines()
        lines += [head, rule]
        for entry, setting in zip(entries, facts["settings"], strict=True):
            lines += [entry, *_indented(setting["meaning"])]
    else:
        lines.append("no settings")
    return "\n".join(lines)


def _indented(text: str, width: int = _WIDTH) -> list[str]:
    return wrap(text, width=width, initial_indent="    ", subsequent_indent="    ")


def as_yaml(value: object) -> str:
    """A default as a config would have it."""
    if value is None:
        return "null"
    if isinstance(value, (dict, list)):
        return dump_yaml(value).strip()
    return str(value).lower() if isinstance(value, bool) else str(value)
