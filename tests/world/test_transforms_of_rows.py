"""Transforms where each rank is given its rows of a batch alone."""

from functools import cache
from typing import Any

import pytest
import torch

from buttress import Batch
from buttress.engine.split import part_of
from buttress.engine.world import World

from .ranks import Ranks
from .runs import difference, engine_of, trained

ATTACK: dict[str, Any] = {"fgsm": {}}
STACKS = {
    "augment": [{"augment": {"pad": 1, "rotation": 20}}, {"cutout": {"size": 2}}, ATTACK],
    "autoaugment": [{"autoaugment": {"start": 0, "cutout": 2}}, ATTACK],
    "idbh": [{"idbh": {"max_shift": 2}}, ATTACK],
    "two views": ["consistency", {"augment": {"pad": 1}}, {"idbh": {"max_shift": 2}}, {"cutout": {"size": 2}}, ATTACK],
}


@cache
def alone(name: str) -> Any:
    return trained(World(), STACKS[name])


@pytest.mark.parametrize("name", STACKS)
def test_rows_alone_give_the_numbers_of_one_process(ranks: Ranks, name: str):
    one = alone(name)
    for answer in ranks.call(trained, STACKS[name], False, True):
        for part in ("state", "losses", "records"):
            assert difference(one[part], answer[part]) < 1e-9, part


def coefficients(world: World, name: str) -> tuple[int, set[float]]:
    """Number of rows of this rank, and the shares in (0, 1) that its mixed labels have."""
    engine = engine_of(world, [{name: {"alpha": 1.4}}, ATTACK])
    x, rows = torch.rand(60, 1, 4, 4, dtype=torch.float64), world.rows(60)
    part = part_of(Batch(x, torch.arange(60) // world.size % 3), rows)
    with engine._state.on_rows(rows):
        y = engine.hooks.transform_batch(part).y
    return len(y), set(y[(y > 0) & (y < 1)].tolist())


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixed_rows_have_one_coefficient_on_all_ranks(ranks: Ranks, name: str):
    (count, shares), *others = ranks.call(coefficients, name)
    assert count == 60 // ranks.size
    assert len(shares) == 2
    assert all(answer == (count, shares) for answer in others)
