"""Settings that change over the epochs: their values in a training, by hand and against constant settings."""

from dataclasses import dataclass
from fractions import Fraction
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
from buttress.errors import HookError
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


# The radius in training


@dataclass(eq=False, kw_only=True)
class Far:
    """An attack that remembers the radius of each step.

    Args:
        length: length of its perturbation; default the radius.
    """

    length: Fraction | None = None

    def __post_init__(self) -> None:
        self.radii: list[Fraction] = []

    @hookimpl
    def generate_adv(self, batch: Batch, ctx: Context) -> Adv:
        self.radii.append(ctx.threat.eps)
        return Adv(ctx.threat.clamp(batch.x + float(ctx.threat.eps if self.length is None else self.length)))


def test_the_threat_model_of_training_has_the_radius_of_the_epoch():
    far = Far()
    engine = engine_of([far], training_eps={"linear": [[0, 0], [2, "1/20"]]})
    assert engine.threat == ThreatModel("linf", 0)
    train(engine, STEPS * 3)
    assert far.radii == [0, 0, Fraction(1, 40), Fraction(1, 40), Fraction(1, 20), Fraction(1, 20)]
    assert engine.scheduled_values() == {"threat.training_eps": 0.05}
    engine.epoch = 1
    assert engine.threat == ThreatModel("linf", "1/40")


def test_adversarial_examples_are_checked_against_the_radius_of_the_epoch():
    engine = engine_of([Far(length=Fraction(1, 20))], training_eps={"piecewise": [[0, "1/20"], [1, "1/30"]]})
    train(engine, STEPS)
    with pytest.raises(HookError, match="1/30"):
        train(engine, 1)


def test_a_constant_radius_in_training_trains_as_that_threat_model():
    one, other = (
        engine_of(RAMP, training_eps="1/20"),
        Engine(
            ConvNet().double(), partial(SGD, lr=0.5, momentum=0.9), RAMP, ThreatModel("linf", "1/20"), epochs=EPOCHS
        ),
    )
    train(one, STEPS * EPOCHS)
    train(other, STEPS * EPOCHS)
    assert torch.equal(weights(one), weights(other))
    assert one.scheduled_values().keys() == {"pgd.steps", "trades.beta"}


@pytest.mark.parametrize(
    ("eps", "message"),
    [
        ("a/b", "threat.training_eps: expected a finite number or a fraction like 8/255, got 'a/b'"),
        (-0.1, "threat.training_eps: expected a value >= 0, got -0.1"),
        (8, "threat.training_eps: 8 reaches beyond the whole box [0, 1]; did you mean 8/255?"),
        ({"linear": [[0, 0], [1, 8]]}, "threat.training_eps: 8 reaches beyond the whole box [0, 1]"),
        ({"linear": [[0, 0], [1, -1]]}, "threat.training_eps: linear, point 2: expected a value >= 0, got -1"),
        ({"linear": [[0, 0], [4, 1]]}, "threat.training_eps: linear, point 2: expected an epoch of the run, 0 to 3"),
    ],
)
def test_a_wrong_radius_in_training_is_refused(eps: Any, message: str):
    with pytest.raises(ConfigError) as caught:
        engine_of(["clean"], training_eps=eps)
    assert str(caught.value).startswith(message)
