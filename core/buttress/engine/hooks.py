"""The typed door to the hooks: resolves them once, calls them in order, checks every answer, names who is at fault.

pluggy marks, validates and registers; the calls themselves go through the tuples resolved here, which follow pluggy's
wrapper protocol. What a call must leave as it found it is compared around each of them (see ``turns``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pluggy
from torch import Tensor, nn
from torch.optim import Optimizer

from buttress import hookspecs
from buttress.components.loaded import LoadedPlugin
from buttress.components.plugin_class import check_class
from buttress.engine.answers import Answers
from buttress.engine.checks import ValueChecks
from buttress.engine.context import Context
from buttress.engine.given import Given
from buttress.engine.state import RunState
from buttress.engine.turns import Turn, Watch
from buttress.errors import (
    ButtressError,
    HookError,
    InputError,
    PluginError,
    definition_of,
    describe,
    line_in,
    prefixed,
)
from buttress.hookspecs import EXCLUSIVE, HOOKS, ExitOrder
from buttress.kernels import lsc_mean
from buttress.nn.contract import kind
from buttress.types import Adv, Batch, Loss, ParamGroup, Track

if TYPE_CHECKING:
    from buttress.engine.objective import Objective

Values = dict[str, Any]
Accept = Callable[["Implementation", Any], Any]


class Implementation:
    """One plugin's implementation of one hook."""

    __slots__ = ("_state", "_watch", "arguments", "context", "function", "hook", "plugin", "writes")

    def __init__(
        self,
        plugin: LoadedPlugin,
        hook: str,
        function: Callable[..., Any],
        arguments: Sequence[str],
        state: RunState,
        watch: Watch,
    ) -> None:
        self.plugin, self.hook, self.function, self.arguments = plugin, hook, function, arguments
        self.context = Context(state, plugin.label)
        self._state, self._watch = state, watch
        back = hook == "ensemble_weights" and plugin.traits.writes_back
        self.writes = back or hook in ("param_groups", "start_run", "perturb_weights")

    def __call__(self, values: Values) -> Any:
        values["ctx"] = self.context
        with self.turn(values):
            try:
                return self.function(*[values[name] for name in self.arguments])
            except InputError as problem:  # what the plugin was given is wrong: its settings, the model
                raise prefixed(problem, f"plugin {self.plugin}") from problem.__cause__
            except (ButtressError, KeyboardInterrupt):
                raise
            except BaseException as error:  # sys.exit(0) in a plugin must not look like a run that has ended well
                raise self.fault(describe(error)) from error

    def turn(self, values: Values) -> Turn:
        """The block around a call with these arguments, begun now: see there what it refuses."""
        return self._watch.turn(self, values, self.writes)

    def tell(self, values: Values) -> None:
        """Call a hook whose answer nobody takes: it must have run when it answers."""
        answer = self(values)
        if answer is not None and _has_not_run(answer):
            raise self.fault(f"expected None, got a {type(answer).__name__}, which has not run; write a plain method")

    def __str__(self) -> str:
        return f"plugin {self.plugin}, hook {self.hook}"

    def refusal(self, message: str) -> PluginError:
        """An error about the plugin's settings."""
        return PluginError(f"plugin {self.plugin}: {message}")

    def fault(self, message: str, when: str = "") -> HookError:
        """An error that names plugin, distribution, version, hook, epoch and step."""
        return HookError(f"plugin {self.plugin}, hook {self.hook},{when or f' {self._state.place}'}:\n  {message}")


