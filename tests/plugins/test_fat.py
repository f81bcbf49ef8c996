"""FAT: the order of the batch, the patience by epoch, and its limit, plain PGD."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Adv, hookimpl
from buttress.functional import is_correct
from buttress_plugins.attacks.fat import FAT, friendly

from ..core.helpers import batch_of, context, engine_of, snapshot, step
from ..models import ConvNet


def bools(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


class Spy:
    """Keeps the adversarial examples that the loss sees."""

    def __init__(self) -> None:
        self.adv: Adv | None = None

    @hookimpl(wrapper=True)
    def compute_loss(self, adv: Adv):
        self.adv = adv
        return (yield)


def attacked(attack: Any, model: nn.Module, draws: dict[str, Tensor] | None = None) -> Adv:
    spy = Spy()
    step(engine_of(model, attack, spy), draws=draws)
    assert spy.adv is not None
    return spy.adv


def network() -> nn.Module:
    torch.manual_seed(0)
    return ConvNet().double()


def test_an_example_stops_when_its_patience_is_used_up():
    active, patience = bools(1, 1, 1, 0), torch.tensor([0, 0, 2, 5])
    active, patience = friendly(bools(1, 0, 0, 1), active, patience)
    assert active.tolist() == [True, False, True, False]
    assert patience.tolist() == [0, 0, 1, 5]


@pytest.mark.parametrize("loss", ["ce", "kl"])
def test_with_patience_for_every_step_it_is_pgd(loss: str):
    settings = {"steps": 4, "step_size": 0.02, "loss": loss}
    models = network(), network()
    start = 0.1 * torch.rand((6, 1, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.05
    step(engine_of(models[0], {"fat": {**settings, "tau": 4, "omega": 0.0}}), draws={"fat.start": start})
    x = batch_of(dtype=torch.float64).x
    step(engine_of(models[1], {"pgd": settings}), draws={"pgd.start": (x + start).clamp(0, 1) - x})
    for one, other in zip(snapshot(models[0]).values(), snapshot(models[1]).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_examples_that_begin_misclassified_are_returned_as_the_start_in_their_places():
    model = network()
    batch = batch_of(dtype=torch.float64)
    correct = is_correct(model.eval()(batch.x).detach(), batch.y)
    assert 0 < int(correct.sum()) < len(correct)
    adv = attacked({"fat": {"steps": 3, "step_size": 0.02, "start": "none", "omega": 0.0}}, model.train())
    moved = (adv.x != batch.x).flatten(1).any(1)
    assert torch.equal(moved, correct)
    assert torch.equal(adv.aux["steps"] > 0, correct)


@pytest.mark.parametrize(("epoch", "tau"), [(0, 1), (49, 1), (50, 2), (89, 2), (90, 3), (119, 3)])
def test_tau_rises_at_the_epochs_of_the_setting(epoch: int, tau: int):
    ctx = context(epochs=120)
    ctx._state.epoch = epoch
    assert FAT(tau=1)._tau(ctx) == tau
    assert FAT(tau=1, rises=[0.42, 0.75])._tau(ctx) == tau


def test_a_gaussian_start_is_projected_because_it_can_be_the_answer():
    start = torch.full((6, 1, 4, 4), 3.0, dtype=torch.float64)
    adv = attacked({"fat": {"steps": 1, "start": "gaussian"}}, network(), {"fat.start": start})
    assert bool(((adv.x >= 0) & (adv.x <= 1)).all())
