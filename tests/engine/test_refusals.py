"""Batches, draws and models that an engine refuses, and checks of values by level."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from buttress import Adv, Engine, ThreatModel
from buttress.errors import ConfigError, DataError, HookError, ModelError

from ..core.helpers import LINF, adding, assert_same, batch_of, clean_attack, engine_of, plugin, step, weights_of
from ..models import MLP
from .helpers import leaving_the_ball


def test_a_model_in_eval_mode_is_refused():
    model = MLP().eval()
    with pytest.raises(ModelError, match=r"the model is in eval mode; call model\.train\(\)"):
        step(engine_of(model, clean_attack()))


def test_a_model_without_parameters_is_refused():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(ModelError, match="expected a model with parameters on one device, got none"):
        Engine(nn.Identity(), optimizer, [clean_attack()], LINF)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            lambda b: b.x.long(),
            lambda b: b.y,
            r"expected dense floating-point x \[B,\*\] with .* on cpu, got .*torch.int64",
        ),
        (lambda b: b.x.flatten(), lambda b: b.y, r"expected dense floating-point x \[B,\*\]"),
        (lambda b: b.x, lambda b: b.y.int(), r"expected int64 labels \[6\] or soft labels \[6,K\].*torch.int32"),
        (lambda b: b.x, lambda b: b.y[:5], r"expected int64 labels \[6\].*\(5,\)"),
        (lambda b: b.x, lambda b: F.one_hot(b.y, 3), r"expected int64 labels"),
        (lambda b: b.x * 255, lambda b: b.y, "expected inputs inside the threat model's box, got values in"),
        (lambda b: b.x * torch.nan, lambda b: b.y, "expected finite inputs, got NaN or infinity"),
    ],
)
def test_a_batch_of_a_wrong_kind_is_refused(x: Any, y: Any, message: str):
    batch = batch_of()
    with pytest.raises(DataError, match=message):
        engine_of(MLP(), clean_attack()).step(x(batch), y(batch))


def test_a_fraction_of_unknown_epochs_is_refused_with_the_cure():
    with pytest.raises(ConfigError, match=r"0\.5 is a fraction of the epochs, .*pass Engine\(epochs=\.\.\.\)"):
        step(engine_of(MLP(), "pgd", "meat"))


def test_a_draw_that_nobody_asks_for_leaves_weights_as_found():
    model = MLP()
    before = weights_of(model)
    with pytest.raises(DataError):
        step(engine_of(model, clean_attack()), draws={"pgd.start": torch.zeros(1)})
    assert_same(before, weights_of(model))


def test_an_empty_batch_is_refused():
    with pytest.raises(DataError, match="at least one example"):
        engine_of(MLP(), clean_attack()).step(torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64))


def test_an_index_of_another_length_is_refused():
    batch = batch_of()
    with pytest.raises(DataError, match="index"):
        engine_of(MLP(), clean_attack()).step(batch.x, batch.y, index=torch.arange(2))


def test_checks_always_is_the_default_on_the_cpu_and_stops_at_the_step():
    model = MLP()
    engine = engine_of(model, leaving_the_ball({1}))
    step(engine)
    before = weights_of(model)
    with pytest.raises(
        HookError,
        match=r"plugin 'far' .*hook generate_adv, epoch 1, step 2:\n  expected adversarial examples within linf "
        r"distance 1/10 of x, got 0\.2",
    ):
        step(engine)
    assert_same(before, weights_of(model))


def test_checks_at_intervals_report_the_first_bad_step_when_read():
    engine = engine_of(MLP(), leaving_the_ball({2, 3}), checks="interval")
    for seed in range(5):
        step(engine, seed)
    with pytest.raises(HookError, match=r"plugin 'far' .*hook generate_adv, first at epoch 1, step 3:"):
        engine.read_checks()
    engine.read_checks()


def test_checks_at_intervals_are_read_at_the_end_of_the_epoch():
    engine = engine_of(MLP(), leaving_the_ball({0}), checks="interval")
    step(engine)
    with pytest.raises(HookError, match="first at epoch 1, step 1"):
        engine.end_epoch()


def test_checks_off_looks_at_shapes_only():
    engine = engine_of(MLP(), leaving_the_ball({0}), checks="off")
    step(engine)
    engine.end_epoch()
    short = plugin("short", generate_adv=lambda self, batch: Adv(batch.x[1:]))
    with pytest.raises(HookError, match="expected adversarial examples like the batch's x"):
        step(engine_of(MLP(), short, checks="off"))


def test_float64_and_an_unbounded_box_train():
    engine = engine_of(MLP().double(), "pgd", threat=ThreatModel("l2", "1/2", box=None))
    batch = batch_of(dtype=torch.float64)
    result = engine.step(10 * batch.x - 5, batch.y)
    assert result.losses.dtype == result.adv.x.dtype == torch.float64
    assert float((result.adv.x - (10 * batch.x - 5)).flatten(1).norm(dim=1).max()) <= 0.5 + 1e-12


def test_adding_is_a_perturbation_that_only_adds():
    weight = torch.zeros(2)
    with adding([weight], [torch.ones(2)]):
        assert torch.equal(weight, torch.ones(2))
    assert torch.equal(weight, torch.ones(2))
