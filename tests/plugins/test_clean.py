"""The attack that returns its input."""

import torch

from buttress import Split, ThreatModel, evaluate
from buttress_plugins.attacks.clean import Clean

from ..models import ConvNet
from .conftest import batch_of, engine_of, parameters


def test_the_adversarial_examples_are_the_inputs():
    batch = batch_of()
    adv = Clean().generate_adv(batch)
    assert torch.equal(adv.x, batch.x)
    assert not adv.x.requires_grad
    assert not adv.aux


def test_inputs_that_require_gradients_come_back_detached():
    batch = batch_of()
    batch.x.requires_grad_(True)
    assert not Clean().generate_adv(batch).x.requires_grad


def test_a_step_is_a_plain_step_of_sgd():
    model, plain, batch = ConvNet(), ConvNet(), batch_of()
    losses = engine_of(model, "clean").step(batch.x, batch.y).losses
    expected = torch.nn.functional.cross_entropy(plain(batch.x), batch.y, reduction="none")
    expected.mean().backward()
    assert torch.equal(losses, expected.detach())
    for name, weight in plain.named_parameters():
        torch.testing.assert_close(parameters(model)[name], (weight - 0.5 * weight.grad).detach())


def test_robust_accuracy_under_it_is_clean_accuracy():
    batch = batch_of(30)
    score = evaluate(ConvNet(), Split(batch.x, batch.y), "clean", ThreatModel("linf", 0.3))
    assert score.clean == score.robust
    assert torch.equal(score.clean_correct, score.robust_correct)
