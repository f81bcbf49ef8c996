"""FAWA: which epochs it averages, what it averages, and that it needs a validation split."""

from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Engine
from buttress.errors import ButtressError, DataError
from buttress_plugins.ensembles.fawa import FAWA, accuracies

from ..models import ConvNet
from .conftest import assert_same, batch_of, engine_of, state, train

HELD_OUT = [batch_of(9, seed=7), batch_of(4, seed=8)]


def engine(*stack: Any, **options: Any) -> Engine:
    return engine_of(ConvNet(), *stack, validation=lambda: HELD_OUT, **options)


def test_the_worst_class_is_the_lowest_accuracy_of_a_class_that_occurs():
    is_right = torch.tensor([True, False, True, True, False, True])
    robust, worst = accuracies(is_right, torch.tensor([0, 0, 3, 3, 3, 5]))
    assert robust == pytest.approx(4 / 6)
    assert worst == pytest.approx(1 / 2)


@pytest.mark.parametrize("attack", ["training", "pgd"])
def test_an_epoch_below_the_threshold_is_left_out(attack: str, monkeypatch: pytest.MonkeyPatch):
    worst = iter([0.1, 0.3, 0.2, 0.3])
    monkeypatch.setattr("buttress_plugins.ensembles.fawa.accuracies", lambda *_: (0.5, next(worst)))
    own = engine("fgsm", {"fawa": {"decay": 0.75, "threshold": 0.3, "attack": attack}})
    snapshots = []
    for fair in (False, True, True, True):
        train(own, 1)
        snapshots.append(state(own.model))
        (track,) = own.tracks()
        assert (track.weights is not None) == fair
    assert own.records()["fawa.score"] == pytest.approx((0.6 + 0.8 + 0.7 + 0.8) / 4)
    for name, value in {**track.weights, **track.given_buffers}.items():
        torch.testing.assert_close(value, 0.75 * snapshots[1][name] + 0.25 * snapshots[3][name])
    assert track.buffers == "given"
    assert set(track.given_buffers) == {"bn.running_mean", "bn.running_var"}  # the counter is the live one


@pytest.mark.parametrize("attack", ["training", "pgd"])
def test_the_live_training_does_not_notice(attack: str):
    plain, averaged = engine("pgd"), engine("pgd", {"fawa": {"threshold": 0.0, "attack": attack}})
    train(plain, 2)
    train(averaged, 2)
    assert_same(state(plain.model), state(averaged.model))


def test_the_starts_of_its_own_attack_can_be_injected():
    own = engine("fgsm", {"fawa": {"threshold": 0.0, "attack": "pgd"}})
    seen: list[Tensor] = []
    own.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    starts = [0.01 * torch.rand_like(batch.x) for batch in HELD_OUT]
    own.end_epoch(draws={f"fawa.start.{number}": start for number, start in enumerate(starts)})
    first_inputs = seen[::11]  # ten steps, and the prediction after them
    for batch, start, actual in zip(HELD_OUT, starts, first_inputs, strict=True):
        assert torch.equal(actual, batch.x + start)
    with pytest.raises(DataError, match=r"engine\.end_epoch: draws \['fawa\.start\.2'\] were not asked for"):
        own.end_epoch(draws={"fawa.start.2": starts[0]})


def test_a_run_without_a_validation_split_is_refused_before_the_first_step():
    with pytest.raises(ButtressError, match=r"the run has no validation split"):
        engine_of(ConvNet(), "fgsm", FAWA(), validation=None).start()
