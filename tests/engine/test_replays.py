"""Several steps in a row on each batch: augmented alike, attacked anew."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Batch
from buttress.errors import ConfigError

from ..core.helpers import batch_of, clean_attack, engine_of, plugin
from ..models import MLP, ConvNet

AUGMENT = {"augment": {"pad": 1, "rotation": 20}}


def watcher(seen: list[tuple[Tensor, Tensor]]) -> Any:
    """An attack of one random start that keeps what it was given, and its own draw."""

    def generate_adv(self: Any, batch: Batch, ctx: Any) -> Tensor:
        noise = torch.rand(batch.x.shape, generator=ctx.generator("start"))
        seen.append((batch.x, noise))
        return batch.x

    return plugin("watcher", generate_adv=generate_adv)


def steps(replays: int, count: int, first: int = 0) -> list[tuple[Tensor, Tensor]]:
    """What the attack sees in steps ``first`` to ``count - 1`` of an epoch, two steps on each batch."""
    seen: list[tuple[Tensor, Tensor]] = []
    engine = engine_of(ConvNet(), AUGMENT, watcher(seen), replays=replays)
    engine._state.step = first
    for number in range(first, count):
        batch = batch_of(seed=number // 2)
        engine.step(batch.x, batch.y)
    return seen


def test_replays_are_augmented_alike_and_attacked_anew():
    seen = steps(replays=2, count=6)
    for one, other in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(one[0], other[0])
        assert not torch.equal(one[1], other[1])
    assert not torch.equal(steps(replays=1, count=2)[0][0], steps(replays=1, count=2)[1][0])


def test_the_first_replays_and_all_attacks_draw_as_without_replays():
    for number, (with_replays, without) in enumerate(zip(steps(2, 6), steps(1, 6), strict=True)):
        assert torch.equal(with_replays[0], without[0]) == (number % 2 == 0)
        assert torch.equal(with_replays[1], without[1])


def test_a_run_that_goes_on_in_the_middle_of_the_replays_draws_the_same():
    for one, other in zip(steps(2, 6)[3:], steps(2, 6, first=3), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_plugins_see_the_number_of_replays():
    seen: list[int] = []
    asks = clean_attack(start_run=lambda self, ctx: seen.append(ctx.replays))
    engine_of(MLP(), asks, replays=4, steps_per_epoch=8).start()
    engine_of(MLP(), asks).start()
    assert seen == [4, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replays": 0}, "replays: expected the number of steps on each batch, at least 1, got 0"),
        ({"replays": 1.5}, "replays: expected the number of steps on each batch, at least 1, got 1.5"),
        (
            {"replays": 2, "steps_per_epoch": 5},
            "steps_per_epoch: expected a multiple of replays, 2, as every step counts, got 5",
        ),
    ],
)
def test_numbers_of_replays_that_are_none_are_refused(options: Any, message: str):
    with pytest.raises(ConfigError, match=f"^engine: {re.escape(message)}$"):
        engine_of(MLP(), clean_attack(), **options)
