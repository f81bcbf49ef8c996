"""An attack within a step: its mode, and all that it must leave unchanged."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress import Adv, Batch
from buttress.errors import ConfigError, HookError

from ..core.helpers import assert_same, batch_of, clean_attack, engine_of, plugin, snapshot, step
from ..models import MLP, ConvNet


class Messy(nn.Module):
    """A convolution net with a frozen batch norm, dropout, a frozen weight and a buffer outside of norm layers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = ConvNet()
        self.frozen_bn = nn.BatchNorm2d(1)
        self.dropout = nn.Dropout(0.5)
        self.net.linear.bias.requires_grad_(False)
        self.register_buffer("forwards", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.forwards += 1
        return self.net(self.dropout(self.frozen_bn(x)))


def messy() -> Messy:
    model = Messy()
    model.train()
    model.frozen_bn.eval()
    for position, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, float(position)) if position % 2 else None
    return model


def attack_doing(action: Any) -> Any:
    def generate_adv(self: Any, model: nn.Module, batch: Batch, ctx: Any) -> Adv:
        action(model, batch.x)
        return Adv(batch.x)

    return plugin("attack", generate_adv=generate_adv)


@pytest.mark.parametrize("mode", ["eval", "train", "train_notrack"])
@pytest.mark.parametrize("fails", [False, True])
def test_an_attack_leaves_modes_requires_grad_and_gradients_as_found(mode: str, fails: bool):
    model = messy()
    modes = {name: module.training for name, module in model.named_modules()}
    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    copies = {name: None if grad is None else grad.clone() for name, grad in grads.items()}
    after: dict[str, Any] = {}

    def action(model: Any, x: Tensor) -> None:
        assert not any(parameter.requires_grad for parameter in model.parameters())
        model(x)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        if fails:
            raise ValueError("attack failed")

    def compute_loss(self: Any, model: nn.Module, batch: Batch, adv: Adv) -> Tensor:
        raise ValueError("unreachable when the attack fails")

    def look(self: Any, model: nn.Module) -> None:
        after["modes"] = {name: module.training for name, module in model.named_modules()}
        after["required"] = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        after["grads"] = {name: parameter.grad for name, parameter in model.named_parameters()}

    looking = plugin("looking", perturb_weights=look)
    engine = engine_of(model, attack_doing(action), looking, attack_mode=mode)
    if fails:
        with pytest.raises(HookError, match="attack failed"):
            step(engine)
        look(None, model)
    else:
        step(engine)
    assert after["modes"] == modes
    assert after["required"] == required
    for name, grad in grads.items():
        assert after["grads"][name] is grad, name
        assert grad is None or torch.equal(grad, copies[name]), name


@pytest.mark.parametrize(
    ("mode", "training"),
    [("eval", (False, False, False)), ("train", (True, True, False)), ("train_notrack", (True, True, False))],
)
def test_the_attack_runs_in_its_mode_with_frozen_norm_layers_frozen(mode: str, training: tuple[bool, ...]):
    seen = []
    engine = engine_of(
        messy(),
        attack_doing(lambda model, x: seen.append((model.training, model.net.bn.training, model.frozen_bn.training))),
        attack_mode=mode,
    )
    step(engine)
    assert seen == [training]


@pytest.mark.parametrize(("mode", "moves"), [("eval", 0), ("train", 5), ("train_notrack", 0)])
@pytest.mark.parametrize("fails", [False, True])
def test_batch_norm_buffers_move_as_often_as_the_mode_says(mode: str, moves: int, fails: bool):
    model = messy()
    before, during = snapshot(model), {}

    def action(model: Any, x: Tensor) -> None:
        for number in range(5):
            model(x * number / 5)
        if fails:
            during.update(snapshot(model))
            raise ValueError("attack failed")

    def stop(self: Any, model: nn.Module) -> None:
        during.update(snapshot(model))
        raise ValueError("stop before the training forward")

    engine = engine_of(model, attack_doing(action), plugin("stop", perturb_weights=stop), attack_mode=mode)
    with pytest.raises(HookError):
        step(engine)
    assert int(during["net.bn.num_batches_tracked"]) == moves
    assert fails or int(during["forwards"]) == moves  # the attack itself sees a copy of it, which is dropped
    assert torch.equal(during["frozen_bn.running_mean"], before["frozen_bn.running_mean"])
    assert torch.equal(before["net.bn.running_mean"], during["net.bn.running_mean"]) == (moves == 0)
    assert model.net.bn.track_running_stats
    assert_same(before, snapshot(model))


def test_train_notrack_attacks_with_batch_statistics():
    model = ConvNet().double()
    out = {}
    engine = engine_of(
        model, attack_doing(lambda model, x: out.update(attack=model(x).detach())), attack_mode="train_notrack"
    )
    reference = ConvNet().double().train()
    step(engine)
    expected = reference(batch_of(dtype=torch.float64).x)
    torch.testing.assert_close(out["attack"], expected.detach(), rtol=0, atol=1e-14)


def test_attack_mode_is_the_plugins_unless_the_engine_says_otherwise():
    assert engine_of(MLP(), "pgd").attack_mode == "eval"
    assert engine_of(MLP(), {"pgd": {"attack_mode": "train"}}).attack_mode == "train"
    assert engine_of(MLP(), {"pgd": {"attack_mode": "train"}}, attack_mode="eval").attack_mode == "eval"
    assert engine_of(MLP(), clean_attack()).attack_mode == "eval"


def test_attack_mode_may_be_written_between_steps():
    seen = []
    engine = engine_of(MLP(), attack_doing(lambda model, x: seen.append(model.training)))
    step(engine)
    engine.attack_mode = "train"
    step(engine)
    assert seen == [False, True]


def test_an_unknown_attack_mode_is_refused_also_where_it_is_written_later():
    engine = engine_of(MLP(), clean_attack())
    with pytest.raises(ConfigError, match=r"attack_mode: expected one of .*, got 'test'"):
        engine.attack_mode = "test"
    assert engine.attack_mode == "eval"


def test_an_unknown_attack_mode_is_refused():
    with pytest.raises(
        ConfigError, match=r"^engine: attack_mode: expected one of train, train_notrack, eval, got 'test'"
    ):
        engine_of(MLP(), clean_attack(), attack_mode="test")
