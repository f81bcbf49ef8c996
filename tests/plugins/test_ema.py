"""EMA against its recurrence, written out in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from buttress_plugins.ensembles.ema import EMA, decay

from ..models import ConvNet
from .conftest import assert_same, batch_of, engine_of, parameters, pooled_statistics, state, train


def engine_with(model: ConvNet, **settings: Any) -> Any:
    return engine_of(model, "fgsm", {"ema": settings})


def step(engine: Any, seed: int) -> None:
    batch = batch_of(seed=seed, dtype=next(engine.model.parameters()).dtype)
    engine.step(batch.x, batch.y)


def arrays(values: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.double().numpy().copy() for name, value in values.items()}


def close(weights: dict[str, Tensor], expected: dict[str, np.ndarray], rtol: float = 1e-12) -> None:
    assert set(weights) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name].double().numpy(), value, rtol=rtol, atol=1e-14, err_msg=name)


def only_track(engine: Any) -> Any:
    (track,) = engine.tracks()
    return track


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("warmup", [False, True])
def test_the_average_follows_the_recurrence_after_every_step(tau: float, warmup: bool):
    model = ConvNet().double()
    engine = engine_with(model, tau=tau, warmup=warmup)
    average = arrays(parameters(model))  # begins as the untrained weights
    for d in range(12):
        step(engine, d)
        if d % 4 == 3:
            engine.end_epoch()
        now = arrays(parameters(model))
        past = min(tau, (1 + d) / (10 + d)) if warmup else tau
        average = {name: past * average[name] + (1 - past) * now[name] for name in average}
        close(only_track(engine).weights, average)


def test_the_average_begins_late_where_the_epoch_is_moved_past_its_start():
    model = ConvNet()
    engine = engine_with(model, start=2, tau=0.5)
    engine.epoch = 3
    assert only_track(engine).weights is None
    step(engine, 0)
    close(only_track(engine).weights, arrays(parameters(model)))


@pytest.mark.parametrize(
    ("tau", "step", "warmup", "expected"),
    [
        (0.999, 0, True, 0.1),
        (0.999, 1, True, 2 / 11),
        (0.999, 8, True, 0.5),
        (0.999, 8989, True, 8990 / 8999),
        (0.999, 8990, True, 0.999),
        (0.999, 10**6, True, 0.999),
        (0.05, 0, True, 0.05),
        (0.999, 0, False, 0.999),
    ],
)
def test_the_warm_up_is_that_of_seat(tau: float, step: int, warmup: bool, expected: float):
    assert float(decay(tau, torch.tensor(step), warmup)) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("start", [2, 0.34])
def test_a_start_at_an_epoch_copies_the_weights_at_its_beginning(start: float):
    model = ConvNet().double()
    engine = engine_with(model, tau=0.9, start=start, warmup=True)
    for epoch in range(2):
        train(engine, 1)
        assert (only_track(engine).weights is None) == (epoch < 1)
    average = arrays(parameters(model))
    close(only_track(engine).weights, average, rtol=0)
    for d in range(3):
        step(engine, d)
        now = arrays(parameters(model))
        past = min(0.9, (1 + d) / (10 + d))
        average = {name: past * average[name] + (1 - past) * now[name] for name in average}
    close(only_track(engine).weights, average)


def test_a_fraction_that_rounds_to_the_first_epoch_starts_with_the_untrained_weights():
    model = ConvNet()
    before = parameters(model)
    engine = engine_with(model, tau=1.0, start=0.1, warmup=False)
    train(engine, 2)
    assert_same(only_track(engine).weights, before)


def test_by_default_a_short_run_forgets_the_untrained_weights():
    model = ConvNet()
    before = parameters(model)
    engine = engine_with(model)
    for d in range(40):
        step(engine, d)
    share = 1.0  # of the untrained weights in the average
    for d in range(40):
        share *= min(0.999, (1 + d) / (10 + d))
    assert share < 1e-6
    assert any(not torch.equal(weight, before[name]) for name, weight in only_track(engine).weights.items())
    assert EMA().warmup


@pytest.mark.parametrize(
    ("settings", "noted"),
    [
        ({"warmup": False}, "tau 0.999 remembers 1,000 steps, and the run has 120 from start on"),
        ({"warmup": False, "start": 0.5}, "tau 0.999 remembers 1,000 steps, and the run has 60 from start on"),
        ({"warmup": False, "tau": 1.0}, "tau 1 remembers inf steps"),
        ({"warmup": False, "tau": 0.99}, ""),
        ({}, ""),
        ({"warmup": False, "start": 12}, ""),  # it never starts: another note says so
    ],
)
def test_a_memory_longer_than_the_run_is_noted(settings: dict[str, Any], noted: str):
    notes = list(EMA(**settings).notes(12, 10))
    assert len(notes) == bool(noted)
    assert all(noted in note and "leave out warmup: false" in note for note in notes)


def test_the_live_training_does_not_notice():
    plain, averaged = engine_of(ConvNet(), "fgsm"), engine_with(ConvNet(), buffers="ema", warmup=True)
    train(plain, 2)
    train(averaged, 2, each=lambda _: averaged.tracks())
    assert_same(state(plain.model), state(averaged.model))


def test_seat_averages_all_float_buffers_and_keeps_integer_ones_live():
    model = ConvNet().double()
    model.register_buffer("table", torch.ones(2, dtype=torch.float64))
    engine = engine_with(model, warmup=True, buffers="ema", track="seat")
    average = {name: value for name, value in arrays(state(model)).items() if not name.endswith("tracked")}
    for d in range(6):
        step(engine, d)
        model.table += 1
        now = arrays({**state(model), "table": model.table - 1})
        past = min(0.999, (1 + d) / (10 + d))
        average = {name: past * average[name] + (1 - past) * now[name] for name in average}
    track = only_track(engine)
    assert (track.name, track.buffers) == ("seat", "given")
    close({**track.weights, **track.given_buffers}, average)
    assert set(track.given_buffers) == {"bn.running_mean", "bn.running_var", "table"}
    with engine.track(track, lambda: pytest.fail("no batches are needed")):
        inside = state(model)
    assert inside["bn.num_batches_tracked"].item() == 6
    close({name: inside[name] for name in average}, average)


def test_copied_buffers_are_the_live_ones():
    model = ConvNet()
    engine = engine_with(model, buffers="copy")
    train(engine, 2)
    live = state(model)
    track = only_track(engine)
    assert track.buffers == "live"
    with engine.track(track, lambda: pytest.fail("no batches are needed")):
        inside = state(model)
    for name in ("bn.running_mean", "bn.running_var", "bn.num_batches_tracked"):
        assert torch.equal(inside[name], live[name])
    assert not torch.equal(inside["linear.weight"], live["linear.weight"])


def test_reestimated_buffers_are_those_of_the_averaged_weights():
    model = ConvNet()
    engine = engine_with(model, tau=0.5)
    train(engine, 2)
    track = only_track(engine)
    assert (track.buffers, track.bn_inputs) == ("reestimate", "clean")
    batches = [batch_of(7, 1), batch_of(4, 2)]
    with engine.track(track, lambda: batches):
        inside = state(model)
    averaged = ConvNet()
    averaged.load_state_dict({**state(averaged), **track.weights})
    mean, variance = pooled_statistics(averaged, [batch.x for batch in batches])
    np.testing.assert_allclose(inside["bn.running_mean"].numpy(), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(inside["bn.running_var"].numpy(), variance, rtol=1e-4, atol=1e-7)


def test_a_model_without_float_buffers_can_be_averaged_with_them():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    engine = engine_of(model, "fgsm", {"ema": {"buffers": "ema"}})
    step(engine, 0)
    assert only_track(engine).buffers == "live"


def test_a_frozen_parameter_is_constant():
    model = ConvNet()
    model.conv.weight.requires_grad_(False)
    engine = engine_with(model, tau=0.7)
    train(engine, 2)
    assert torch.equal(only_track(engine).weights["conv.weight"], model.conv.weight)


def test_the_average_shares_no_memory_with_the_model():
    model = ConvNet()
    engine = engine_with(model)
    engine.start()
    live = {weight.data_ptr() for weight in model.parameters()}
    assert not live & {weight.data_ptr() for weight in only_track(engine).weights.values()}


@pytest.mark.parametrize("start", [0, 1, 5])
def test_the_average_begins_before_a_step_of_the_run(start: int):
    """As in the code of Wang et al. (2023): before step W, counted from 1, it is the model; in it, d is 0."""
    model = ConvNet().double()
    engine = engine_with(model, start_step=start, tau=0.9)
    average: dict[str, np.ndarray] = {}
    for number in range(9):
        before = arrays(parameters(model))
        step(engine, number)
        if number % 4 == 3:
            engine.end_epoch()
        now, warmup_steps, delta = arrays(parameters(model)), start + 1, number + 1 - (start + 1)
        past = min(0.9, (1 + delta) / (10 + delta)) if number + 1 >= warmup_steps else 0.0
        average = {name: past * (average or before)[name] + (1 - past) * now[name] for name in now}
        if number >= start:
            close(only_track(engine).weights, average)


def test_the_average_of_a_step_resumes(tmp_path: Any):
    results = []
    for stops in (False, True):
        model = ConvNet().double()
        engine = engine_with(model, start_step=3, tau={"linear": [[0, 0.2], [3, 0.9]]})
        for number in range(8):
            step(engine, number)
            if number % 2:
                engine.end_epoch()
            if stops and number in (1, 5):
                saved, weights = engine.state_dict(), model.state_dict()
                optimizer = engine.optimizer.state_dict()
                again = ConvNet().double()
                engine = engine_with(again, start_step=3, tau={"linear": [[0, 0.2], [3, 0.9]]})
                again.load_state_dict(weights)
                engine.load_state_dict(saved)
                engine.optimizer.load_state_dict(optimizer)
                model = again
        results.append(only_track(engine).weights)
    assert_same(results[0], results[1])


def test_tau_may_follow_a_schedule_over_the_epochs():
    model = ConvNet().double()
    engine = engine_with(model, tau={"piecewise": [[0, 0.0], [1, 0.5]]}, warmup=False)
    step(engine, 0)
    average = arrays(parameters(model))
    close(only_track(engine).weights, average)
    engine.end_epoch()
    step(engine, 1)
    now = arrays(parameters(model))
    close(only_track(engine).weights, {name: (average[name] + now[name]) / 2 for name in now})


def test_an_epoch_and_a_step_to_begin_at_are_refused_together():
    with pytest.raises(ValueError, match="start_step: takes the place of start, and start is 2"):
        EMA(start=2, start_step=10)


def test_a_step_that_never_comes_is_noted():
    assert EMA(start_step=100).notes(2, 50) == ["start_step 100 never comes: the run has 100 steps"]
    assert EMA(start_step=99).notes(2, 50) == []
    assert "tau 0.999 remembers" in EMA(start_step=50, warmup=False).notes(2, 50)[0]
