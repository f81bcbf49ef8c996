"""A warm-up in front of every kind of schedule, at hand-computed times."""

from math import cos, pi
from pathlib import Path
from typing import Any

import pytest

from buttress.config.file import ConfigFile
from buttress.config.schedule import Schedule
from buttress.config.schedules import Constant, Cosine, Linear, Piecewise
from buttress.config.warm_up import WarmUp
from buttress.config.yaml_source import parse_yaml
from buttress.errors import InputError

BATCHES = 4


def at_batches(schedule: Schedule, first: int, last: int, epochs: int) -> list[float]:
    """The factors of all batches of the epochs from ``first`` to before ``last``, as the trainer asks for them."""
    times = [epoch + (i + 1) / BATCHES for epoch in range(first, last) for i in range(BATCHES)]
    return [schedule.factor(t if schedule.per == "batch" else float(int(t)), epochs) for t in times]


def test_the_factor_rises_batch_by_batch_to_that_of_the_schedule():
    schedule = WarmUp(Constant(), 2, 0.2)
    assert at_batches(schedule, 0, 3, 3) == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1, 1, 1, 1])
    assert schedule.factor(0.0, 3) == 0.2


def test_a_schedule_of_epochs_goes_on_in_epochs_after_the_warm_up():
    schedule = WarmUp(Piecewise(milestones=[1, 3, 4], factor=[0.8, 0.5, 0.1]), 2.5)
    factors = at_batches(schedule, 0, 5, 5)
    assert factors[:10] == pytest.approx([0.08 * step for step in range(1, 11)])  # to 0.8 after ten batches
    assert factors[10:] == pytest.approx([0.8] * 2 + [0.4] * 4 + [0.04] * 4)
    assert schedule.drops(5) == [3, 4]


def test_a_drop_at_the_end_of_the_warm_up_comes_after_it():
    assert at_batches(WarmUp(Piecewise(milestones=[1]), 1), 0, 2, 2) == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, *[0.1] * 4]
    )


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        # timm's: the half cosine of the whole run, whose beginning the warm-up replaces; here the line meets it.
        (0, [(1 + cos(pi / 5)) / 4, (1 + cos(pi / 5)) / 2, (1 + cos(3 * pi / 5)) / 2, 0.0]),
        # Hugging Face's: the half cosine begins at the end of the warm-up.
        (2, [0.5, 1.0, 0.5, 0.0]),
    ],
)
def test_both_usual_forms_of_a_cosine_behind_a_warm_up(start: int, expected: list[float]):
    schedule = WarmUp(Cosine(start=start), 2)
    times = [1.0, 2.0, 6.0, 10.0]
    assert [schedule.factor(t, 10) for t in times] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("length", "end"), [(0.05, 1.5), (0.1, 3.0), (7, 7.0), (2.25, 2.25)])
def test_the_length_may_be_a_share_of_the_run_which_is_not_floored(length: float, end: float):
    schedule = WarmUp(Linear(knots=[0], factors=[1.0], final=0.0, per="batch"), length)
    assert schedule.factor(end / 2, 30) == pytest.approx((1 - end / 30) / 2)
    assert schedule.factor(end, 30) == pytest.approx(1 - end / 30)


# In a config

CONFIG = """name: a
data: {name: digits}
model: {name: mlp}
threat: {norm: l2, eps: 1}
plugins: [clean]
optimizer: {lr: 0.1}
epochs: 10
"""
OWN = '''"""A schedule."""


class Halves:
    """Half the learning rate from the second epoch on."""

    per = "epoch"

    def factor(self, t, epochs):
        return 0.5 if t >= 1 else 1.0

    def drops(self, epochs):
        return [1]
'''


def scheduled(section: str, folder: Path = Path()) -> tuple[Schedule, dict[str, Any]]:
    return ConfigFile(parse_yaml(CONFIG + f"schedule: {section}\n", str(folder / "a.yaml"))).schedule(10)


@pytest.mark.parametrize(
    "name",
    [
        *("constant", "cosine", "cyclic", "onecycle"),
        *("piecewise, milestones: [5]", "multistep, milestones: [5]", "linear, knots: [5], factors: [1], final: 0"),
    ],
)
def test_every_schedule_takes_a_warm_up(name: str):
    alone, settings = scheduled(f"{{name: {name}}}")
    schedule, same = scheduled(f"{{name: {name}, warmup: 2, warmup_from: 0.1}}")
    assert settings == same
    assert schedule.factor(0.0, 10) == pytest.approx(0.1)
    assert schedule.factor(1.0, 10) == pytest.approx((0.1 + alone.factor(2.0, 10)) / 2)
    assert [schedule.factor(t, 10) for t in (7.0, 10.0)] == [
        alone.factor(t if alone.per == "batch" else t - 1, 10) for t in (7.0, 10.0)
    ]


def test_a_target_takes_a_warm_up_too(tmp_path: Path):
    (tmp_path / "own_halves.py").write_text(OWN)
    schedule, _ = scheduled("{target: 'own_halves:Halves', warmup: 2}", tmp_path)
    assert [schedule.factor(t, 10) for t in (1.0, 2.0, 3.0)] == [0.25, 0.5, 0.5]


def test_a_warm_up_of_zero_is_none():
    assert isinstance(scheduled("{name: cosine, warmup: 0}")[0], Cosine)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{warmup: 10}", "a.yaml:8: schedule.warmup: expected a warm-up shorter than the run, got 10 of 10"),
        ("{warmup: 12.5}", "a.yaml:8: schedule.warmup: expected a warm-up shorter than the run, got 12.5 of"),
        ("{warmup: 1.0}", "a.yaml:8: schedule.warmup: expected a time in epochs"),
        (
            "{warmup_from: 0.1}",
            "a.yaml:8: schedule: warmup_from is the factor at the start of a warm-up; give",
        ),
        ("{warmup: 1, warmup_from: -1}", "a.yaml:8: schedule.warmup_from: expected greater than or equal to 0, got -1"),
    ],
)
def test_a_wrong_warm_up_is_one_error(section: str, message: str):
    with pytest.raises(InputError) as caught:
        scheduled(section)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
