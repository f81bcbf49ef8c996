"""The typed door to the hooks: one method each, which calls the plugins in order and checks every answer.

Each call is followed by a comparison of all that a hook must leave unchanged (see ``turns``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from buttress.components.loaded import LoadedPlugin
from buttress.engine.answers import Answers
from buttress.engine.checks import ValueChecks
from buttress.engine.implementation import Implementation, Values
from buttress.engine.resolution import resolve
from buttress.engine.state import RunState
from buttress.engine.turns import Watch
from buttress.errors import ButtressError, PluginError, extended, kind_and_text, raised_through, raising_line
from buttress.hookspecs import ExitOrder
from buttress.kernels import lsc_mean
from buttress.nn.calls import Outputs, calls_seen
from buttress.nn.contract import form_of
from buttress.types import Adv, Batch, Loss, ParamGroup, Track

if TYPE_CHECKING:
    from buttress.engine.objective import Objective


class Hooks:
    """Calls to the hooks, one method each, with every answer checked.

    Args:
        plugins: plugins in the order of the calls.
        state: state of the run, which their contexts show.
        checks: checks of the values of answers.
    """

    def __init__(self, plugins: Sequence[LoadedPlugin], state: RunState, checks: ValueChecks) -> None:
        self._state = state
        self.watch = Watch(checks)
        if state.world.size > 1:
            state.world.place = lambda: f"{self.watch.at_work or 'the core'}, {state.place}"
        self.table = resolve(plugins, state, self.watch)
        self.answers = Answers(state, checks)
        if not self.table["generate_adv"].providers:
            raise PluginError("no plugin provides generate_adv; add an attack, for example pgd (or clean for none)")
        self._radius = self._largest_radius("generate_adv")
        self._perturbed_radius = self._largest_radius("generate_adv", "perturb_weights")
        self._masked_loss = self._find_masked_loss(state)
        self.wants_input_grad = any(plugin.traits.input_grad for plugin in plugins)
        self.exit_order: ExitOrder = "restore_then_step"
        for implementation in self.table["perturb_weights"].providers:
            self.exit_order = implementation.plugin.traits.exit_order

    def order(self) -> dict[str, list[str]]:
        """Names of the hooks that any plugin implements, with the labels of these plugins, wrappers first."""
        return {
            name: [impl.plugin.label for impl in (*hook.wrappers, *hook.providers)]
            for name, hook in self.table.items()
            if hook.providers or hook.wrappers
        }

    def provider(self, hook: str) -> LoadedPlugin | None:
        """The plugin that provides an exclusive hook, or None."""
        providers = self.table[hook].providers
        return providers[0].plugin if providers else None

    # Exclusive hooks

    def generate_adv(self, model: nn.Module, batch: Batch) -> Adv:
        x = self.answers.as_is(batch.x)
        radius = 1.0 if self._state.phase == "evaluate" else self._radius
        adv: Adv = self.table["generate_adv"].call(
            {"model": model, "batch": batch},
            lambda who, answer: self.answers.adv(who, answer, batch, x, radius=radius),
        )
        return adv

    def _largest_radius(self, *hooks: str) -> float:
        """The largest radius, in units of eps, of the plugins that provide or wrap these hooks."""
        involved = [each for hook in hooks for each in (*self.table[hook].providers, *self.table[hook].wrappers)]
        return max(float(each.plugin.traits.radius) for each in involved)

    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv) -> Loss:
        outputs = Outputs([batch.x, adv.x, *batch.aux.values(), *adv.aux.values()])
        with calls_seen(model, outputs.see), self._state.showing(outputs):
            loss: Loss = self.table["compute_loss"].call(
                {"model": model, "batch": batch, "adv": adv}, lambda who, answer: self.answers.loss(who, answer, batch)
            )
        return loss

    def _find_masked_loss(self, state: RunState) -> Implementation | None:
        """The loss plugin's ``masked_loss``, if it has one and no wrapper changes the answer of ``compute_loss``."""
        hook = self.table["compute_loss"]
        plugin = self.provider("compute_loss")
        function = plugin.traits.masked_loss if plugin else None
        if plugin is None or function is None or hook.wrappers:
            return None
        arguments = ("model", "batch", "adv", "c_min", "inclusive")
        return Implementation(plugin, "compute_loss (masked_loss)", function, arguments, state, self.watch)

    def masked_loss(
        self, model: nn.Module, batch: Batch, adv: Adv, c_min: float, inclusive: bool
    ) -> tuple[Tensor, Tensor]:
        """Mean and number of the losses under the loss-stationary condition; see ``Objective.masked``."""
        fused = self._masked_loss
        if fused is None:
            losses = self.compute_loss(model, batch, adv).per_example
            if (unlabelled := batch.aux.get("unlabelled")) is not None:
                losses = losses.masked_fill(unlabelled, torch.nan)  # which is below no c_min, not even infinity
            return lsc_mean(losses, c_min, inclusive=inclusive)
        values = {"model": model, "batch": batch, "adv": adv, "c_min": c_min, "inclusive": inclusive}
        return self.answers.masked(fused, fused(values), batch)

    def expect_gradient(self, total: Tensor) -> None:
        """Expect a 0-dim training objective that depends on the weights."""
        if not total.requires_grad:
            who = self.table["compute_loss"].providers[0]
            raise who.detached()

    def unattackable(self) -> ButtressError:
        """The error of a training loss that does not depend on the attacked inputs, so that no attack can raise it."""
        who = self.table["compute_loss"].providers[0]
        return who.fault(
            "an attack maximises the training loss, and these losses do not depend on adv.x; use adv.x in the loss, "
            "without detach(), or give the attack another loss"
        )

    def backward_fault(self, problem: Exception) -> ButtressError:
        """An error about the backward of the training loss, which is taken by the core.

        The error names the plugin whose code raised. If there is none, it names the plugin that gave the losses. It
        also lists the other plugins that contributed to the losses.
        """
        loss = self.table["compute_loss"]
        involved = [*loss.providers, *loss.wrappers, *self.table["perturb_weights"].providers]
        who = next((each for each in involved if raised_through(problem, each.function)), involved[0])
        others = ", ".join(str(each.plugin) for each in involved if each is not who)
        fault = who.fault(
            f"the gradient of the training loss cannot be taken: {kind_and_text(problem)}",
            place=raising_line(problem, who.function),
        )
        return extended(fault, f"; beside it: {others}") if others else fault

    def expect_weight_gradient(self, grads: Sequence[Tensor | None]) -> None:
        """Expect that a training objective that depends on the adversarial examples depends on some weight too."""
        if all(grad is None for grad in grads):
            raise self.table["compute_loss"].providers[0].detached()

    def expect_gradients(self, model: nn.Module, input_grad: Tensor | None) -> None:
        """Expect finite gradients of the training objective, in ``.grad`` and with respect to adversarial examples."""

        def named() -> dict[str, Tensor]:
            grads = self.watch.parts_of(model).grads()
            return grads if input_grad is None else {**grads, "adv.x": input_grad}

        self.answers.gradients(self.table["compute_loss"].providers[0], named)

    def expect_ascent(self, model: nn.Module, weights: Sequence[Tensor], grads: Sequence[Tensor | None]) -> None:
        """Expect finite gradients, along which ``perturb_weights`` moves the weights."""

        def named() -> dict[str, Tensor]:
            names: dict[Tensor, str] = {weight: name for name, weight in model.named_parameters()}
            return {names[w]: grad for w, grad in zip(weights, grads, strict=True) if grad is not None and w in names}

        self.answers.gradients(self.table["perturb_weights"].providers[0], named)

    def perturb_weights(
        self, model: nn.Module, batch: Batch, adv: Adv, objective: Objective
    ) -> AbstractContextManager[Adv | None] | None:
        """Ask for a perturbation; adversarial examples that its manager yields belong to ``batch``."""
        hook = self.table["perturb_weights"]
        if not hook.providers:
            return None
        values: Values = {"model": model, "batch": batch, "adv": adv, "objective": objective}
        manager: AbstractContextManager[Adv | None] | None = hook.call(
            values,
            lambda who, answer: self.answers.manager(who, answer, batch, who.turn(values), self._perturbed_radius),
        )
        return manager

    # Chains

    def transform_batch(self, batch: Batch) -> Batch:
        for implementation in self.table["transform_batch"].providers:
            batch = self.answers.batch(implementation, implementation({"batch": batch}), batch)
        return batch

    def param_groups(self, groups: list[ParamGroup], model: nn.Module) -> list[ParamGroup]:
        for implementation in self.table["param_groups"].providers:
            answer = implementation({"groups": list(groups), "model": model})
            groups = self.answers.groups(implementation, answer, groups)
        return groups

    def adjust_grads(self, model: nn.Module, optimizer: Optimizer) -> None:
        for implementation in self.table["adjust_grads"].providers:
            implementation.tell({"model": model, "optimizer": optimizer})
            self.answers.gradients(implementation, self.watch.parts_of(model).grads)

    def ensemble_weights(self, model: nn.Module, event: Literal["step", "epoch"]) -> None:
        for implementation in self.table["ensemble_weights"].providers:
            answer = implementation({"model": model, "event": event})
            if answer is not None:
                raise implementation.fault(f"expected None at event {event!r}, got {form_of(answer)}")

    def tracks(self, model: nn.Module) -> list[Track]:
        """``ensemble_weights`` at event ``evaluate``."""
        tracks: dict[str, Track] = {}
        for implementation in self.table["ensemble_weights"].providers:
            answer = implementation({"model": model, "event": "evaluate"})
            if answer is not None:
                track = self.answers.track(implementation, answer, model, {"live", *tracks})
                tracks[track.name] = track
        return list(tracks.values())

    def start_run(self, model: nn.Module) -> None:
        self._all("start_run", {"model": model})

    def end_epoch(self, metrics: Mapping[str, float]) -> None:
        self._all("end_epoch", {"metrics": metrics})

    def log(self, metrics: Mapping[str, object]) -> None:
        self._all("log", {"metrics": metrics})

    def end_run(self, model: nn.Module) -> None:
        self._all("end_run", {"model": model})

    def _all(self, hook: str, values: Values) -> None:
        for implementation in self.table[hook].providers:
            implementation.tell(values)
