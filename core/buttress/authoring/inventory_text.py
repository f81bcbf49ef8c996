"""Render the list of installed components, and the description of one, as text. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from buttress.components.sources import words
from buttress.config.yaml_source import dump_yaml
from buttress.console.tables import table

# Number of columns of the text; a terminal has as many.
_WIDTH = 100


def render_list(rows: Sequence[Mapping[str, Any]]) -> str:
    """An inventory as text, at most ``_WIDTH`` wide but for long names, with the facts from imports below each name."""
    if not rows:
        return "nothing"
    if "hooks" not in rows[0]:
        return table(list(rows[0]), [list(row.values()) for row in rows])
    head = ("kind", "name", "distribution", "version", "status", "hooks")
    short = [{**row, "status": row["status"].partition(": ")[0]} for row in rows]
    top, rule, *entries = table(head, [[row[key] for key in head] for row in short]).splitlines()
    lines = [top, rule]
    for entry, row in zip(entries, rows, strict=True):
        why = row["status"].partition(": ")[2]
        details = (("why", why), ("cost", row["cost"]), ("paper", row["paper"]))
        lines += [entry, *(line for key, text in details if text for line in _indented(f"{key}: {text}"))]
    return "\n".join(lines)


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


def _indented(text: str) -> list[str]:
    return wrap(text, width=_WIDTH, initial_indent="    ", subsequent_indent="    ")


def as_yaml(value: object) -> str:
    """A default as a config would have it."""
    if value is None:
        return "null"
    if isinstance(value, (dict, list)):
        return dump_yaml(value).strip()
    return str(value).lower() if isinstance(value, bool) else str(value)
