"""The state of an engine: a run that goes on from it is the same run."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Batch, Context, Engine
from buttress.errors import CheckpointError, HookError

from ..core.helpers import SHORT_PGD, assert_same, batch_of, clean_attack, engine_of, plugin, snapshot, step
from ..models import MLP, ConvNet


def stateful_engine(model: nn.Module) -> Engine:
    return engine_of(
        model,
        "pgd",
        {"ema": {"tau": 0.5, "warmup": True}},
        {"swa": {"start": 0}},
        {"meat": {"start": 0, "history": "memory"}},
        epochs=4,
    )


def test_a_run_continued_from_its_state_is_the_same_run():
    whole, half, rest = ConvNet(), ConvNet(), ConvNet(seed=5)
    one, two = stateful_engine(whole), stateful_engine(half)
    for engine in (one, two):
        for seed in range(3):
            step(engine, seed)
        engine.end_epoch()
        step(engine, 3)
    three = stateful_engine(rest)
    rest.load_state_dict(half.state_dict())
    three.load_state_dict(two.state_dict())
    three.optimizer.load_state_dict(two.optimizer.state_dict())
    assert (three.epoch, three.epoch_step, three.global_step) == (1, 1, 4)
    for engine in (one, three):
        step(engine, 4)
        engine.end_epoch()
    assert_same(snapshot(whole), snapshot(rest))
    for a, b in zip(one.tracks(), three.tracks(), strict=True):
        assert a.name == b.name
        assert_same(dict(sorted(a.weights.items())), dict(sorted(b.weights.items())))


def test_going_back_in_time_draws_again_what_was_drawn():
    engine, seen = engine_of(MLP(), SHORT_PGD, lr=0.0), list[Tensor]()
    state = engine.state_dict()
    seen.append(step(engine).adv.x)
    engine.load_state_dict(state)
    seen.append(step(engine).adv.x)
    engine.epoch = 0
    seen.append(step(engine).adv.x)
    assert all(torch.equal(x, seen[0]) for x in seen)


def test_a_step_that_failed_draws_the_same_when_it_is_tried_again():
    fails = [False, True]

    def once(self: Any, model: nn.Module) -> None:
        if fails.pop():
            raise RuntimeError("not now")

    engine = engine_of(MLP(), SHORT_PGD, plugin("once", adjust_grads=once))
    with pytest.raises(HookError, match="not now"):
        step(engine)
    assert torch.equal(step(engine).adv.x, step(engine_of(MLP(), SHORT_PGD)).adv.x)


def test_a_start_run_that_raised_is_called_again():
    calls: list[str] = []

    def start_run(self: Any) -> None:
        calls.append("start")
        if len(calls) == 1:
            raise RuntimeError("no teacher")

    engine = engine_of(MLP(), clean_attack(), plugin("teacher", start_run=start_run))
    with pytest.raises(HookError, match="no teacher"):
        step(engine)
    step(engine)
    step(engine)
    assert len(calls) == 2


def test_the_loss_that_the_core_takes_is_said(caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", logger="buttress"):
        engine_of(MLP(), clean_attack(), "trades")
        assert not caplog.records
        engine_of(MLP(), clean_attack())
    assert "the loss is cross_entropy" in caplog.text


def test_an_engine_that_is_dropped_frees_its_model():
    model = ConvNet()
    engine = engine_of(model, "pgd", "ema", batches=lambda: [batch_of()])
    step(engine)
    there = weakref.ref(model)
    del engine, model
    assert there() is None


def test_training_on_does_not_change_a_state_that_was_loaded():
    one = stateful_engine(ConvNet())
    step(one)
    state = one.state_dict()
    kept = {name: value.clone() for name, value in state["plugins"]["ema"]["average"].items()}
    other = stateful_engine(ConvNet(seed=5))
    other.load_state_dict(state)
    step(other, 1)
    assert_same(kept, state["plugins"]["ema"]["average"])


def test_the_state_of_another_stack_is_refused():
    state = engine_of(MLP(), "pgd", "ema").state_dict()
    with pytest.raises(CheckpointError, match=r"plugins \['ema'\], this run has \['swa'\]; resume with the config"):
        engine_of(MLP(), "pgd", "swa", epochs=2).load_state_dict(state)


def test_records_are_means_and_survive_in_the_state():
    values = iter([1.0, torch.tensor(4.0), 7.0])
    recording = clean_attack(adjust_grads=lambda self, ctx: ctx.record("v", next(values)))
    one, two = engine_of(MLP(), recording), engine_of(MLP(), recording)
    step(one)
    step(one)
    two.load_state_dict(one.state_dict())
    step(two)
    assert one.records() == {"attack.v": 2.5}
    assert one.records() == {}
    assert two.records() == {"attack.v": 4.0}


@pytest.mark.parametrize("value", [torch.ones(3), torch.tensor(1j), "1", None, [1.0]], ids=str)
def test_a_record_that_is_no_number_is_refused_in_the_name_of_its_plugin(value: object):
    recording = clean_attack(adjust_grads=lambda self, ctx: ctx.record("v", value))
    with pytest.raises(HookError, match=r"(?s)attack.*ctx\.record\('v'\): expected a number"):
        step(engine_of(MLP(), recording))


def test_an_engine_and_its_contexts_tell_the_same_place_and_only_the_engine_may_be_moved():
    shown = ["threat", "device", "epochs", "steps_per_epoch", "epoch", "global_step"]
    seen = []

    def compute_loss(self: Any, batch: Batch, ctx: Context) -> Tensor:
        seen.append({name: getattr(ctx, name) for name in shown})
        for name in shown:
            with pytest.raises(AttributeError):
                setattr(ctx, name, getattr(ctx, name))
        return torch.ones(len(batch.y), requires_grad=True)

    engine = engine_of(MLP(), "clean", plugin("loss", compute_loss=compute_loss), epochs=4, steps_per_epoch=2)
    engine.epoch, engine.global_step = 2, 5
    told = {name: getattr(engine, name) for name in shown}
    step(engine)
    assert seen[0] == told
    assert (told["epoch"], told["global_step"]) == (2, 5)
