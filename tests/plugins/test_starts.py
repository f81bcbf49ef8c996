"""The starts of attacks against their formulas, drawn from the plugin's own stream, bit for bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import ThreatModel, load_plugins
from buttress.scoring.attacks import load_attack

from ..models import ConvNet
from .conftest import batch_of, context

LINF = ThreatModel("linf", "1/10")
Formula = Callable[[Tensor, torch.Generator], Tensor]


def uniform(x: Tensor, draws: torch.Generator) -> Tensor:
    half = float(LINF.eps)
    noise = torch.rand(x.shape, generator=draws, dtype=x.dtype)
    return x + ((x + noise.mul_(2 * half).sub_(half)).clamp(0, 1) - x)


def gaussian(x: Tensor, draws: torch.Generator) -> Tensor:
    return x + 0.001 * torch.randn(x.shape, generator=draws, dtype=x.dtype)


def clipped(x: Tensor, draws: torch.Generator) -> Tensor:
    return x + (gaussian(x, draws).clamp(0, 1) - x)


def x_itself(x: Tensor, draws: torch.Generator) -> Tensor:
    return x


BOTH: dict[str, Formula] = {"uniform": uniform, "none": x_itself}
STARTS: dict[str, tuple[dict[str, Any], dict[str, Formula]]] = {
    "pgd": ({}, {**BOTH, "gaussian": gaussian}),
    "gairat": ({}, {**BOTH, "gaussian": gaussian}),
    "fat": ({"omega": 0}, {**BOTH, "gaussian": gaussian}),
    "ard_prm": ({"ard": False, "prm": False}, {**BOTH, "gaussian": clipped}),
    "fgsm": ({}, BOTH),
    "cw": ({}, BOTH),
    "mifgsm": ({}, BOTH),
}


@pytest.mark.parametrize(
    ("attack", "start"), [(attack, start) for attack, (_, formulas) in STARTS.items() for start in formulas]
)
def test_an_attack_whose_steps_have_no_length_ends_at_its_start(attack: str, start: str):
    settings, formulas = STARTS[attack]
    batch, contexts = batch_of(dtype=torch.float64), [context(LINF, plugin=attack, seed=3) for _ in range(2)]
    entry = {attack: {"start": start, "step_size": 0, **settings}}
    plugin = (load_attack(entry) if attack in ("cw", "mifgsm") else load_plugins([entry])[0]).plugin
    actual = plugin.generate_adv(ConvNet().double(), batch, contexts[0]).x
    expected = formulas[start](batch.x, contexts[1].generator("start"))
    assert torch.equal(actual, LINF.project(expected, batch.x))
