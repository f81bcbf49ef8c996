"""A hook of MkDocs: ``<!-- insert: NAME -->`` in a page becomes what the code says of NAME.

commands      the verbs of the command line and their options, from its parser
config        every section and key of a config, from its schema
components    data sets, models, schedules and loggers with their settings, from the installed entry points
"""

import argparse
import html
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from mkdocs.exceptions import PluginError
from pydantic import BaseModel

from buttress.cli import make_parser
from buttress.config import Config
from buttress.discovery.inventory import describe, keys_of
from buttress.discovery.inventory_text import as_yaml
from buttress.registry import sources
from buttress.schedule import SCHEDULES
from buttress.settings import settings_model

_MARK = re.compile(r"^<!-- insert: (\w+) -->$", flags=re.MULTILINE)
_KINDS = {"dataset": "Data sets", "model": "Models", "logger": "Loggers"}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called with the source of every page, before it is rendered."""
    return _MARK.sub(lambda found: _part(found[1], page.file.src_uri), markdown)


def _part(name: str, page: str) -> str:
    if name not in PARTS:
        raise PluginError(f"{page}: nothing is called {name!r}; expected one of {', '.join(PARTS)}")
    return PARTS[name]()


def commands() -> str:
    """A section for each verb: what it does, how it is called, its arguments."""
    return "\n\n".join(_command(parser) for parser in verbs(make_parser()))


def verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all verbs; of those that have verbs themselves, those."""
    inner = [action.choices for action in parser._actions if isinstance(action.choices, dict)]  # argparse has no door
    if not inner:
        yield parser
    for choices in inner:
        for each in choices.values():
            yield from verbs(each)


def _command(parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = partial(argparse.HelpFormatter, width=100)
    usage = parser.format_usage().removeprefix("usage: ").strip()
    rows = [
        [code(", ".join(action.option_strings) or _metavar(action)), code(_values(action)), plain(action.help or "")]
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    arguments = table(["argument", "value", "meaning"], rows)
    return f"## {parser.prog}\n\n{parser.description}\n\n```text\n{usage}\n```\n\n{arguments}"


def _metavar(action: argparse.Action) -> str:
    return str(action.metavar or action.dest)


def _values(action: argparse.Action) -> str:
    """What follows an option."""
    if action.choices:
        return " | ".join(map(str, action.choices))
    return _metavar(action).upper() if action.option_strings and action.nargs != 0 else ""


def config() -> str:
    """A table for the keys at the top, and one for each section."""
    scalars = [row for row in keys_of(Config) if not _section(row["name"])]
    parts = [f"## Keys at the top\n\n{_keys(scalars)}"]
    for name in Config.model_fields:
        if section := _section(name):
            document = " ".join((section.__doc__ or "").split()).removeprefix(f"``{name}``: ")
            parts.append(f"## {code(name)} {{#{name}}}\n\n{document.capitalize()}\n\n{_keys(keys_of(section))}")
    return "\n\n".join(parts)


def _section(key: str) -> type[BaseModel] | None:
    """The model of a section of the config; None where ``key`` is a plain one."""
    kinds = getattr(Config.model_fields[key].annotation, "__args__", (Config.model_fields[key].annotation,))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def components() -> str:
    """A section for each kind, and in it one for each component that comes with buttress."""
    parts = []
    for kind, heading in _KINDS.items():
        parts.append(f"## {heading}")
        for source in sources(kind):
            if source.distribution == "buttress":
                facts = describe(kind, source.name)
                parts.append(_component(source.name, facts["summary"], facts["settings"]))
    parts.append("## Schedules")
    for name, schedule in SCHEDULES.items():
        summary = (schedule.__doc__ or "").split("\n\n")[0]
        parts.append(_component(name, summary, keys_of(settings_model(schedule))))
    return "\n\n".join(parts)


def _component(name: str, summary: str, settings: Sequence[dict[str, Any]]) -> str:
    return f"### {code(name)} {{#{name}}}\n\n{summary}\n\n{_keys(settings) if settings else 'No settings.'}"


def _keys(rows: Sequence[dict[str, Any]]) -> str:
    cells = [[code(r["name"]), plain(r["type"]), code(as_yaml(r["default"])), r["meaning"]] for r in rows]
    return table(["key", "type", "default", "meaning"], cells)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Text as code, also within a table, where a bar would end the cell."""
    return f"<code>{plain(text)}</code>" if text else ""


def plain(text: str) -> str:
    """Text in which nothing is markup."""
    return re.sub(r"[|*_`$\[\]]", lambda found: f"&#{ord(found[0])};", html.escape(text, quote=False))


PARTS: dict[str, Callable[[], str]] = {"commands": commands, "config": config, "components": components}
