"""The loops that people write by hand train as the engine does: one step in float64 from equal weights."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from buttress import Engine, ThreatModel
from buttress.benching.loops import Loop, LoopAttack, LoopAWP, Trades, cross_entropy

from ..models import ConvNet

LINF, L2 = LoopAttack("linf", 0.1, 0.03, 3), LoopAttack("l2", 0.5, 0.2, 3)
make_sgd = partial(SGD, lr=0.1, momentum=0.9, weight_decay=5e-4)


def pgd(loss: str, ascent: LoopAttack) -> dict[str, Any]:
    return {"pgd": {"steps": ascent.steps, "step_size": ascent.step_size, "loss": loss}}


def hand_written(model: nn.Module, ascent: LoopAttack, *, on_divergence: bool, gamma: float | None) -> Loop:
    parts: dict[str, Any] = {
        "model": model,
        "optimizer": make_sgd(model.parameters()),
        "attack": ascent.on_divergence if on_divergence else ascent.on_cross_entropy,
        "losses": Trades(6.0) if on_divergence else cross_entropy,
    }
    return Loop(**parts) if gamma is None else LoopAWP(**parts, proxy=copy.deepcopy(model), gamma=gamma)


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.parametrize("ascent", [LINF, L2], ids=["linf", "l2"])
@pytest.mark.parametrize("gamma", [None, 0.01], ids=["", "awp"])
@pytest.mark.parametrize("on_divergence", [False, True], ids=["pgd-at", "trades"])
def test_a_step_by_hand_is_a_step_of_the_engine(on_divergence: bool, gamma: float | None, ascent: LoopAttack):
    torch.manual_seed(0)
    model = ConvNet().double()
    x, y = torch.rand(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % 3
    start = ascent.gaussian_start(x) if on_divergence else (x + ascent.uniform_start(x)).clamp(0, 1) - x
    ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
    plugins = [pgd("kl", ascent), "trades"] if on_divergence else [pgd("ce", ascent)]
    if gamma is not None:
        plugins.append({"awp": {"gamma": gamma}})
    engine = Engine(ours, make_sgd, plugins, ThreatModel(ascent.norm, ascent.eps))
    x_adv = engine.step(x, y, draws={"pgd.start": start}).adv.x
    theirs_adv = hand_written(theirs, ascent, on_divergence=on_divergence, gamma=gamma).step(x, y, start)
    torch.testing.assert_close(theirs_adv, x_adv, rtol=0, atol=1e-9)
    change, expected = weights_of(theirs) - weights_of(model), weights_of(ours) - weights_of(model)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("ascent", [LINF, L2], ids=["linf", "l2"])
def test_a_random_start_lies_in_the_ball(ascent: LoopAttack):
    x = torch.zeros(50, 1, 4, 4)
    start = ascent.uniform_start(x)
    assert ThreatModel(ascent.norm, ascent.eps, box=None).contains(start, x)
    assert start.std() > 0.03
