"""The lasting perturbation of Free AT: replays, batches of other sizes, the box, skipped steps, exact resume."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Engine, ThreatModel

from ..conformance import references as ref
from ..conformance.references_single_step import free_at
from ..conformance.test_methods import assert_close, batches, engine_of, model_of
from .conftest import batch_of


def engine(**options: Any) -> Engine:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    return Engine(model, sgd, ["free_at"], ThreatModel("linf", "1/10"), **options)


def delta_of(one: Engine) -> Tensor:
    return one.plugins[0].plugin.state_dict()["delta"]


@pytest.mark.parametrize("kind", [ref.ConvNet, ref.MLP])
def test_replayed_batches_agree_with_algorithm_1(kind: type[nn.Module]):
    model = model_of(kind)
    reference = ref.Reference(model, free_at(replays=3))
    one = engine_of(model, ["free_at"])
    for x, y, start in batches(3):
        for _ in range(3):
            one.step(x, y)
        reference.step(x, y, start)
    assert_close(model.state_dict(), reference.model.state_dict())
    assert float((delta_of(one) - reference.delta).abs().max()) <= 1e-12


def test_the_first_step_is_natural_training_and_the_second_one_of_fgsm():
    one, batch = engine(), batch_of(6, dtype=torch.float64)
    assert torch.equal(one.step(batch.x, batch.y).adv.x, batch.x)
    assert bool((delta_of(one).abs() == 0.1).all())
    second = one.step(batch.x, batch.y).adv.x
    assert torch.equal(second, (batch.x + delta_of_sign(batch.x, batch.y)).clamp(0, 1))


def test_the_perturbation_shrinks_with_the_radius():
    one = engine(training_eps={"piecewise": [[0, "1/10"], [1, "1/20"]]})
    batch = batch_of(6, dtype=torch.float64)
    one.step(batch.x, batch.y)
    one.end_epoch()
    half = delta_of(one) / 2  # 0.05 times a sign
    adv = one.step(batch.x, batch.y).adv.x
    torch.testing.assert_close(adv, (batch.x + half).clamp(0, 1), rtol=0, atol=1e-15)
    moved = [delta_of(one).abs() - length for length in (0.0, 0.05)]  # back to zero, or held at the new radius
    assert bool(torch.minimum(*(distance.abs() for distance in moved)).max() <= 1e-15)


def delta_of_sign(x: Tensor, y: Tensor) -> Tensor:
    """0.1 times the sign of the gradient of the untrained model."""
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(nn.functional.cross_entropy(engine().model(x), y), x)
    return 0.1 * grad.sign()


def test_smaller_and_larger_batches_take_the_first_rows_and_leave_the_others():
    one = engine()
    sizes = []
    for number, n in enumerate((4, 2, 6)):
        before = delta_of(one).clone() if number else torch.zeros(0, 1, 4, 4)
        batch = batch_of(n, seed=number, dtype=torch.float64)
        adv = one.step(batch.x, batch.y).adv.x
        shared = min(n, len(before))
        expected = batch.x.clone()
        expected[:shared] = (expected[:shared] + before[:shared]).clamp(0, 1)
        assert torch.equal(adv, expected)
        assert torch.equal(delta_of(one)[n:], before[n:])
        sizes.append(len(delta_of(one)))
    assert sizes == [4, 4, 6]


def test_elements_that_the_box_cuts_off_do_not_move():
    one, batch = engine(), batch_of(6, dtype=torch.float64)
    x = batch.x.round()  # at the walls: a step outwards is cut off
    for _ in range(2):
        one.step(x, batch.y)
    delta = delta_of(one)
    outwards = ((x + delta < 0) | (x + delta > 1)).clone()
    assert bool(outwards.any())
    one.step(x, batch.y)
    assert torch.equal(delta_of(one)[outwards], delta[outwards])


def test_under_l2_the_perturbation_has_at_most_length_eps():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    one = Engine(model, sgd, ["free_at"], ThreatModel("l2", "1/2"))
    for number in range(3):
        batch = batch_of(6, seed=number, dtype=torch.float64)
        one.step(batch.x, batch.y)
        lengths = delta_of(one).flatten(1).norm(dim=1)
        assert bool((lengths <= 0.5 + 1e-12).all())
        assert bool((lengths > 0).all())


def test_a_skipped_step_leaves_the_perturbation():
    one, batch = engine(nonfinite="skip"), batch_of(6, dtype=torch.float64)
    one.step(batch.x, batch.y)
    before = delta_of(one).clone()

    def poison(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return output * torch.nan

    with one.model.register_forward_hook(poison):
        one.step(batch.x, batch.y)
    assert torch.equal(delta_of(one), before)
    one.step(batch.x, batch.y)
    assert not torch.equal(delta_of(one), before)


def test_the_state_goes_on_exactly():
    one, other = engine(), engine()
    for number in range(2):
        batch = batch_of(6, seed=number, dtype=torch.float64)
        one.step(batch.x, batch.y)
    other.load_state_dict(one.state_dict())
    other.model.load_state_dict(one.model.state_dict())
    batch = batch_of(4, seed=7, dtype=torch.float64)
    assert torch.equal(one.step(batch.x, batch.y).losses, other.step(batch.x, batch.y).losses)
