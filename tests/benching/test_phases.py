"""What runs in a step is told apart from outside, and the step stays the same."""

import copy
from itertools import count
from typing import Any

import torch
from torch.optim import SGD

from buttress import Engine, ThreatModel
from buttress.benching.phases import PhaseMeter, phases_metered

from ..models import ConvNet

FULL = [
    {"pgd": {"steps": 2, "step_size": "1/40"}},
    {"amp": {"delta": 0.1}},
    {"clip_grad": {"norm": 1.0}},
    {"ema": {"tau": 0.9}},
    {"cutout": {"size": 2}},
]


def engine_of(plugins: list[Any]) -> Engine:
    model = ConvNet()
    return Engine(model, SGD(model.parameters(), lr=0.1, momentum=0.9), plugins, ThreatModel("linf", "1/10"))


def step(engine: Engine) -> None:
    torch.manual_seed(0)
    engine.step(torch.rand(6, 1, 4, 4), torch.arange(6) % 3)


def test_a_phase_within_another_one_is_a_part_of_it():
    meter = PhaseMeter(count().__next__)
    with meter.during("perturbation"), meter.during("attack"):
        pass
    with meter.during("attack"):
        meter.begin("loss and backward")
        meter.end("loss and backward")
    with meter.during("data"):
        with meter.during("data"):
            pass
        assert meter.phase == "data"
    assert meter.amounts == {"perturbation": 1, "attack": 1, "data": 1}
    assert not meter.phase


def test_a_step_has_every_phase_of_its_plugins_once():
    engine, ticks = engine_of(FULL), count()
    step(engine)
    meter = PhaseMeter(ticks.__next__)
    with phases_metered(engine, meter):
        step(engine)
    # A tick each, but for the perturbation: it is made, entered and left. Its attack and its losses are its own.
    assert meter.amounts == {
        "transform": 1,
        "attack": 1,
        "perturbation": 3,
        "loss and backward": 1,
        "adjust": 1,
        "optimizer": 1,
        "ensembles": 1,
    }


def test_a_metered_step_is_the_same_step():
    engines = [engine_of(FULL), engine_of(FULL)]
    found = [copy.copy(vars(each)) for each in (engines[0].hooks, engines[0]._step)]
    for number in range(2):
        step(engines[1])
        with phases_metered(engines[0], PhaseMeter(count().__next__)):
            step(engines[0])
        metered, plain = (dict(each.model.named_parameters()) for each in engines)
        assert all(torch.equal(metered[name], plain[name]) for name in plain), number
    assert [vars(each) for each in (engines[0].hooks, engines[0]._step)] == found


def test_a_meter_makes_the_engine_copy_nothing():
    engine = engine_of([{"pgd": {"steps": 1}}])
    step(engine)
    assert not engine._step._weights_may_need_restoring()
    with phases_metered(engine, PhaseMeter(count().__next__)):
        assert not engine._step._weights_may_need_restoring()
