"""Settings that may change over the epochs, of every built-in plugin that has some."""

from typing import Any

import pytest
import torch

from buttress import ThreatModel
from buttress.components.per_epoch import curve_in
from buttress.components.signature import signature_of
from buttress.components.sources import find, load
from buttress.testing import promises
from buttress.testing.subject import STEPS, Subject, batch_of

from .catalogue import CATALOGUE

SCHEDULED = {
    name: [each.name for each in signature_of(load(find("plugin", name))) if curve_in(each.annotation)]
    for name in CATALOGUE
}


@pytest.mark.parametrize("name", [name for name, settings in SCHEDULED.items() if "step_size" in settings])
def test_a_constant_schedule_of_the_step_size_trains_as_the_value_does(name: str):
    """The settings without a default, which the promise ``follows_schedules`` leaves out."""
    source, settings = find("plugin", name), {**CATALOGUE[name].settings, "step_size": "1/50"}
    (promise,) = (each for each in promises(load(source), settings, name=name) if str(each) == "follows_schedules")
    promise.check()


def test_a_plugin_that_is_examined_with_a_schedule_is_not_compared_with_a_value():
    made = {str(each) for each in promises(load(find("plugin", "trades")), {"beta": {"linear": [[0, 0.0], [2, 6.0]]}})}
    assert "trains" in made
    assert "follows_schedules" not in made


def test_the_settings_that_may_change_over_the_epochs_are_these():
    assert " ".join(sorted(f"{name}.{key}" for name, keys in SCHEDULED.items() for key in keys)) == (
        "alp.weight amp.delta apgd.steps ard_prm.step_size ard_prm.steps awp.gamma cfa.beta cfa.step_size "
        "cfa.steps consistency.lam cutmix.probability ema.tau fast.step_size fat.step_size fat.steps "
        "fgsm.step_size free_at.step_size gairat.step_size gairat.steps grad_align.lam kd.ce "
        "kd.robust_weight kd.standard_weight label_smoothing.epsilon mail.beta mart.lam mixup.probability "
        "nmse.mu pgd.step_size pgd.steps randomized_at.alpha randomized_at.beta rat_wp.gamma rst.beta "
        "rst.unlabelled_weight rwp.gamma trades.beta"
    )


ATTACKS = [name for name, row in CATALOGUE.items() if "attack" in row.places]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_trains_while_the_radius_grows_from_zero_and_falls(name: str, norm: Any):
    subject = Subject(load(find("plugin", name)), CATALOGUE[name].settings, name, find("plugin", name))
    radii = {"piecewise": [[0, 0], [1, "1/10"], [2, "1/20"]]}
    with subject.scratch() as scratch:
        engine = subject.engine(scratch, threat=ThreatModel(norm, "1/10"), training_eps=radii)
        for radius in (0.0, 0.1 * subject.traits.radius, 0.05 * subject.traits.radius):
            for seed in range(STEPS):
                batch = batch_of(seed)
                result = engine.step(batch.x, batch.y, index=batch.index)
                assert torch.isfinite(result.losses).all()
                x = torch.cat([batch.x] * (len(result.adv.x) // len(batch.x)))
                assert engine.threat.distance(result.adv.x, x).amax() <= radius + 1e-6
            engine.end_epoch()
