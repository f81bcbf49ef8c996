"""Shared by the tests of a step: hooks without an engine."""

from typing import Any

import pytest
import torch
from torch import Tensor

from buttress import Adv, Batch, ThreatModel
from buttress.components.loaded import as_loaded, provides
from buttress.engine.checks import ValueChecks
from buttress.engine.hooks import Hooks
from buttress.engine.resolution import resolve
from buttress.engine.state import RunState
from buttress.errors import PluginError
from buttress.hookspecs import EXCLUSIVE

from ..core.helpers import CPU, LINF, plugin


def hooks_of(*plugins: Any, threat: ThreatModel = LINF, epoch: int = 0, at_step: int = 0) -> Hooks:
    state = RunState(threat, CPU)
    state.epoch, state.step = epoch, at_step
    given = {hook for p in as_loaded(plugins) for hook in EXCLUSIVE if provides(p, hook)}
    attack = [] if "generate_adv" in given else ["clean"]
    loss = [] if "compute_loss" in given else ["cross_entropy"]
    return Hooks(as_loaded([*plugins, *attack, *loss]), state, ValueChecks("always", CPU))


def refused(*plugins: Any) -> str:
    with pytest.raises(PluginError) as caught:
        resolve(as_loaded(plugins), RunState(LINF, CPU))
    return str(caught.value)


def wrapping(calls: list[str], letter: str, change: Any = lambda answer: answer) -> Any:
    def around(self: Any) -> Any:
        calls.append(f"{letter}>")
        answer = yield
        calls.append(f"<{letter}")
        return change(answer)

    return around


def constant_loss(calls: list[str] | None = None, error: BaseException | None = None) -> Any:
    def compute_loss(self: Any, batch: Batch) -> Tensor:
        if calls is not None:
            calls.append("loss")
        if error is not None:
            raise error
        return torch.ones(len(batch.y))

    return plugin("loss", compute_loss=compute_loss)


def leaving_the_ball(at: set[int]) -> Any:
    def generate_adv(self: Any, batch: Batch, ctx: Any) -> Adv:
        return Adv((batch.x + 0.2).clamp(0, 1) if ctx.global_step in at else batch.x)

    return plugin("far", generate_adv=generate_adv)
