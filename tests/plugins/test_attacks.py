"""The promises of every attack of evaluations, tested on all of them by one table."""

import inspect
from importlib.metadata import entry_points
from typing import Any

import pytest
import torch
from torch import nn

from buttress import Split, ThreatModel
from buttress.errors import ConfigError, PluginError
from buttress.scoring.attacks import load_attack
from buttress.scoring.evaluator import Evaluator

from .catalogue import ATTACKS
from .conftest import assert_same, state

BUILT_IN = {
    point.name: point for point in entry_points(group="buttress.attacks") if point.value.startswith("buttress_plugins.")
}

pytestmark = pytest.mark.usefixtures("short_autoattack")
every = pytest.mark.parametrize("name", ATTACKS)
norms = pytest.mark.parametrize("threat", [ThreatModel("linf", "1/10"), ThreatModel("l2", 0.5)], ids=["linf", "l2"])


class Net(nn.Module):
    """``[B,1,6,6]`` to 4 logits, with batch norm and dropout, which an attack must leave alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.random.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(64, 4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def attacked(name: str, threat: ThreatModel, model: nn.Module | None = None, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    split = Split(torch.rand((9, 1, 6, 6), generator=generator), torch.arange(9) % 4)
    (batch,) = split.batches(torch.arange(9), 9)
    return Evaluator(model or Net(), load_attack({name: ATTACKS[name].settings}), threat, seed=seed).attacked(batch).x


def test_the_catalogue_holds_every_built_in_attack_and_no_other():
    assert set(ATTACKS) == set(BUILT_IN)


@every
def test_an_attack_says_what_it_is_and_where_it_comes_from(name: str):
    assert inspect.getdoc(BUILT_IN[name].load())
    assert name == "clean" or "Source" in inspect.getdoc(inspect.getmodule(BUILT_IN[name].load()))
    load_attack(name)  # the defaults pass their own checks


@every
@norms
def test_an_attack_leaves_model_and_random_state_as_found_and_repeats_itself(name: str, threat: ThreatModel):
    model = Net()
    model.layers[1].eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, random = state(model), torch.random.get_rng_state()
    one = attacked(name, threat, model)  # inside the threat model, or the evaluator would have raised
    assert_same(before, state(model))
    assert [module.training for module in model.layers] == [True, False, True, True, True, True]
    assert all(bool((parameter.grad == 1).all()) and parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(random, torch.random.get_rng_state())
    torch.random.manual_seed(5)  # the global stream has no say
    assert torch.equal(one, attacked(name, threat, model))
    assert not one.requires_grad


@pytest.mark.parametrize("name", ["apgd", "autoattack", "cw", "fgsm", "pgd", "spsa"])
def test_a_random_attack_depends_on_the_seed_of_the_evaluation(name: str):
    threat = ThreatModel("linf", "1/10")
    assert not torch.equal(attacked(name, threat), attacked(name, threat, seed=1))


@pytest.mark.parametrize(
    ("name", "settings"), [(name, wrong) for name, attack in ATTACKS.items() for wrong in attack.wrong], ids=str
)
def test_a_wrong_setting_of_an_attack_is_refused_with_its_name(name: str, settings: dict[str, Any]):
    with pytest.raises((ConfigError, PluginError), match=name):
        load_attack({name: settings})
