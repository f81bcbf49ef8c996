"""Learning-rate factors at hand-computed times."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR

from buttress.components.place import Place
from buttress.components.signature import settings_model
from buttress.components.validation import validate
from buttress.config.schedule import Schedule, expect_factors
from buttress.config.schedules import Constant, Cosine, Cyclic, Linear, MultiStep, OneCycle, Piecewise
from buttress.config.warm_up import WarmUp
from buttress.errors import ConfigError


def test_constant_is_one_and_never_drops():
    assert [Constant().factor(t, 10) for t in (0.0, 5.5, 9.0)] == [1.0, 1.0, 1.0]
    assert Constant().drops(10) == []


@pytest.mark.parametrize(
    ("t", "factor"), [(0, 1.0), (99, 1.0), (99.999, 1.0), (100, 0.1), (149, 0.1), (150, 0.01), (199, 0.01)]
)
def test_piecewise_drops_at_each_milestone(t: float, factor: float):
    assert Piecewise(milestones=[100, 150]).factor(t, 200) == pytest.approx(factor, rel=1e-15)


def test_the_last_batch_of_an_epoch_has_the_next_epochs_value_when_asked_per_batch():
    schedule = Piecewise(milestones=[100], per="batch")
    batches = 390
    factors = [schedule.factor(99 + (i + 1) / batches, 200) for i in range(batches)]
    assert factors[:-1] == [1.0] * (batches - 1)
    assert factors[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("milestones", "epochs", "drops"),
    [([0.5, 0.75], 200, [100, 150]), ([0.4, 0.8], 48, [19, 38]), ([10, 0.5], 30, [10, 15]), ([], 9, [])],
)
def test_milestones_may_be_fractions_of_the_epochs(milestones: Any, epochs: int, drops: list[int]):
    assert Piecewise(milestones=milestones).drops(epochs) == drops


@pytest.mark.parametrize(
    ("t", "factor"), [(0, 1.0), (4, 1.0), (5, 0.5), (7.4, 0.5), (7.5, 0.1), (8.9, 0.1), (9, 0.02), (10, 0.02)]
)
def test_every_drop_may_have_a_factor_of_its_own_and_lie_inside_an_epoch(t: float, factor: float):
    schedule = Piecewise(milestones=[5, 7.5, 0.9], factor=[0.5, 0.2, 0.2], per="batch")
    assert schedule.factor(t, 10) == pytest.approx(factor, rel=1e-12)
    assert schedule.drops(10) == [5, 7.5, 9]


def test_a_drop_inside_an_epoch_comes_with_the_step_that_ends_there():
    schedule = Piecewise(milestones=[1.3], per="batch")  # 1.3 of epochs of ten steps: after step 13
    factors = [schedule.factor(epoch + (i + 1) / 10, 2) for epoch in range(2) for i in range(10)]
    assert factors == [1.0] * 12 + [0.1] * 8


def test_a_share_of_steps_that_is_a_whole_epoch_is_exactly_that():
    epochs = 130 / 7  # 130 steps, seven an epoch; in floats, 0.7 of them is 13.000000000000002
    assert Piecewise(milestones=[0.7]).drops(epochs) == [13]
    schedule = WarmUp(Piecewise(milestones=[13]), 0.7)
    assert (schedule.factor(13.0, epochs), schedule.factor(13 + 1 / 7, epochs)) == (1.0, 0.1)
    assert schedule.drops(epochs) == [13]


@pytest.mark.parametrize("drop", range(1, 10))
def test_a_share_of_a_run_of_steps_is_exactly_so_many_steps(drop: int):
    schedule = Piecewise(milestones=[drop / 10], per="batch")  # of ten steps, three an epoch: times are rounded
    factors = [schedule.factor(step // 3 + (step % 3 + 1) / 3, 10 / 3) for step in range(10)]
    assert factors == [1.0] * (drop - 1) + [0.1] * (11 - drop)


@pytest.mark.parametrize("factor", [[0.1], [0.1, 0.1, 0.1], []])
def test_another_number_of_factors_than_of_milestones_is_refused(factor: list[float]):
    with pytest.raises(ConfigError, match=rf"^factor: .*one for each of the 2 milestones, got {len(factor)}$"):
        Piecewise(milestones=[1, 2], factor=factor)


def test_a_drop_inside_an_epoch_needs_a_learning_rate_of_every_batch():
    with pytest.raises(ConfigError, match=r"^milestones: a drop at 7\.5 lies inside an epoch, .*; set per: batch"):
        Piecewise(milestones=[7.5]).drops(10)
    assert Linear(knots=[7.5], factors=[1.0], final=0.0).factor(8, 10) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Piecewise(milestones=[5, 10]), r"^milestones: a time of 10 epochs never comes: the run has 10;"),
        (MultiStep(milestones=[12]), r"^milestones: a time of 12 epochs never comes: the run has 10;"),
        (Piecewise(milestones=[10.5], per="batch"), r"^milestones: a time of 10\.5 epochs never comes"),
        (Linear(knots=[3, 30], factors=[1.0, 0.1], final=0.0), r"^knots: a time of 30 epochs never comes"),
        (Cosine(start=10), r"^start: a time of 10 epochs never comes"),
    ],
)
def test_a_time_after_the_end_of_the_run_is_refused(schedule: Schedule, message: str):
    with pytest.raises(ConfigError, match=message):
        schedule.factor(0, 10)


@pytest.mark.parametrize(("milestones", "resolved"), [([150, 100], "150, 100"), ([5, 5], "5, 5"), ([0.5, 5], "5, 5")])
def test_milestones_must_increase(milestones: Any, resolved: str):
    with pytest.raises(ConfigError, match=rf"expected increasing epochs, got \[{resolved}\]"):
        Piecewise(milestones=milestones).drops(200 if 150 in milestones else 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"schedule\.milestones: required"),
        ({"milestones": [1.0]}, r"or a share of the run in \(0, 1\), got 1\.0"),
        ({"milestones": [-1]}, r"schedule\.milestones\.0: expected a time in epochs .*got -1"),
        ({"milestones": [True]}, r"schedule\.milestones\.0: expected a time in epochs .*got True"),
        ({"milestones": [float("inf")]}, r"schedule\.milestones\.0: expected a time in epochs .*got inf"),
        ({"milestones": [5], "factor": 0}, r"^schedule\.factor: expected a factor > 0, or a list .*, got 0$"),
        ({"milestones": [5], "factor": [0.1, 0]}, r"^schedule\.factor: expected a factor > 0, .*got \[0\.1, 0\]$"),
        ({"milestones": [5], "per": "step"}, r"schedule\.per: expected 'epoch' or 'batch'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        validate(settings_model(Piecewise), settings, Place("schedule"))


# The other schedules, at hand-computed points


@pytest.mark.parametrize(("t", "factor"), [(0, 1.0), (40, 1.0), (60, 0.55), (80, 0.1), (100, 0.055), (120, 0.01)])
def test_linear_is_the_polygon_of_the_seat_lineage(t: int, factor: float):
    schedule = Linear(knots=[40, 80], factors=[1.0, 0.1], final=0.01)
    assert schedule.factor(t, 120) == pytest.approx(factor, abs=1e-12)


def test_linear_counts_from_one_where_its_lineage_does():
    schedule = Linear(knots=[40, 80], factors=[1.0, 0.1], final=0.01, count_from=1)
    assert schedule.factor(79, 120) == pytest.approx(0.1, abs=1e-12)
    assert schedule.factor(119, 120) == pytest.approx(0.01, abs=1e-12)


def test_linear_knots_may_be_fractions_and_need_a_factor_each():
    assert Linear(knots=[0.5, 0.75], factors=[1.0, 0.1], final=0.01).drops(120) == [60, 90]
    with pytest.raises(ConfigError, match="one factor for each knot"):
        Linear(knots=[0.5], factors=[1.0, 0.1], final=0.01).drops(120)
    with pytest.raises(ConfigError, match="increasing"):
        Linear(knots=[0.75, 0.5], factors=[1.0, 0.1], final=0.01).drops(120)


@pytest.mark.parametrize(("t", "factor"), [(0, 1.0), (50, 0.75), (100, 0.5), (150, 0.25), (200, 0.0)])
def test_cosine_is_half_a_cosine(t: int, factor: float):
    expected = {50: (1 + 2**-0.5) / 2, 150: (1 - 2**-0.5) / 2}.get(t, factor)
    assert Cosine().factor(t, 200) == pytest.approx(expected, abs=1e-12)
    assert Cosine(final=0.1).factor(t, 200) == pytest.approx(0.1 + 0.9 * expected, abs=1e-12)


@pytest.mark.parametrize(
    ("start", "t", "factor"), [(40, 0, 1), (40, 40, 1), (40, 80, 0.75), (0.2, 120, 0.5), (40, 200, 0)]
)
def test_a_cosine_may_begin_later(start: float, t: int, factor: float):
    expected = {0.75: (1 + 2**-0.5) / 2}.get(factor, factor)
    assert Cosine(start=start).factor(t, 200) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("t", "factor"), [(0, 0.0), (6, 0.5), (12, 1.0), (21, 0.5), (30, 0.0)])
def test_cyclic_goes_up_and_down(t: int, factor: float):
    assert Cyclic().factor(t, 30) == pytest.approx(factor, abs=1e-12)


# Against torch


STEPS, EPOCHS = 12, 5


def torch_factors(make: Callable[[SGD], Any], steps: int) -> list[float]:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for _ in range(steps):
        factors.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("peak", [0.3, 0.25])
def test_onecycle_is_torchs(anneal: Literal["cos", "linear"], peak: float):
    steps = STEPS * EPOCHS
    theirs = {"pct_start": peak, "anneal_strategy": anneal, "div_factor": 10.0, "final_div_factor": 50.0}
    expected = torch_factors(lambda sgd: OneCycleLR(sgd, 1.0, total_steps=steps + 1, **theirs), steps + 1)
    own = OneCycle(peak=(peak * (steps + 1) - 1) / steps, start=1 / 10, final=1 / 500, anneal=anneal)
    times = [0.0, *(epoch + (i + 1) / STEPS for epoch in range(EPOCHS) for i in range(STEPS))]
    assert [own.factor(t, EPOCHS) for t in times] == pytest.approx(expected, abs=1e-12)
    assert own.drops(EPOCHS) == []


def test_the_defaults_of_onecycle_are_torchs():
    expected = torch_factors(lambda sgd: OneCycleLR(sgd, 1.0, total_steps=9), 9)
    assert (OneCycle().start, OneCycle().final) == pytest.approx((expected[0], expected[-1]))


def test_multistep_is_torchs():
    expected = torch_factors(lambda sgd: MultiStepLR(sgd, milestones=[3, 7], gamma=0.2), 10)
    own = MultiStep(milestones=[3, 7], gamma=0.2)
    assert [own.factor(epoch, 10) for epoch in range(10)] == pytest.approx(expected, rel=1e-12)
    assert own.drops(10) == [3, 7]


def test_a_schedule_whose_attributes_raise_is_one_message():
    class Odd(Constant):
        @property
        def per(self) -> str:
            raise KeyError("per")

    with pytest.raises(ConfigError, match=r"^mine: KeyError: 'per' \(test_schedule\.py:\d+\)$"):
        expect_factors(Odd(), 3, "mine")


@pytest.mark.parametrize(
    "make",
    [
        lambda per: Piecewise(milestones=[1], per=per),
        lambda per: Linear(knots=[1], factors=[1.0], final=0.0, per=per),
        lambda per: Cosine(per=per),
        lambda per: Cyclic(per=per),
        lambda per: OneCycle(per=per),
        lambda per: MultiStep(milestones=[1], per=per),
    ],
    ids=["piecewise", "linear", "cosine", "cyclic", "onecycle", "multistep"],
)
def test_a_misspelt_unit_of_time_is_refused_where_a_schedule_is_made_in_python(make: Callable[[Any], Any]):
    with pytest.raises(ConfigError, match=r"^per: expected 'epoch' or 'batch', got 'bach'; did you mean 'batch'"):
        make("bach")
    with pytest.raises(ConfigError, match=r"^per: expected 'epoch' or 'batch', got None$"):
        make(None)


def test_a_misspelt_unit_of_time_of_an_own_schedule_is_refused_before_training():
    own = Constant()
    own.per = "epochs"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"^mine: .*per .*got 'epochs'; did you mean 'epoch'"):
        expect_factors(own, 2, "mine")


@pytest.mark.parametrize(
    ("milestones", "epochs", "drops"),
    [
        ([0.4, 0.8], 10, [4, 8]),
        ([0.4, 0.8], 2, [1, 1]),
        ([0.1, 0.4, 0.8], 2, [1, 1, 1]),
        ([0.4, 0.8], 1, [1, 1]),
        ([0, 0.8], 2, [0, 1]),
    ],
)
def test_a_share_of_few_epochs_does_not_drop_the_learning_rate_from_the_start(
    milestones: list[int | float], epochs: int, drops: list[int]
):
    schedule = Piecewise(milestones=milestones)
    assert schedule.drops(epochs) == drops
    assert schedule.factor(0, epochs) == (0.1 if 0 in milestones else 1.0)


def test_an_early_share_behind_an_epoch_is_no_increasing_milestone():
    with pytest.raises(ConfigError, match=r"expected increasing epochs, got \[1, 0\]"):
        Piecewise(milestones=[1, 0.1]).drops(5)


def test_the_first_epoch_behind_an_early_share_is_no_increasing_milestone():
    with pytest.raises(ConfigError, match="expected increasing epochs, got"):
        Piecewise(milestones=[0.05, 0]).drops(5)
