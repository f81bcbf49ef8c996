"""A recipe: a config, the comment above it, and the numbers that its authors publish; written as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Body = dict[str, Any]
"""Sections of a config, without its name and its targets."""


@dataclass(frozen=True)
class Published:
    """Numbers of a paper.

    Args:
        source: authors, number of the paper, and network.
        values: measure (``pgd-20 best``) to accuracy in %.
        paper: short name of the paper, if the recipe is a row of its tables.
        tables: names of the tables that have the row.
        row: name of the row.
    """

    source: str
    values: Mapping[str, float]
    paper: str | None = None
    tables: tuple[str, ...] = ()
    row: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A file below configs/.

    Args:
        path: its path there, without the suffix: ``cifar10/linf/at``.
        head: lines of the comment above the config.
        body: sections of the config.
        published: numbers of the authors, or None.
    """

    path: str
    head: str
    body: Body
    published: Published | None = None

    @property
    def text(self) -> str:
        """The file's text: a line for each section and each plugin."""
        lines = [f"# {line}" for line in self.head.splitlines()]
        lines.append(f"name: {self.path.replace('/', '-')}")
        for section, value in self.body.items():
            if section == "plugins":
                lines += ["plugins:", *(f"  - {_inline(each)}" for each in value)]
            else:
                lines.append(f"{section}: {_inline(value)}")
        return "\n".join([*lines, *_targets(self.published)]) + "\n"


def _targets(published: Published | None) -> list[str]:
    if published is None:
        return []
    return [
        "targets:  # published by the authors, not measured here",
        f"  source: {_inline(published.source)}",
        *([] if published.paper is None else _row(published)),
        "  note: published, not measured here",
        f"  values: {{{', '.join(f'{measure}: {value}' for measure, value in published.values.items())}}}",
    ]


def _row(published: Published) -> list[str]:
    place = {"paper": published.paper, "tables": list(published.tables), "row": published.row}
    return [f"  {key}: {_inline(value)}" for key, value in place.items()]


class _Dumper(yaml.SafeDumper):
    """Sections in one line where they are short; 2.0e-3 for small numbers; nothing by reference."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _number(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value) if "." in repr(value) else repr(value).replace("e", ".0e")  # 5.0e-06: a float to YAML 1.1 too
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(float, _number)


def _inline(value: Any) -> str:
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), dict):
        ((name, settings),) = value.items()
        return f"{name}: {_inline(settings)}"
    dumped = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=10_000)
    return dumped.removesuffix("...\n").strip()
