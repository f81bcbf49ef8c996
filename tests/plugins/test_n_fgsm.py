"""N-FGSM leaves the ball: how far its noise and its examples reach."""

import pytest
import torch

from buttress import Batch, ThreatModel
from buttress.errors import PluginError
from buttress_plugins.attacks.n_fgsm import NFGSM

from ..models import ConvNet
from .conftest import batch_of, context, engine_of


@pytest.mark.parametrize(("k", "alpha"), [(2.0, 1.0), (0.5, 0.25), (0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_examples_reach_as_far_as_declared_and_no_farther(norm: str, k: float, alpha: float):
    threat = ThreatModel(norm, "1/10", None)
    x = torch.full((300, 1, 4, 4), 0.5, dtype=torch.float64)
    plugin = NFGSM(k=k, alpha=alpha)
    model = ConvNet().double().eval()
    adv = plugin.generate_adv(model, Batch(x, torch.arange(300) % 3), context(threat, "n_fgsm"))
    distance = threat.distance(adv.x, x) / 0.1
    assert plugin.radius == k + alpha
    # Under L2 the noise has a random direction, so that nearly none of it lies along the gradient.
    reached = plugin.radius if norm == "linf" else max(k, alpha)
    assert float(distance.max()) >= 0.95 * reached
    assert float(distance.max()) <= plugin.radius * (1 + 1e-9)


def test_a_step_with_it_passes_the_check_of_its_radius_and_stays_in_the_box():
    engine = engine_of(ConvNet(), "n_fgsm", threat=ThreatModel("linf", "1/10"), checks="always")
    batch = batch_of(6)
    adv = engine.step(batch.x, batch.y).adv
    assert 0.1 < float((adv.x - batch.x).abs().max()) <= 0.3 + 1e-6
    assert bool(engine.threat.box_contains(adv.x))


def test_the_noise_is_inside_the_box_before_the_gradient_is_taken():
    seen = []
    model = ConvNet()
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    NFGSM().generate_adv(model, batch_of(6), context(ThreatModel("linf", "1/2"), "n_fgsm"))
    (x,) = seen
    assert bool(ThreatModel("linf", 0).box_contains(x))
    assert bool((x == 0).any() and (x == 1).any())


def test_a_step_of_nothing_from_nowhere_is_refused():
    with pytest.raises(PluginError, match=r"n_fgsm: alpha: expected k \+ alpha > 0, got 0 for both"):
        engine_of(ConvNet(), {"n_fgsm": {"k": 0.0, "alpha": 0.0}})
