"""The function alone, with known answers; the plugin in an engine, with an attack; the promises of every plugin."""

import pytest
import torch
from buttress_centralize import Centralize, centralize_
from torch import nn

from buttress import Engine, ThreatModel
from buttress.testing import Promise, promises


def test_centralize_known_values():
    grad = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    removed = centralize_([grad])
    torch.testing.assert_close(grad, torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))
    assert float(removed) == pytest.approx(8**0.5)  # the mean 2, removed from two elements


def test_centralize_twice_changes_nothing_more():
    grad = torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centralize_([grad])
    once = grad.clone()
    centralize_([grad])
    torch.testing.assert_close(grad, once)


def step(plugin: Centralize) -> dict[str, torch.Tensor]:
    """Changes by one step of plain SGD in a small network, by parameter name."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    attack = {"pgd": {"steps": 2, "step_size": "1/40"}}
    engine = Engine(model, torch.optim.SGD(model.parameters(), lr=0.1), [attack, plugin], ThreatModel("linf", "1/10"))
    engine.step(torch.rand(8, 1, 6, 6, dtype=torch.float64), torch.arange(8) % 3)
    assert engine.records()["Centralize.removed"] > 0
    return {name: weight.detach() - before[name] for name, weight in model.named_parameters()}


@pytest.mark.parametrize("conv_only", [False, True])
def test_step_moves_each_unit_by_zero_on_average(conv_only):
    moved = step(Centralize(conv_only=conv_only))
    averages = {name: change.flatten(1).mean(1).abs().max() for name, change in moved.items() if change.dim() > 1}
    assert all(change.abs().max() > 0 for name, change in moved.items() if name != "0.bias")  # batch norm cancels it
    assert averages["0.weight"] < 1e-12
    assert (averages["4.weight"] < 1e-12) is not conv_only


@pytest.mark.parametrize("promise", promises(Centralize, name="centralize"), ids=str)
def test_centralize_keeps(promise: Promise):
    promise.check()
