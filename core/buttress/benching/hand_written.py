"""The hand-written loop that a config is compared with: PGD-AT's, TRADES', or AWP's around one of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from buttress.benching.loops import Loop, LoopAttack, LoopAWP, Trades, cross_entropy
from buttress.benching.measured_run import MeasuredRun, StepWork, initial_values
from buttress.benching.phases import PERTURBATION
from buttress.components.loaded import LoadedPlugin
from buttress.training.assembly import Assembly
from buttress.training.model import build_model
from buttress.training.optimizer import configured_optimizer
from buttress.types import Batch

# They change what a step learns, and not what it costs; so they are those of the papers, whatever the config has.
BETA, GAMMA = 6.0, 0.005


@dataclass(frozen=True)
class LoopMethod:
    """A method that people write by hand.

    Args:
        attack_steps: number of steps of its attack.
        trades: whether loss and attack are those of TRADES, not of PGD-AT.
        awp: whether the weights are perturbed adversarially.
        without: plugins of the config that it does not have.
    """

    attack_steps: int
    trades: bool
    awp: bool
    without: tuple[str, ...]

    def __str__(self) -> str:
        """``"TRADES-AWP, 10 attack steps"``."""
        name = "TRADES" if self.trades else "PGD-AT"
        steps = "1 attack step" if self.attack_steps == 1 else f"{self.attack_steps} attack steps"
        return f"{name}{'-AWP' if self.awp else ''}, {steps}"


class HandWritten:
    """The loop of a method, on a model of the config in the plain format, with the config's optimizer in torch's form.

    Args:
        run: run that is compared with it.
        method: method of the loop.
    """

    def __init__(self, run: MeasuredRun, method: LoopMethod) -> None:
        self.method, self._replays = method, run.replays
        engine, assembly = run.engine, run.assembly
        model = _plain_model(assembly)
        threat, kind = engine.threat, type(engine.optimizer)
        eps = float(threat.eps)
        ascent = LoopAttack(threat.norm, eps, eps / 4, method.attack_steps, threat.box)
        parts: dict[str, Any] = {
            "model": model,
            "optimizer": kind(model.parameters(), **configured_optimizer(assembly.file).arguments),
            "attack": ascent.on_divergence if method.trades else ascent.on_cross_entropy,
            "losses": Trades(BETA) if method.trades else cross_entropy,
            "attacks_in_eval_mode": engine.attack_mode == "eval",
        }
        self._loop = _made(parts, assembly, method)
        self._start: Callable[[Tensor], Tensor] = ascent.gaussian_start if method.trades else ascent.uniform_start
        self._initial = initial_values(model)

    def train(self, batch: Batch) -> None:
        """Make as many steps on a batch as the config has replays."""
        for _ in range(self._replays):
            self._loop.step(batch.x, batch.y, self._start(batch.x))

    def restore(self) -> None:
        """Put the initial weights back."""
        self._loop.model.load_state_dict(self._initial)


def plain_batch(batch: Batch) -> Batch:
    """The batch in the plain format of memory."""
    return Batch(batch.x.contiguous(), batch.y)


def _made(parts: dict[str, Any], assembly: Assembly, method: LoopMethod) -> Loop:
    return LoopAWP(**parts, proxy=_plain_model(assembly), gamma=GAMMA) if method.awp else Loop(**parts)


def _plain_model(assembly: Assembly) -> nn.Module:
    """Another model of the config, in the plain format of memory."""
    model, _ = build_model(assembly.file, assembly.data)
    return model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def method_of(run: MeasuredRun, work: StepWork) -> LoopMethod | None:
    """The method to compare with; None where the config attacks by no gradients of its own.

    Args:
        run: run that is compared.
        work: work of one of its steps.
    """
    steps = work.passes.input_backwards
    if steps == 0:
        return None
    hooks = run.engine.hooks
    attack, loss, perturbation = map(hooks.provider, ("generate_adv", "compute_loss", "perturb_weights"))
    trades = _is_pgd_on(attack, "kl") and _is(loss, "trades")
    awp = _is(perturbation, "awp") and work.flops.get(PERTURBATION, 0) > 0
    common = [
        attack if trades or _is_pgd_on(attack, "ce") else None,
        loss if trades or _is(loss, "cross_entropy") else None,
        perturbation if awp else None,
    ]
    missing = (plugin for plugin in run.engine.plugins if plugin not in common)
    without = tuple("this form of pgd" if _is(plugin, "pgd") else plugin.label for plugin in missing)
    return LoopMethod(steps, trades, awp, without)


def _is(loaded: LoadedPlugin | None, name: str) -> bool:
    """Whether a plugin is the one of buttress that has this name."""
    source = loaded.source if loaded else None
    return source is not None and (source.distribution, source.name) == ("buttress", name)


def _is_pgd_on(loaded: LoadedPlugin | None, loss: str) -> bool:
    """Whether a plugin is PGD on this loss, from one start to the last step, away from the labels."""
    expected = {"loss": loss, "restarts": 1, "targets": None, "early_stop": False}
    return _is(loaded, "pgd") and loaded is not None and expected.items() <= dict(loaded.settings).items()
