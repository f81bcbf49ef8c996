"""Modes, gradients and buffers are put back, whatever happens inside."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from buttress.nn.modes import Modes, parameters_of, weights_swapped

from ..core.helpers import assert_same, batch_of, snapshot
from ..models import ConvNet


class Tied(nn.Module):
    """Two layers that share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
        self.two.weight = self.one.weight


def partly_frozen() -> nn.Module:
    model = nn.Sequential(ConvNet(), nn.BatchNorm1d(3), nn.Dropout(0.5))
    model.train()
    model[1].eval()
    return model


def training(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


CONTEXTS = {
    "evaluating": lambda modes: modes.evaluating(),
    "buffers_as_found": lambda modes: modes.buffers_as_found(),
    "eval": lambda modes: modes.attacking("eval"),
    "train": lambda modes: modes.attacking("train"),
    "train_notrack": lambda modes: modes.attacking("train_notrack"),
}


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_each_modules_own_mode_comes_back(name: str, error: Any):
    model = partly_frozen()
    before = training(model)
    modes = Modes(model)
    try:
        with CONTEXTS[name](modes):
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        assert error
    assert training(model) == before
    assert all(module.track_running_stats for module in model.modules() if hasattr(module, "track_running_stats"))


def test_evaluating_puts_every_module_into_eval_mode():
    model = partly_frozen()
    with Modes(model).evaluating():
        assert not any(training(model))


def test_a_model_in_eval_mode_stays_in_eval_mode():
    model = ConvNet().eval()
    with Modes(model).attacking("train"):
        assert not any(training(model))
    assert not any(training(model))


@pytest.mark.parametrize("name", CONTEXTS)
def test_buffers_move_in_train_mode_only(name: str):
    model = ConvNet()
    before = snapshot(model)
    with CONTEXTS[name](Modes(model)):
        for seed in range(3):
            model(batch_of(seed=seed).x)
    assert int(model.bn.num_batches_tracked) == (3 if name == "train" else 0)
    if name != "train":
        assert_same(before, snapshot(model))


def test_buffers_of_other_modules_are_put_back_too():
    model = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(16, 3)))
    with torch.no_grad():
        model[1].parametrizations.weight.original.copy_(torch.rand(3, 16))  # its vectors have converged for others
    before = snapshot(model)
    with Modes(model).buffers_as_found():
        model(batch_of().x)
        assert any(not torch.equal(a, b) for a, b in zip(before.values(), snapshot(model).values(), strict=True))
    assert_same(before, snapshot(model))


def test_nested_switches_unwind_in_order():
    model = ConvNet()
    modes = Modes(model)
    with modes.buffers_as_found(), modes.attacking("eval"):
        with modes.attacking("train"):
            assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not any(training(model))
    assert all(training(model))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_parameters_of_names_tied_ones_once():
    assert list(parameters_of(Tied())) == ["one.weight", "one.bias", "two.bias"]


def test_swapped_weights_keep_ties_and_come_back():
    model = Tied()
    before = snapshot(model)
    with weights_swapped(model, {"one.weight": torch.ones(3, 3)}, {}):
        assert model.two.weight is model.one.weight
        assert torch.equal(model.two.weight, torch.ones(3, 3))
        assert torch.equal(model.one.bias, before["one.bias"])
    assert_same(before, snapshot(model))


def test_swapped_weights_come_back_when_a_name_is_unknown():
    model = ConvNet()
    before = snapshot(model)
    with (
        pytest.raises(KeyError, match="ghost"),
        weights_swapped(model, {"conv.weight": torch.zeros(4, 1, 3, 3), "ghost": torch.zeros(1)}, {}),
    ):
        raise AssertionError("unreachable")
    assert_same(before, snapshot(model))


def instance_normed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2, track_running_stats=True))


@pytest.mark.parametrize("mode", ["train_notrack", "objective"])
def test_the_statistics_of_instance_norm_stay_as_found(mode: str):
    model = instance_normed()
    before = snapshot(model)
    modes = Modes(model)
    with modes.attacking("train_notrack") if mode == "train_notrack" else modes.buffers_as_found():
        model(batch_of().x)
    assert_same(before, snapshot(model))


class Counting(nn.Module):
    """Counts its forwards in a buffer that each forward replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count = self.count + 1
        return self.linear(x.flatten(1))


@pytest.mark.parametrize("switch", ["buffers_as_found", "weights_swapped"])
def test_a_buffer_that_a_forward_replaces_is_put_back(switch: str):
    model = Counting()
    with Modes(model).buffers_as_found() if switch == "buffers_as_found" else weights_swapped(model, {}, {}):
        model(batch_of().x)
    assert float(model.count) == 0
