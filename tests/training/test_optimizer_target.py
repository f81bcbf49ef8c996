"""An optimizer that is not named but is a target: torch's, timm's, and one in a module beside the config."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from buttress.errors import ConfigError

from ..core.helpers import step, weights_of
from ..models import ConvNet
from .optimizers import configured, engine_with

OWN = """
from torch.optim import SGD, Optimizer


class Half(SGD):
    def __init__(self, params, lr: float, strength: float = 1.0, weight_decay: float = 0.0):
        super().__init__(params, lr=lr / 2 * strength, weight_decay=weight_decay)


def half(params, lr: float, **options) -> Optimizer:
    return Half(params, lr, **options)


def nothing(params, lr: float) -> int:
    return 3
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own_optimizers.py").write_text(OWN)
    return str(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("name", "args"),
    [("SGD", {"momentum": 0.9}), ("AdamW", {"betas": [0.8, 0.9]}), ("RAdam", {}), ("NAdam", {}), ("Adafactor", {})],
    ids=str,
)
def test_a_class_of_torch_by_target_steps_as_by_name(name: str, args: dict[str, Any]):
    results = []
    for chosen in ({"target": f"torch.optim:{name}", "args": args}, {"name": name.lower(), "fused": None, **args}):
        if name in ("RAdam", "NAdam", "Adafactor"):
            chosen.pop("fused", None)
        model = ConvNet().double()
        engine = engine_with(model, chosen)
        for number in range(3):
            step(engine, seed=number)
        results.append(weights_of(model))
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


@pytest.mark.parametrize("name", ["Lion", "Lamb", "AdaBelief"])
def test_an_optimizer_of_timm_trains(name: str):
    pytest.importorskip("timm")
    model = ConvNet()
    engine = engine_with(model, {"target": f"timm.optim:{name}", "lr": 1e-2, "no_decay": "bias"})
    before = weights_of(model)
    step(engine)
    assert all(not torch.equal(before[key], now) for key, now in weights_of(model).items() if key != "bn.bias")


@pytest.mark.parametrize("target", ["own_optimizers:Half", "own_optimizers:half"])
def test_one_in_a_module_beside_the_config_gets_its_arguments(own: str, target: str):
    optimizer = configured({"target": target, "lr": 0.4, "args": {"strength": 0.5}}, own)
    assert optimizer.factory([{"params": [nn.Parameter(torch.ones(2))]}]).param_groups[0]["lr"] == 0.1
    assert optimizer.arguments == {"lr": 0.4, "strength": 0.5}
    assert optimizer.settings == {"strength": 0.5}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "own_optimizers:nothing"}, "optimizer.target: own_optimizers:nothing is refused: expected a class"),
        ({"target": "os:system"}, "optimizer.target: os:system is refused"),
        ({"target": "own_optimizers:Nil"}, "optimizer.target: .* module own_optimizers has no 'Nil'"),
        ({"target": "own_optimizers:Half", "args": {"strenth": 1}}, "optimizer.args.strenth: unknown key.*strength"),
        ({"target": "own_optimizers:Half", "strength": 1}, "optimizer.strength: unknown key; arguments of target go"),
        ({"target": "own_optimizers:Half", "name": "sgd"}, "optimizer.*: expected exactly one of name and target"),
        ({"name": "sgd", "args": {"momentum": 0.9}}, "optimizer.args: args belong to target"),
        ({"target": "own_optimizers:Half", "args": {"lr": 1}}, "optimizer.args.lr: unknown key"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(own: str, settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        configured(settings, own)