class ResolvedHook:
    """All implementations of a hook, in the order in which they are called."""

    def __init__(self, name: str, providers: Sequence[Implementation], wrappers: Sequence[Implementation]) -> None:
        self.name, self.providers, self.wrappers = name, tuple(providers), tuple(wrappers)

    def call(self, values: Values, accept: Accept) -> Any:
        """The provider's answer, seen and perhaps changed by the wrappers, the first listed outermost.

        ``accept(who, answer)`` checks each new answer and gives it its final form, so that a wrong one is blamed on
        whoever gave it.
        """
        provider = self.providers[0]
        if not self.wrappers:
            return accept(provider, provider(values))
        running: list[tuple[Implementation, Generator[None, Any, Any], Turn]] = []
        result: Any = None
        error: BaseException | None = None
        try:
            for wrapper in self.wrappers:
                generator, turn = wrapper(values), wrapper.turn(values)
                self._advance(wrapper, generator)
                running.append((wrapper, generator, turn))
                turn.expect_unwritten()
            result = accept(provider, provider(values))
        except BaseException as raised:
            error = raised
        for wrapper, generator, turn in reversed(running):
            try:
                with turn:
                    result, error = self._finish(wrapper, generator, result, error, accept)
            except ButtressError as fault:
                error = error or fault
        if error is not None:
            raise error
        return result

    @staticmethod
    def _advance(wrapper: Implementation, generator: Generator[None, Any, Any]) -> None:
        try:
            yielded = next(generator)
        except StopIteration:
            raise wrapper.fault("a wrapper must yield exactly once, this one did not yield") from None
        except (ButtressError, KeyboardInterrupt):
            raise
        except BaseException as raised:
            raise wrapper.fault(describe(raised)) from raised
        if yielded is not None:
            generator.close()
            raise wrapper.fault(
                f"expected a bare yield, and it yielded {kind(yielded)}, which nobody takes; write answer = yield, and "
                "return what is to take the answer's place"
            )

    def _finish(
        self,
        wrapper: Implementation,
        generator: Generator[None, Any, Any],
        result: Any,
        error: BaseException | None,
        accept: Accept,
    ) -> tuple[Any, BaseException | None]:
        checked = Given({"adv": result}, copied=False)
        try:
            if error is None:
                generator.send(result)
            else:
                generator.throw(error)
        except StopIteration as stop:
            if stop.value is result and error is None and not checked.written():
                return result, None
            if stop.value is None and self.name != "perturb_weights":  # there None skips the perturbation
                return None, wrapper.fault("a wrapper must return the answer, got None (is a 'return' missing?)")
            try:
                return accept(wrapper, stop.value), None
            except ButtressError as wrong:
                return None, wrong
        except (ButtressError, KeyboardInterrupt) as raised:
            return None, raised
        except BaseException as raised:
            fault = wrapper.fault(describe(raised))
            fault.__cause__ = raised
            return None, fault
        generator.close()
        return None, wrapper.fault("a wrapper must yield exactly once, this one yielded twice")


def resolve(plugins: Sequence[LoadedPlugin], state: RunState, watch: Watch | None = None) -> dict[str, ResolvedHook]:
    """Every hook with its implementations in the order of ``plugins``.

    Args:
        plugins: in the order of calls.
        state: what their contexts show.
        watch: looks at what each call leaves behind; by default one that compares no values.

    Raises:
        PluginError: two plugins under one label, a signature that does not fit the specification, two providers of
            an exclusive hook, or a class that is no plugin (see ``plugin_class.check_class``).
    """
    watch = watch or Watch(ValueChecks("off", state.device))
    manager = pluggy.PluginManager("buttress")
    manager.add_hookspecs(hookspecs)
    by_label = {plugin.label: plugin for plugin in plugins}
    if len(by_label) < len(plugins):
        raise PluginError(f"two plugins share a label: {', '.join(plugin.label for plugin in plugins)}")
    for plugin in plugins:
        check_class(plugin.plugin, plugin.source)
        try:
            manager.register(plugin.plugin, name=plugin.label)
        except (pluggy.PluginValidationError, ValueError) as problem:
            raise PluginError(f"plugin {plugin}: {problem}") from problem
        except Exception as problem:  # of its own __eq__: pluggy compares plugins
            raise PluginError(f"plugin {plugin} cannot be registered: {describe(problem)}") from problem
    order = {label: position for position, label in enumerate(by_label)}
    _expect_peace(plugins)
    resolved = {}
    for name in sorted(HOOKS):
        found = sorted(getattr(manager.hook, name).get_hookimpls(), key=lambda impl: order[impl.plugin_name])
        made = [
            (impl.wrapper, Implementation(by_label[impl.plugin_name], name, impl.function, impl.argnames, state, watch))
            for impl in found
        ]
        providers = [implementation for is_wrapper, implementation in made if not is_wrapper]
        wrappers = [implementation for is_wrapper, implementation in made if is_wrapper]
        if name in EXCLUSIVE and len(providers) > 1:
            both = " and ".join(str(implementation.plugin) for implementation in providers)
            raise PluginError(f"{name} takes one provider, got {both}; remove one of them from plugins")
        if name == "ensemble_weights":
            providers.sort(key=lambda impl: not impl.plugin.traits.writes_back)  # stable
        resolved[name] = ResolvedHook(name, providers, wrappers)
    return resolved


def _expect_peace(plugins: Sequence[LoadedPlugin]) -> None:
    """No plugin may ``give`` what another one ``refuses``."""
    for plugin in plugins:
        for what, reason in plugin.traits.refuses.items():
            for other in plugins:
                if what in other.traits.gives:
                    raise PluginError(
                        f"plugin {plugin} refuses {what}, which plugin {other} gives: {reason}; remove one of them"
                    )


