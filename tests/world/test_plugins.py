"""Every built-in plugin on several ranks: the numbers of one process."""

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


STACKS = [
    pytest.param(name, list(map(fitted, stack)), id=f"{name}-{number}")
    for name, row in CATALOGUE.items()
    for number, (stack, _) in enumerate(row.costs)
]


@cache
def alone(name: str, stack: str) -> Any:
    return trained(World(), eval(stack), extra=name == "rst")


@pytest.mark.parametrize(("name", "stack"), STACKS)
def test_a_plugin_gives_the_numbers_of_one_process(ranks: Ranks, name: str, stack: list[Any]):
    one = alone(name, repr(stack))
    answers = ranks.call(trained, stack, name == "rst")
    for answer in answers:
        for part in ("state", "tracks", "losses", "records"):
            assert difference(one[part], answer[part]) < 1e-9, part
    assert all(answer["counts"] == answers[0]["counts"] for answer in answers)
