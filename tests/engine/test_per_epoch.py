"""Settings that change over the epochs: their values in a training, by hand and against constant settings."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import pytest
import torch
from annotated_types import Ge, MultipleOf
from torch.optim import SGD

from buttress import Adv, Batch, ConfigError, Context, Engine, Loss, ThreatModel, hookimpl
from buttress.components.construct import Component
from buttress.components.loaded import LoadedPlugin
from buttress.components.place import Place
from buttress.components.sources import Source
from buttress.settings import Curve, PerEpoch

from ..core.helpers import batch_of
from ..models import ConvNet

EPS = ThreatModel("linf", "1/10")
EPOCHS, STEPS = 4, 2


def engine_of(plugins: list[Any], **options: Any) -> Engine:
    factory = partial(SGD, lr=0.5, momentum=0.9)
    return Engine(ConvNet().double(), factory, plugins, EPS, **{"epochs": EPOCHS, **options})


def train(engine: Engine, steps: int) -> list[torch.Tensor]:
    """The losses of so many steps, through ends of epochs."""
    losses = []
    for _ in range(steps):
        batch = batch_of(6, seed=engine.global_step, dtype=torch.float64)
        losses.append(engine.step(batch.x, batch.y).losses)
        if engine.epoch_step == STEPS:
            engine.end_epoch()
    return losses


def weights(engine: Engine) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in engine.model.parameters()])


RAMP = [
    {"pgd": {"steps": {"piecewise": [[0, 1], [0.5, 3]]}}},
    {"trades": {"beta": {"linear": [[0, 0], [3, 6]]}}},
]
BY_HAND = [(1, 0.0), (1, 2.0), (3, 4.0), (3, 6.0)]


def constant(epoch: int, model: Any, optimizer: Any) -> Engine:
    """An engine at the beginning of an epoch of ``RAMP``, with its settings as constants."""
    steps, beta = BY_HAND[epoch]
    engine = Engine(model, optimizer, [{"pgd": {"steps": steps}}, {"trades": {"beta": beta}}], EPS)
    engine.epoch, engine.global_step = epoch, STEPS * epoch
    return engine


def test_a_schedule_trains_each_epoch_as_its_value_does():
    ramp = engine_of(RAMP)
    model = ConvNet().double()
    optimizer: Any = SGD(model.parameters(), lr=0.5, momentum=0.9)
    for epoch in range(EPOCHS):
        for one, other in zip(train(ramp, STEPS), train(constant(epoch, model, optimizer), STEPS), strict=True):
            assert torch.equal(one, other)
        assert torch.equal(weights(ramp), weights(constant(epoch, model, optimizer)))


def test_a_run_resumed_in_the_middle_of_an_epoch_goes_on_with_its_values():
    whole, begun = engine_of(RAMP), engine_of(RAMP)
    train(whole, STEPS * EPOCHS)
    train(begun, STEPS + 1)
    resumed = engine_of(RAMP)
    resumed.model.load_state_dict(begun.model.state_dict())
    resumed.optimizer.load_state_dict(begun.optimizer.state_dict())
    resumed.load_state_dict(begun.state_dict())
    train(resumed, STEPS * EPOCHS - STEPS - 1)
    assert torch.equal(weights(resumed), weights(whole))


@dataclass(eq=False, kw_only=True)
class Scheduled:
    """The mean loss times a setting, for tests that look at its values.

    Args:
        factor: factor on the loss.
        even: an even number.
    """

    factor: PerEpoch[Annotated[float, Ge(0)]] = 1.0
    even: PerEpoch[Annotated[int, MultipleOf(2)]] = 2

    @hookimpl
    def compute_loss(self, model: Any, batch: Batch, adv: Adv, ctx: Context) -> Loss:
        return Loss(ctx.value(self.factor) * torch.ones_like(model(batch.x)[:, 0], requires_grad=True))


def factor(engine: Engine) -> float:
    batch = batch_of(6, dtype=torch.float64)
    return float(engine.step(batch.x, batch.y).losses[0])


def test_the_value_follows_an_epoch_set_by_hand_and_lasts_for_the_whole_epoch():
    engine = engine_of(["clean", Scheduled(factor=Curve("linear", [(0, 0.0), (2, 1.0)]))])
    engine.epoch = 1
    assert [factor(engine), factor(engine)] == [0.5, 0.5]
    engine.epoch = 0
    assert factor(engine) == 0.0


def refusal(curve: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        engine_of(["clean", Scheduled(**curve)], **options)
    return str(caught.value)


def test_a_schedule_that_does_not_fit_the_run_is_refused_when_the_engine_is_made():
    late = {"factor": Curve("linear", [(0, 0.0), (4, 1.0)])}
    assert refusal(late) == (
        "plugins.1.Scheduled.factor: linear, point 2: expected an epoch of the run, 0 to 3, got 4, which never comes; "
        "take more epochs, or an earlier point"
    )
    shares = {"factor": Curve("piecewise", [(0, 0.0), (0.2, 1.0)])}
    assert "plugins.1.Scheduled.factor: expected increasing epochs, got [0, 0] (of 4 epochs)" in refusal(shares)
    assert "their number is unknown" in refusal(shares, epochs=None)


def test_every_value_of_a_run_satisfies_the_setting():
    source = Source("plugin", "scheduled", "acme", "1", "acme:Scheduled")
    component = Component("plugin", "scheduled", Scheduled, source)
    made, settings = component.make({"even": {"linear": [[0, 2], [2, 4]]}}, Place("scheduled"))
    with pytest.raises(ConfigError, match=r"scheduled\.even: linear, epoch 1: expected a multiple of 2, got 3"):
        engine_of(["clean", LoadedPlugin("scheduled", made, source, settings)])