class Hooks:
    """Calls to the hooks, one method each, with every answer checked.

    Args:
        plugins: in the order of calls.
        state: what their contexts show.
        checks: for the values of answers.
    """

    def __init__(self, plugins: Sequence[LoadedPlugin], state: RunState, checks: ValueChecks) -> None:
        self.watch = Watch(checks)
        self.table = resolve(plugins, state, self.watch)
        self.answers = Answers(state, checks)
        if not self.table["generate_adv"].providers:
            raise PluginError("no plugin provides generate_adv; add an attack, for example pgd (or clean for none)")
        self._masked_loss = self._find_masked_loss(state)
        self.exit_order: ExitOrder = "restore_then_step"
        for implementation in self.table["perturb_weights"].providers:
            self.exit_order = implementation.plugin.traits.exit_order

    def order(self) -> dict[str, list[str]]:
        """Hook name to the labels of its plugins, wrappers first, for those hooks that anybody implements."""
        return {
            name: [impl.plugin.label for impl in (*hook.wrappers, *hook.providers)]
            for name, hook in self.table.items()
            if hook.providers or hook.wrappers
        }

    def provider(self, hook: str) -> LoadedPlugin | None:
        """The provider of an exclusive hook."""
        providers = self.table[hook].providers
        return providers[0].plugin if providers else None

    # Exclusive hooks

    def generate_adv(self, model: nn.Module, batch: Batch) -> Adv:
        x = self.answers.as_is(batch.x)
        adv: Adv = self.table["generate_adv"].call(
            {"model": model, "batch": batch}, lambda who, answer: self.answers.adv(who, answer, batch, x)
        )
        return adv

    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv) -> Loss:
        loss: Loss = self.table["compute_loss"].call(
            {"model": model, "batch": batch, "adv": adv}, lambda who, answer: self.answers.loss(who, answer, batch)
        )
        return loss

    def _find_masked_loss(self, state: RunState) -> Implementation | None:
        """The loss plugin's ``masked_loss``, if it has one and nobody changes what its ``compute_loss`` answers."""
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
            return lsc_mean(self.compute_loss(model, batch, adv).per_example, c_min, inclusive=inclusive)
        values = {"model": model, "batch": batch, "adv": adv, "c_min": c_min, "inclusive": inclusive}
        return self.answers.masked(fused, fused(values), batch)

    def expect_gradient(self, total: Tensor) -> None:
        """The 0-dim training objective must depend on the weights."""
        if not total.requires_grad:
            who = self.table["compute_loss"].providers[0]
            raise who.fault("expected losses with a gradient to the weights, got detached ones; leave out detach()")

    def backward_fault(self, problem: Exception) -> ButtressError:
        """An error about the backward of the training loss, which the core takes.

        It names the plugin whose code raised; else the one that gave the losses, and who else had a hand in them.
        """
        loss = self.table["compute_loss"]
        involved = [*loss.providers, *loss.wrappers, *self.table["perturb_weights"].providers]
        who = next((each for each in involved if line_in(problem, each.function)), involved[0])
        at = line_in(problem, who.function) or definition_of(who.function)
        others = ", ".join(str(each.plugin) for each in involved if each is not who)
        return who.fault(
            f"the gradient of the training loss cannot be taken: {describe(problem)} ({at})"
            + (f"; beside it: {others}" if others else "")
        )

    def expect_gradients(self, model: nn.Module) -> None:
        """The gradients of the training objective, in ``.grad``, must be finite."""
        self.answers.gradients(self.table["compute_loss"].providers[0], partial(_grads_of, model))

    def expect_ascent(self, model: nn.Module, weights: Sequence[Tensor], grads: Sequence[Tensor | None]) -> None:
        """The gradients along which ``perturb_weights`` moves the weights must be finite."""

        def found() -> dict[str, Tensor]:
            names: dict[Tensor, str] = {weight: name for name, weight in model.named_parameters()}
            return {names[w]: grad for w, grad in zip(weights, grads, strict=True) if grad is not None and w in names}

        self.answers.gradients(self.table["perturb_weights"].providers[0], found)

    def perturb_weights(
        self, model: nn.Module, batch: Batch, adv: Adv, objective: Objective
    ) -> AbstractContextManager[Adv | None] | None:
        """``batch`` is what the adversarial examples that the plugin yields belong to."""
        hook = self.table["perturb_weights"]
        if not hook.providers:
            return None
        values: Values = {"model": model, "batch": batch, "adv": adv, "objective": objective}
        manager: AbstractContextManager[Adv | None] | None = hook.call(
            values, lambda who, answer: self.answers.manager(who, answer, batch, who.turn(values))
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
            self.answers.gradients(implementation, partial(_grads_of, model))

    def ensemble_weights(self, model: nn.Module, event: Literal["step", "epoch"]) -> None:
        for implementation in self.table["ensemble_weights"].providers:
            answer = implementation({"model": model, "event": event})
            if answer is not None:
                raise implementation.fault(f"expected None at event {event!r}, got {kind(answer)}")

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


def _has_not_run(answer: object) -> bool:
    """Whether it is work that waits for somebody: a generator, a coroutine, a context manager."""
    return isinstance(answer, (Generator, Awaitable, AsyncGenerator, AbstractContextManager))


def _grads_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
