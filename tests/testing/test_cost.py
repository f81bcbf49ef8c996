"""The cost of a plugin on the bench: passes by kind and the examples in them, step by step, with it and without it."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from buttress import Batch, hookimpl
from buttress.components.sources import find, load
from buttress.nn import evaluating
from buttress.testing.cost import cost_of
from buttress.testing.passes import KINDS, Spread, added_by
from buttress.testing.subject import Subject

from . import broken


@pytest.mark.parametrize(
    ("name", "passes"),
    [("pgd", (10, 10, 0)), ("trades", (1, 0, 1)), ("awp", (1, 0, 1)), ("swa", (0, 0, 0))],
)
def test_the_cost_of_a_plugin_is_what_it_adds_to_a_step(name: str, passes: tuple[int, int, int]):
    added = added_by(Subject(load(find("plugin", name)), None, name))
    assert [added.cell(kind) for kind in KINDS] == list(map(str, passes))
    assert all(added.more["whole"]["examples"][kind].high == 6 * n for kind, n in zip(KINDS, passes, strict=True))


class Doubles:
    """Gives the loss twice as many examples."""

    @hookimpl
    def transform_batch(self, batch):
        twice = torch.cat([batch.x, batch.x.flip(-1)])
        return Batch(twice, torch.cat([batch.y, batch.y]), None)


class Concatenates:
    """Looks at clean and adversarial examples in one forward."""

    @hookimpl
    def compute_loss(self, model, batch, adv):
        logits, logits_adv = model(torch.cat([batch.x, adv.x])).chunk(2)
        return F.cross_entropy(logits, batch.y, reduction="none") + F.cross_entropy(
            logits_adv, batch.y, reduction="none"
        )


class BeginsInside:
    """Takes the loss of mixed features: its forwards begin at the layers."""

    @hookimpl
    def compute_loss(self, model, batch, adv):
        hidden = F.relu(model.layer2(model.layer1(adv.x)))
        logits = model.layer4(F.relu(model.layer3(hidden + hidden.flip(0))).mean((2, 3)))
        return F.cross_entropy(logits, batch.y, reduction="none")


class Saves:
    """An attack that makes no pass, beside a loss that makes none either."""

    @hookimpl
    def compute_loss(self, model, batch):
        return model.layer4.weight.sum().expand(len(batch.y))


@pytest.mark.parametrize(
    ("component", "text"),
    [
        (
            Doubles,
            "+2 batches in forwards, +1 batch in backwards to the input, +1 batch in backwards to the weights",
        ),
        (Concatenates, "+1 batch in forwards, +1 batch in backwards to the weights"),  # the attack's is as it was
        (
            BeginsInside,
            "+4 forwards through parts of the model, +4 backwards to the weights through parts of the model, "
            "saves 1 forward, saves 1 backward to the weights",
        ),
        (Saves, "saves 1 forward, saves 1 backward to the weights"),
        (broken.Passes, "no passes"),
    ],
)
def test_the_cost_counts_examples_and_passes_that_begin_inside_and_says_what_is_saved(component: type, text: str):
    assert str(added_by(Subject(component))) == text


class Late:
    """Asks for one more forward of half the batch from the second epoch on, and for one at the end of every epoch."""

    @hookimpl(wrapper=True)
    def compute_loss(self, model, batch, ctx):
        if ctx.epoch > 0:
            model(batch.x[:3])
        return (yield)

    @hookimpl
    def ensemble_weights(self, model, event, ctx):
        if event == "epoch":
            with torch.no_grad(), evaluating(model):
                model(next(iter(ctx.batches("validation"))).x)


def test_the_cost_of_a_plugin_that_costs_in_some_steps_is_a_spread_over_all_of_them():
    subject = Subject(Late)
    assert str(added_by(subject)) == "+0 to 1 forward over 0 to 0.5 batches"
    cost = cost_of(subject)
    own, without = cost.own.step["whole"], cost.without.step["whole"]
    assert own["passes"]["forwards"] == Spread(2, 8 / 3, 3)  # of the attack, the loss, and from the third step its own
    assert own["examples"]["forwards"] == Spread(12, 14, 15)
    assert without["passes"]["forwards"] == Spread(2, 2, 2)
    assert cost.own.epoch_end["whole"]["examples"]["forwards"] == Spread(6, 6, 6)
    assert 0 < cost.own.milliseconds.low <= cost.own.milliseconds.high
    lines = str(cost).splitlines()
    assert max(map(len, lines)) <= 76
    rows = [re.split("  +", line) for line in lines]
    assert rows[2:4] == [["forwards", "2 to 3, mean 2.67", "2"], ["examples in them", "12 to 15, mean 14", "12"]]
    assert rows[8:11] == [["at the end of an epoch:"], ["forwards", "1", "0"], ["examples in them", "6", "0"]]
    assert (cost.waits, lines[-2]) == ([], "waits for no device")
    assert lines[-1] == "bench: conv, batch norm, conv, linear (336 weights); batches of 6x1x16x16"


class Reads:
    """Reads the largest loss in every step."""

    @hookimpl(wrapper=True)
    def compute_loss(self, ctx):
        loss = yield
        ctx.record("largest", loss.per_example.max().item())
        return loss


def test_the_cost_names_the_line_that_waits_for_the_device():
    cost = cost_of(Subject(Reads))
    line = Reads.compute_loss.__code__.co_firstlineno + 3
    assert cost.waits == [f"test_cost.py:{line}: _local_scalar_dense"]
    assert str(cost).splitlines()[-3:-1] == ["waits for the device in a step:", f"  {cost.waits[0]}"]


def test_nothing_in_a_cost_is_negative():
    cost = cost_of(Subject(Saves))
    assert cost.own.step["whole"]["passes"]["weight_backwards"].high == 0
    assert min([*_numbers(asdict(cost)), *_numbers(asdict(added_by(Subject(Saves))))]) == 0


def _numbers(tree: dict[str, Any]) -> Iterator[float]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif isinstance(value, (int, float)):
            yield value
