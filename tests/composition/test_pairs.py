"""Every pair of plugins is refused with its reason, or trains and leaves the effect of both."""

import functools
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Batch, Engine, ThreatModel
from buttress.errors import PluginError
from buttress_plugins.data.digits import Digits

from ..models import FourStages
from .pairs import PAGE, REFUSED, SETTINGS, at_place, document, entry, pairs

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples" / "external_plugin"))

ATTACKS, LOSSES = set(at_place("attack")), set(at_place("loss"))
# Where a plugin is taken away, this one stands in: a step needs an attack, and cross_entropy is the default loss.
STAND_IN = {**dict.fromkeys(ATTACKS, "clean"), "clean": "fgsm", "cross_entropy": "alp"}


def plugin(name: str) -> Any:
    if name != "centralize":
        return entry(name)
    from buttress_centralize import Centralize

    return Centralize()


@cache
def batches() -> tuple[Batch, ...]:
    train = Digits(train_per_class=6, label_noise=0.2).load(0).train
    return tuple(train.batches(torch.arange(len(train)), 30))


@cache
def outcome(names: frozenset[str]) -> dict[str, Tensor]:
    """Weights, buffers and tracks after two epochs of the stack ``names``, in the order of the table."""
    torch.manual_seed(0)
    model = FourStages()
    stack = [plugin(name) for name in SETTINGS if name in names]
    sgd = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)
    engine = Engine(model, sgd, stack, ThreatModel("linf", "1/10"), epochs=2, batches=batches, validation=batches)
    for epoch in range(2):
        engine.set_lr(0.1**epoch, epoch)
        for batch in batches():
            engine.step(batch.x, batch.y, index=batch.index)
        engine.end_epoch()
    actual = dict(model.state_dict())
    for track in engine.tracks():
        actual |= {f"{track.name}: {name}": value for name, value in (track.weights or {}).items()}
    assert all(bool(torch.isfinite(value).all()) for value in actual.values())
    return actual


def complete(names: set[str]) -> frozenset[str]:
    return frozenset(names if names & ATTACKS else names | {"pgd"})


def without(names: frozenset[str], name: str) -> frozenset[str]:
    rest = set(names - {name})
    stand_in = STAND_IN.get(name)
    if stand_in and not rest & (ATTACKS if name in ATTACKS else LOSSES):
        rest.add(stand_in)
    return frozenset(rest)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("pair", pairs(), ids="+".join)
def test_a_pair_is_refused_with_its_reason_or_both_have_their_effect(pair: tuple[str, str]):
    if frozenset(pair) in REFUSED:
        with pytest.raises(PluginError) as refusal:
            outcome(frozenset(pair) if set(pair) & ATTACKS else complete(set(pair)))
        assert all(f"'{name}'" in str(refusal.value) for name in pair)
        return
    names = complete(set(pair))
    together = outcome(names)
    for name in pair:
        assert not same(together, outcome(without(names, name))), f"{name} leaves no effect beside the other"


def test_the_document_is_that_of_the_table():
    assert PAGE.read_text(encoding="utf-8") == document(), "run python -m tests.composition.pairs"
