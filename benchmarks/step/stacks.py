"""The stacks that are measured, each as plugins of the engine and as the public code of its method.

Both sides have the same settings: L-inf 8/255, PGD-10 with step 2/255 in eval mode, SGD with momentum and weight decay.
RWP's ``c_min`` is so high that every example is easy, so that both sides make all ten inner steps. AMP has the public
code's ball, one for each tensor, and one inner step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from buttress import ThreatModel

from .official import (
    EPS,
    STEPS,
    Official,
    OfficialAMP,
    OfficialAWP,
    OfficialRWP,
    ce_attack,
    cross_entropy,
    kl_attack,
    trades,
)

THREAT = ThreatModel("linf", "8/255")
C_MIN, K2 = 100.0, 10


class Stack(NamedTuple):
    """A method, written twice.

    Args:
        plugins: entries of the engine's stack.
        official: makes the public code's step for a model.
        start: makes the start of the attack on a batch.
    """

    plugins: list[Any]
    official: Callable[[nn.Module], Official]
    start: Callable[[Tensor], Tensor]


def uniform(x: Tensor) -> Tensor:
    """A start in the ball and the box."""
    return (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1) - x


def gaussian(x: Tensor) -> Tensor:
    """The start of TRADES."""
    return 0.001 * torch.randn_like(x)


def pgd(loss: str) -> dict[str, Any]:
    return {"pgd": {"steps": STEPS, "step_size": "2/255", "loss": loss}}


on_ce: dict[str, Any] = {"attack": ce_attack, "losses": cross_entropy}
on_kl: dict[str, Any] = {"attack": kl_attack, "losses": trades}

STACKS = {
    "pgd-at": Stack([pgd("ce")], partial(Official, **on_ce), uniform),
    "trades": Stack([pgd("kl"), "trades"], partial(Official, **on_kl), gaussian),
    "trades-awp": Stack(
        [pgd("kl"), "trades", {"awp": {"gamma": 0.005}}],
        partial(OfficialAWP, **on_kl, gamma=0.005),
        gaussian,
    ),
    "rwp": Stack(
        [pgd("ce"), {"rwp": {"gamma": 0.01, "c_min": C_MIN, "k2": K2, "variant": "official"}}],
        partial(OfficialRWP, **on_ce, gamma=0.01, c_min=C_MIN, k2=K2),
        uniform,
    ),
    "amp": Stack(
        [pgd("ce"), {"amp": {"delta": 0.1, "ball": "per_tensor"}}],
        partial(OfficialAMP, **on_ce, delta=0.1),
        uniform,
    ),
}
