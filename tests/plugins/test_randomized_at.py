"""Randomized AT: the matrices of soft labels, the closed form of the gradients, and the noise of the attack."""

import pytest
import torch
import torch.nn.functional as F

from buttress import PluginError
from buttress_plugins.losses.randomized_at import gradient_sums, noisy_weights, soft_rows

from ..conformance import references as ref
from ..conformance.references_randomized import convolution_weights, randomized_at
from ..conformance.test_methods import assert_close, batches, engine_of, model_of


def test_rows_are_soft_labels_in_proportion_to_the_gap():
    rows = soft_rows(torch.tensor([3.0, 1.0, 2.0, 1.0], dtype=torch.float64), 0.8)
    assert rows[1].tolist() == pytest.approx([0.8 * 2 / 3, 0.2, 0.8 / 3, 0.0])
    assert rows[0].tolist() == pytest.approx([0.2, 0.0, 0.8, 0.0])
    assert rows.sum(1).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("gap", [[2.0, 2.0, 2.0, 2.0], [5.0, 1.0, 1.0, 1.0]])
def test_a_row_without_a_proportion_is_even(gap: list[float]):
    row = soft_rows(torch.tensor(gap, dtype=torch.float64), 0.6)[0]
    assert row.tolist() == pytest.approx([0.4, 0.2, 0.2, 0.2])


def test_the_closed_form_is_the_gradient():
    layer, features = torch.nn.Linear(5, 4).double(), torch.randn(6, 5, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    (grad,) = torch.autograd.grad(F.cross_entropy(layer(features), y), layer.weight)
    own = gradient_sums(layer(features), y, features.sum(1)).mean(0)
    assert torch.allclose(own, grad.sum(1), atol=1e-14, rtol=0)


def test_the_attack_sees_the_noise_and_the_loss_does_not():
    model = model_of(ref.ConvNet)
    size = sum(weight.numel() for weight in convolution_weights(model))
    noise = 0.3 * torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    reference = ref.Reference(model, randomized_at(noise))
    attack = {"pgd": {"steps": ref.STEPS, "step_size": "3/100", "loss": "kl", "start": "gaussian"}}
    engine = engine_of(model, [attack, "randomized_at"])
    for x, y, start in batches(3):
        engine.step(x, y, draws={"pgd.start": start, "randomized_at.noise": noise})
        reference.step(x, y, start)
    assert_close(model.state_dict(), reference.model.state_dict())


def test_noise_on_named_weights_leaves_out_convolutions_of_other_names():
    shortcut = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))
    model = torch.nn.ModuleDict(
        {"conv": torch.nn.Conv2d(1, 2, 3), "shortcut": shortcut, "converted": torch.nn.Linear(2, 2)}
    )
    sizes = {which: [w.numel() for w in noisy_weights(model, which)] for which in ("convolutions", "named")}
    assert sizes == {"convolutions": [18, 2, 18, 2], "named": [18, 2, 4, 2]}


def test_a_model_without_a_linear_layer_is_refused_before_the_first_step():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 4), torch.nn.Flatten()).double()
    with pytest.raises(PluginError, match="has no linear layer"):
        engine_of(model, ["pgd", "randomized_at"]).start()
