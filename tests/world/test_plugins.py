"""Every built-in plugin on several ranks: the numbers of one process."""

from ast import literal_eval
from functools import cache
from typing import Any

import pytest

from buttress.engine.world import World

from ..plugins.catalogue import CATALOGUE
from .ranks import Ranks
from .runs import difference, trained

SMALL = {"apgd": {"targets": 2}, "augment": {"pad": 1}}  # of 4 x 4 pixels and three classes


def fitted(entry: Any) -> Any:
    """An entry with the settings that the small network needs."""
    name, settings = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    small = {} if name == "apgd" and not isinstance(settings.get("targets"), int) else SMALL.get(name, {})
    return {name: {**settings, **CATALOGUE[name].on_conv_net, **small}}


def quicker(entry: Any) -> Any:
    """``entry`` with three attack steps in the place of ten."""
    ((name, settings),) = entry.items()
    return {name: {**settings, "steps": 3}} if settings.get("steps") == 10 else entry


STACKS = [
    pytest.param(size, name, [quicker(fitted(entry)) for entry in stack], id=f"{size}-{name}-{number}")
    for name, row in CATALOGUE.items()
    for number, (stack, _) in enumerate(row.costs)
    for size in ((2, 3) if number == 0 else (3,))
]


@cache
def alone(name: str, stack: str) -> Any:
    return trained(World(), literal_eval(stack), extra=name == "rst")


@pytest.mark.parametrize(("ranks", "name", "stack"), STACKS, indirect=["ranks"])
def test_a_plugin_gives_the_numbers_of_one_process(ranks: Ranks, name: str, stack: list[Any]):
    one = alone(name, repr(stack))
    answers = ranks.call(trained, stack, name == "rst")
    for answer in answers:
        for part in ("state", "tracks", "losses", "records"):
            assert difference(one[part], answer[part]) < 1e-9, part
    assert all(answer["counts"] == answers[0]["counts"] for answer in answers)
