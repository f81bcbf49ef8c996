"""Write what the code says of itself into the pages of docs/reference/; a test compares the pages with this.

    commands      verbs of the command line and their options, from its click commands
    config        sections and keys of a config, from its schema
    components    data sets, models, schedules, loggers, attack losses and launchers of buttress, with their settings
    shelf         names that a plugin may import, from ``__all__`` of the author's shelf

``python scripts/reference_pages.py`` brings the pages up to date.

The reference of commands lies in the repository, so that it can be read without a site and a test can find it out of
date. A plugin such as mkdocs-click would write it only while the site is built.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from generated import code, filled, prose, table
from pydantic import BaseModel

from buttress.authoring.inventory import description_of, keys_of
from buttress.authoring.inventory_text import as_yaml
from buttress.cli.main import buttress
from buttress.components.sources import sources
from buttress.config.schema import Config

PAGES = Path(__file__).parent.parent / "docs" / "reference"
_KINDS = {
    "dataset": "Data sets",
    "model": "Models",
    "schedule": "Schedules",
    "logger": "Loggers",
    "attack_loss": "Attack losses",
    "launcher": "Launchers",
}


def page(name: str) -> str:
    """The page ``name`` as it should read."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    return filled(text, {part: lambda _, make=make: make() for part, make in PARTS.items()})


# The command line


def commands() -> str:
    """A section for each verb: what it does, how it is called, its arguments."""
    return "\n\n".join(map(_command, verbs(click.Context(buttress, info_name="buttress"))))


def verbs(group: click.Context) -> Iterator[click.Context]:
    """The verbs of a group; in place of a verb that is a group itself, its own."""
    assert isinstance(group.command, click.Group)
    for name, command in group.command.commands.items():
        verb = click.Context(command, parent=group, info_name=name)
        yield from verbs(verb) if isinstance(command, click.Group) else [verb]


def _command(verb: click.Context) -> str:
    rows = [_argument(each, verb) for each in verb.command.params]
    usage = " ".join([verb.command_path, *filter(None, verb.command.collect_usage_pieces(verb))])
    parts = [f"## {verb.command_path}", prose(verb.command.help or ""), f"```text\n{usage}\n```"]
    return "\n\n".join([*parts, table(["argument", "value", "meaning"], rows)] if rows else parts)


def _argument(parameter: click.Parameter, verb: click.Context) -> list[str]:
    value = parameter.make_metavar(verb)
    if isinstance(parameter, click.Option):
        shown = "" if parameter.is_flag else value.strip("[]").replace("|", " | ")
        return [code(", ".join(parameter.opts)), code(shown), prose(parameter.help or "")]
    return [code(value), "", prose(parameter.help or "")]


# The config


def config() -> str:
    """A table for the keys at the top, and one for each section."""
    scalars = [row for row in keys_of(Config) if not section(row["name"])]
    parts = [f"## Keys at the top\n\n{_keys(scalars)}"]
    for name in Config.model_fields:
        if model := section(name):
            document = prose(" ".join((model.__doc__ or "").split()).removeprefix(f"``{name}``: "))
            parts.append(f"## {code(name)}\n\n{document[:1].upper()}{document[1:]}\n\n{_keys(keys_of(model))}")
    return "\n\n".join(parts)


def section(key: str) -> type[BaseModel] | None:
    """The model of a section of the config; None where ``key`` is a plain one."""
    kinds = getattr(Config.model_fields[key].annotation, "__args__", (Config.model_fields[key].annotation,))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


# Components


def components() -> str:
    """A section for each kind, and in it one for each component that comes with buttress."""
    parts = []
    for kind, heading in _KINDS.items():
        parts.append(f"## {heading}")
        for source in sources(kind):
            if source.distribution == "buttress":
                facts = description_of(kind, source.name, cost=False)
                settings = _keys(facts["settings"]) if facts["settings"] else "No settings."
                parts.append(f"### {code(source.name)}\n\n{prose(facts['summary'])}\n\n{settings}")
    return "\n\n".join(parts)


def _keys(rows: Sequence[dict[str, Any]]) -> str:
    cells = [[code(r["name"]), prose(r["type"]), code(as_yaml(r["default"])), prose(r["meaning"])] for r in rows]
    return table(["key", "type", "default", "meaning"], cells)


# The author's shelf


SHELF = {
    "buttress": "types.md",
    "buttress.data": "data.md",
    "buttress.functional": "functional.md",
    "buttress.images": "images.md",
    "buttress.kernels": "kernels.md",
    "buttress.nn": "nn.md",
    "buttress.settings": "settings.md",
    "buttress.testing": "testing.md",
}
"""Module to the page that says more."""


def shelf() -> str:
    """A table: each module that a plugin may import from, its names, the page that says more of them."""
    return table(["import from", "names", "more"], [_board(module, page) for module, page in SHELF.items()])


def _board(module: str, page: str) -> list[str]:
    names = importlib.import_module(module).__all__
    return [
        code(module),
        ", ".join(code(name) for name in names if not name.startswith("_")),
        f"[{page.removesuffix('.md').replace('_', ' ')}]({page})",
    ]


PARTS: dict[str, Callable[[], str]] = {part.__name__: part for part in (commands, config, components, shelf)}


def main() -> None:
    for name in PARTS:
        (PAGES / f"{name}.md").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
