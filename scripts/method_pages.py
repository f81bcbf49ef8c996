"""Write what code and measurements know into the pages of docs/methods/; a test compares the pages with this.

A page is written by hand, but for its parts between ``<!-- generated: PART -->`` and ``<!-- end -->``:

    facts                 hooks, exit order, code, paper, recipes
    settings [ATTACK]     a table of settings: the page's plugin's, or those of an attack of evaluations
    cost [SETTINGS, ...]  passes that the plugin adds to a training step, counted; also with each of the settings
    refused               the plugins that the core refuses beside it, and why
    digits                what was measured on label-noise digits (``method_results.py``)
    index                 the catalogue: all pages, by hook

``python scripts/method_pages.py`` brings them up to date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import generated
import yaml
from generated import table
from method_results import COMMON, TRACKS, digits, plugins_of, summary

from buttress.authoring import inventory
from buttress.components.sources import find, load, sources
from buttress.hookspecs import TITLES, main_hook
from buttress.testing.passes import KINDS, NOTHING, Added, added_by
from buttress.testing.subject import Subject

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for the table of refusals, which a test tries pair by pair
PAGES = ROOT / "docs" / "methods"

# Folders of recipes, and the plugins that nearly every recipe in them uses beside its method.
RECIPES = {"digits": COMMON, "cifar10/linf": COMMON | {"augment", "clip_grad"}}
# Settings for the counts of the index, for plugins whose defaults would do nothing in the counted step: the losses of
# an untrained network of ten classes lie above RWP's c_min.
TYPICAL: dict[str, dict[str, Any]] = {"rwp": {"c_min": "inf"}}

describe = cache(partial(inventory.description_of, cost=False))


def plugins() -> list[str]:
    """Names of the built-in plugins."""
    return [source.name for source in sources("plugin") if source.distribution == "buttress"]


def page(name: str) -> Path:
    return PAGES / f"{name}.md"


def filled(name: str) -> str:
    """The page ``name`` as it should read."""
    parts = {part: partial(make, name) for part, make in PARTS.items()}
    return generated.filled(page(name).read_text(encoding="utf-8"), parts)


# Facts


def facts(name: str, _: str) -> str:
    known = describe("plugin", name)
    plugin = Subject(load(find("plugin", name)), name=name).plugin().plugin
    rows = [["hooks", ", ".join(f"`{hook}` {kind}" for hook, kind in _hooks(known).items())]]
    if "perturb_weights" in _hooks(known):
        rows.append(["exit order", f"`{plugin.exit_order}`"])
    module, _, class_name = known["entry point"].partition(":")
    rows.append(["code", f"[`{class_name}`](../../plugins/{module.replace('.', '/')}.py)"])
    if known["paper"]:
        rows.append(["paper", known["paper"]])
    if recipes := _recipes(name):
        rows.append(["recipes", ", ".join(f"[{each}](../../configs/{each}.yaml)" for each in recipes)])
    return table(["", ""], rows)


def _hooks(known: Mapping[str, Any]) -> dict[str, str]:
    """Hook to what the plugin does there: ``(provides)``."""
    return dict(hook.split(" ") for hook in known["hooks"])


def _recipes(name: str) -> list[str]:
    """The recipes of the method alone; of one that has none, those with it."""
    having = {recipe: own for recipe, own in _methods().items() if name in own}
    return [recipe for recipe, own in having.items() if (own - TRACKS or own) == {name}] or list(having)


@cache
def _methods() -> dict[str, set[str]]:
    """Recipe to the plugins that make it what it is."""
    methods = {}
    for folder, common in RECIPES.items():
        for path in sorted((ROOT / "configs" / folder).glob("*.yaml")):
            names = set(plugins_of(path))
            methods[f"{folder}/{path.stem}"] = names - common or names & COMMON
    return methods


# Settings


def settings(name: str, attack: str) -> str:
    known = describe("attack" if attack else "plugin", attack or name)["settings"]
    if not known:
        return "None."
    rows = [[f"`{s['name']}`", s["type"], _default(s["default"]), _code(s["meaning"])] for s in known]
    return table(["setting", "type", "default", "meaning"], rows)


def _default(value: object) -> str:
    return "required" if value == "required" else f"`{json.dumps(value) if not isinstance(value, str) else value}`"


def _code(text: str) -> str:
    return text.replace("``", "`")


def _code_list(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


# Cost


def cost(name: str, more: str) -> str:
    rows = []
    for chosen in [{}, *yaml.safe_load(more or "[]")]:
        difference = _difference(name, json.dumps(chosen))
        rows.append([_chosen(chosen) or "the defaults", *map(difference.cell, KINDS)])
    return table(["with", "forwards", "backwards to the input", "backwards to the weights"], rows)


def _chosen(settings: Mapping[str, Any]) -> str:
    return _code_list(
        f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()
    )


@cache
def _difference(name: str, chosen: str) -> Added:
    return added_by(Subject(load(find("plugin", name)), json.loads(chosen), name))


# Refusals


def refused(name: str, _: str) -> str:
    from tests.composition.pairs import REFUSED

    by_reason: dict[str, list[str]] = {}
    for pair, reason in REFUSED.items():
        if name in pair:
            by_reason.setdefault(reason, []).extend(f"[`{other}`]({other}.md)" for other in pair - {name})
    if not by_reason:
        return "The core refuses nothing beside it."
    lines = [f"- {', '.join(sorted(others))}: {reason}." for reason, others in by_reason.items()]
    return "\n".join(["Refused beside it, before step 1:", "", *lines])


# The index


def index(*_: str) -> str:
    """All methods, a table for each main hook; ``docs/assets/catalogue.js`` filters them by their hooks."""
    described = {name: describe("plugin", name) for name in plugins()}
    header = ["method", "hooks", "adds to a step", "paper", "on digits"]
    parts = []
    for hook, title in TITLES.items():
        rows = [
            [f"[`{name}`]({name}.md)<br>{what(name)}", _code_list(_own(known)), _added(name), short(known["paper"]),
             summary(name)]
            for name, known in described.items()
            if main_hook(_hooks(known)) == hook
        ]  # fmt: skip
        if rows:
            parts.append(f"## {title.capitalize()}: `{hook}`\n\n{table(header, rows)}")
    return "\n\n".join(parts)


def _own(known: Mapping[str, Any]) -> list[str]:
    """The hooks that say what a plugin is, in the order of a step."""
    return [hook for hook in TITLES if hook in _hooks(known) and hook not in ("start_run", "end_run")]


def what(name: str) -> str:
    """The description of the method in the heading of its page."""
    heading = page(name).read_text(encoding="utf-8").partition("\n")[0]
    return heading.partition(": ")[2]


def short(paper: str) -> str:
    """``Wu et al., arXiv:2004.05884``, the number a link."""
    authors = [each for each in paper.partition(' "')[0].strip(",").split(", ") if each]
    who = f"{authors[0]} et al." if len(authors) > 1 else "".join(authors)
    if number := re.search(r"arXiv:(\d+\.\d+)", paper):
        return f"{who}, [{number[0]}](https://arxiv.org/abs/{number[1]})"
    year = re.search(r"([A-Z]+ )?\b\d{4}\b", paper)
    return f"{who}, {year[0]}" if year else who


def _added(name: str) -> str:
    chosen = TYPICAL.get(name, {})
    text = str(_difference(name, json.dumps(chosen))).replace(NOTHING, "nothing")
    return f"{text} (with {_chosen(chosen)})" if chosen else text


PARTS: dict[str, Callable[[str, str], str]] = {
    part.__name__: part for part in (facts, settings, cost, refused, digits, index)
}


def main() -> None:
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(filled(path.stem), encoding="utf-8")


if __name__ == "__main__":
    main()
