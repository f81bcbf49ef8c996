"""The attack that returns its input."""

import pytest
import torch
from torch import Tensor

from buttress import Split, ThreatModel, evaluate
from buttress_plugins.attacks.clean import Clean

from ..models import ConvNet
from .conftest import batch_of, engine_of, parameters

LINF = ThreatModel("linf", 0.3)


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
    score = evaluate(ConvNet(), Split(batch.x, batch.y), "clean", LINF)
    assert score.clean == score.robust
    assert torch.equal(score.clean_correct, score.robust_correct)


@pytest.mark.parametrize("form", ["plain", "channels last", "bfloat16", "negative zeros", "flat"])
def test_in_training_and_evaluation_it_hands_on_the_inputs_themselves(form: str):
    """Bit for bit, in their memory, layout and dtype, and no random number is drawn."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((6, 7) if form == "flat" else (6, 3, 4, 4), generator=generator)
    if form == "channels last":
        x = x.to(memory_format=torch.channels_last)
    elif form == "bfloat16":
        x = x.bfloat16()
    elif form == "negative zeros":
        x = -0.0 * x
    y, seen = torch.arange(6) % 3, []
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(x[0].numel(), 3)).to(x.dtype)
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    before, random = x.clone(), torch.random.get_rng_state()
    evaluate(model, Split(x, y), "clean", LINF)
    engine = engine_of(model, "clean", threat=LINF)
    adv = engine.step(x, y).adv.x
    assert adv.data_ptr() == x.data_ptr()
    assert len(seen) == 3
    for each in (adv, *seen[1:]):
        assert_bits(each, before)
    assert adv.stride() == x.stride()
    assert torch.equal(random, torch.random.get_rng_state())
    assert not engine._state._generators


def assert_bits(actual: Tensor, expected: Tensor) -> None:
    """Expect equal values, down to the signs of zeros, and equal dtypes."""
    assert actual.dtype == expected.dtype
    assert torch.equal(actual, expected)
    assert torch.equal(actual.signbit(), expected.signbit())
