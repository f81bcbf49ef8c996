"""The verb ``recipes list``: every config that comes with a distribution, and the rows of papers' tables among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

import click

from buttress.cli.answer import json_answer
from buttress.cli.options import json_option
from buttress.cli.verb import Group, Option

if TYPE_CHECKING:
    from buttress.config.recipe_facts import Facts
    from buttress.config.recipes import Recipe

    Listed = tuple[Recipe, Facts]

# The measure that a table of rows shows, if a row has it.
_SHOWN = "pgd-20"


@click.group(cls=Group)
def recipes() -> None:
    """List the configs that come with distributions."""


@recipes.command("list")
@click.argument(
    "pattern",
    default="",
    metavar="[PATTERN]",
    help="part of the names to list, or a pattern for it: cifar10, 'digits/*awp'",
)
@click.option("--paper", cls=Option, metavar="NAME", help="list the rows of the tables of this paper: piat")
@click.option("--dataset", cls=Option, metavar="NAME", help="list the recipes on this data set: cifar10")
@click.option("--model", cls=Option, metavar="NAME", help="list the recipes of this model: wrn_34_10")
@json_option
def recipes_list(pattern: str, paper: str | None, dataset: str | None, model: str | None, as_json: bool) -> str:
    """List everything that can be given as a config; import none of it."""
    named = {"paper": paper, "dataset": dataset, "model": model}
    asked = {fact: name for fact, name in named.items() if name is not None}
    listed = _listed(pattern, asked, with_facts=as_json or bool(asked))
    if as_json:
        return json_answer([_row(recipe, facts) for recipe, facts in listed])
    if not listed:
        such = " such" if asked else ""
        return f"no{such} recipe holds {pattern!r}" if pattern else f"no{such} recipes"
    return _tables(listed) if paper else _names(recipe for recipe, _ in listed)


def _listed(pattern: str, asked: Mapping[str, str], *, with_facts: bool) -> list[Listed]:
    """The installed recipes that hold ``pattern`` and have the facts that are asked for.

    Raises:
        ConfigError: no recipe has one of those facts, whatever it holds.
    """
    from buttress.config.recipe_facts import Facts, expect_known, facts_of
    from buttress.config.recipes import recipes as installed

    everything = [(recipe, facts_of(recipe.path) if with_facts else Facts()) for recipe in installed()]
    for fact, name in asked.items():
        expect_known(fact, name, (getattr(facts, fact) for _, facts in everything))
    holding = {recipe.path for recipe in installed(pattern)}
    return [
        (recipe, facts)
        for recipe, facts in everything
        if recipe.path in holding and all(getattr(facts, fact) == name for fact, name in asked.items())
    ]


def _row(recipe: Recipe, facts: Facts) -> dict[str, object]:
    return {
        "recipe": str(recipe),
        "distribution": recipe.distribution,
        "version": recipe.version,
        "summary": recipe.summary,
        "path": str(recipe.path),
        **asdict(facts),
    }


def _names(listed: Iterable[Recipe]) -> str:
    """The recipes of each distribution, with their summaries below them."""
    lines: list[str] = []
    for (distribution, version), group in groupby(listed, lambda recipe: (recipe.distribution, recipe.version)):
        lines += [f"{distribution} {version}", ""]
        for recipe in group:
            lines += [str(recipe), *([f"    {recipe.summary}"] if recipe.summary else [])]
        lines.append("")
    return "\n".join(lines[:-1])


def _tables(listed: Sequence[Listed]) -> str:
    """A table for each table of a paper, with what is published of each row."""
    from buttress.console.tables import table

    names = dict.fromkeys(name for _, facts in listed for name in facts.tables or [""])
    parts = ["In %, best/last; published by the authors, not measured here."]
    for name in names:
        rows = [(recipe, facts) for recipe, facts in listed if name in (facts.tables or [""])]
        measure = _measure(rows)
        cells = [[str(recipe), _cell(facts.published, measure)] for recipe, facts in rows]
        source = rows[0][1].source
        parts += [f"{name or 'no table'}{f' ({source})' if source else ''}", table(["recipe", measure], cells)]
    return "\n\n".join(parts)


def _measure(rows: Iterable[Listed]) -> str:
    """The measure that is shown of the rows: PGD-20, or else the first that any of them has."""
    measures = [_without_time(measure) for _, facts in rows for measure in facts.published]
    return _SHOWN if _SHOWN in measures or not measures else measures[0]


def _cell(published: dict[str, float], measure: str) -> str:
    return "/".join(f"{value:.2f}" for each, value in published.items() if _without_time(each) == measure)


def _without_time(measure: str) -> str:
    return measure.removesuffix(" best").removesuffix(" last")
