"""Learning-rate factors at hand-computed times."""

from typing import Any

import pytest

from buttress.errors import ConfigError
from buttress.schedule import SCHEDULES, Constant, Piecewise
from buttress.settings import in_code, settings_model, validate


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


@pytest.mark.parametrize(("milestones", "resolved"), [([150, 100], "150, 100"), ([5, 5], "5, 5"), ([0.5, 5], "5, 5")])
def test_milestones_must_increase(milestones: Any, resolved: str):
    with pytest.raises(ConfigError, match=rf"expected increasing epochs, got \[{resolved}\]"):
        Piecewise(milestones=milestones).drops(10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"schedule\.milestones: required"),
        ({"milestones": [1.0]}, r"schedule\.milestones\.0: expected a 0-based epoch"),
        ({"milestones": [5], "factor": 0}, r"schedule\.factor: .*greater than 0"),
        ({"milestones": [5], "per": "step"}, r"schedule\.per: expected 'epoch' or 'batch'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        validate(settings_model(SCHEDULES["piecewise"]), settings, in_code("schedule"))
