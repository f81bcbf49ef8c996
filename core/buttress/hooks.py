"""The typed door to the hooks: resolves them once, calls them in order, checks every answer, names who is at fault.

pluggy marks, validates and registers; the calls themselves go through the tuples resolved here, which follow pluggy's
wrapper protocol and cost about a microsecond each.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import pluggy
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from buttress import hookspecs
from buttress.checks import ValueChecks
from buttress.context import Context, RunState
from buttress.errors import ButtressError, HookError, PluginError
from buttress.hookspecs import CHAIN, EXCLUSIVE, HOOKS, Event
from buttress.perturbation import EXIT_ORDERS, ExitOrder, Objective
from buttress.registry import LoadedPlugin, check_class
from buttress.types import Adv, Batch, Loss, ParamGroup, Track

Values = dict[str, Any]
Accept = Callable[["Implementation", Any], Any]


class Implementation:
    """One plugin's implementation of one hook."""

    __slots__ = ("_state", "arguments", "context", "function", "hook", "plugin")

    def __init__(self, plugin: LoadedPlugin, hook: str, found: pluggy.HookImpl, state: RunState) -> None:
        self.plugin, self.hook, self.function = plugin, hook, found.function
        self.arguments = found.argnames
        self.context = Context(state, plugin.label)
        self._state = state

    def __call__(self, values: Values) -> Any:
        values["ctx"] = self.context
        try:
            return self.function(*[values[name] for name in self.arguments])
        except ButtressError:
            raise
        except Exception as error:
            raise self.fault(f"{type(error).__name__}: {error}") from error

    def fault(self, message: str, when: str = "") -> HookError:
        """An error that names plugin, distribution, version, hook, epoch and step."""
        at = when or f" epoch {self._state.epoch}, step {self._state.step}"
        return HookError(f"plugin {self.plugin}, hook {self.hook},{at}:\n  {message}")


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
        running: list[tuple[Implementation, Generator[None, Any, Any]]] = []
        result: Any = None
        error: BaseException | None = None
        try:
            for wrapper in self.wrappers:
                generator = wrapper(values)
                self._advance(wrapper, generator)
                running.append((wrapper, generator))
            result = accept(provider, provider(values))
        except BaseException as raised:
            error = raised
        for wrapper, generator in reversed(running):
            result, error = self._finish(wrapper, generator, result, error, accept)
        if error is not None:
            raise error
        return result

    @staticmethod
    def _advance(wrapper: Implementation, generator: Generator[None, Any, Any]) -> None:
        try:
            next(generator)
        except StopIteration:
            raise wrapper.fault("a wrapper must yield exactly once, this one did not yield") from None
        except ButtressError:
            raise
        except Exception as raised:
            raise wrapper.fault(f"{type(raised).__name__}: {raised}") from raised

    def _finish(
        self,
        wrapper: Implementation,
        generator: Generator[None, Any, Any],
        result: Any,
        error: BaseException | None,
        accept: Accept,
    ) -> tuple[Any, BaseException | None]:
        try:
            if error is None:
                generator.send(result)
            else:
                generator.throw(error)
        except StopIteration as stop:
            if stop.value is result and error is None:
                return result, None
            if stop.value is None and self.name != "perturb_weights":  # there None skips the perturbation
                return None, wrapper.fault("a wrapper must return the answer, got None (is a 'return' missing?)")
            try:
                return accept(wrapper, stop.value), None
            except ButtressError as wrong:
                return None, wrong
        except ButtressError as raised:
            return None, raised
        except Exception as raised:
            fault = wrapper.fault(f"{type(raised).__name__}: {raised}")
            fault.__cause__ = raised
            return None, fault
        except BaseException as raised:
            return None, raised
        generator.close()
        return None, wrapper.fault("a wrapper must yield exactly once, this one yielded twice")


def resolve(plugins: Sequence[LoadedPlugin], state: RunState) -> dict[str, ResolvedHook]:
    """Every hook with its implementations in the order of ``plugins``.

    Raises:
        PluginError: two plugins under one label, a signature that does not fit the specification, two providers of
            an exclusive hook, or a class that is no plugin (see ``registry.check_class``).
    """
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
    order = {label: position for position, label in enumerate(by_label)}
    resolved = {}
    for name in sorted(HOOKS):
        found = sorted(getattr(manager.hook, name).get_hookimpls(), key=lambda impl: order[impl.plugin_name])
        made = [(impl.wrapper, Implementation(by_label[impl.plugin_name], name, impl, state)) for impl in found]
        providers = [implementation for is_wrapper, implementation in made if not is_wrapper]
        wrappers = [implementation for is_wrapper, implementation in made if is_wrapper]
        if wrappers and name in CHAIN:
            raise PluginError(f"plugin {wrappers[0].plugin}: {name} is a chain hook; only exclusive hooks are wrapped")
        if name in EXCLUSIVE and len(providers) > 1:
            both = " and ".join(str(implementation.plugin) for implementation in providers)
            raise PluginError(f"{name} takes one provider, got {both}; remove one of them from plugins")
        if name == "ensemble_weights":
            providers.sort(key=lambda impl: not getattr(impl.plugin.plugin, "writes_back", False))  # stable
        resolved[name] = ResolvedHook(name, providers, wrappers)
    return resolved


class Hooks:
    """Calls to the hooks, one method each, with every answer checked.

    Args:
        plugins: in the order of calls.
        state: what their contexts show.
        checks: for the values of answers.
    """

    def __init__(self, plugins: Sequence[LoadedPlugin], state: RunState, checks: ValueChecks) -> None:
        self.table = resolve(plugins, state)
        self._state, self._checks = state, checks
        if not self.table["generate_adv"].providers:
            raise PluginError("no plugin provides generate_adv; add an attack, for example pgd (or clean for none)")
        self.exit_order: ExitOrder = "restore_then_step"
        for implementation in self.table["perturb_weights"].providers:
            self.exit_order = getattr(implementation.plugin.plugin, "exit_order", "restore_then_step")
            if self.exit_order not in EXIT_ORDERS:
                raise PluginError(
                    f"plugin {implementation.plugin}: exit_order: expected one of {', '.join(EXIT_ORDERS)}, "
                    f"got {self.exit_order!r}"
                )

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
        adv: Adv = self.table["generate_adv"].call(
            {"model": model, "batch": batch}, lambda who, answer: self._accept_adv(who, answer, batch)
        )
        return adv

    def compute_loss(self, model: nn.Module, batch: Batch, adv: Adv) -> Loss:
        loss: Loss = self.table["compute_loss"].call(
            {"model": model, "batch": batch, "adv": adv}, lambda who, answer: self._accept_loss(who, answer, batch)
        )
        return loss

    def expect_gradient(self, total: Tensor) -> None:
        """The 0-dim training objective must depend on the weights."""
        if not total.requires_grad:
            who = self.table["compute_loss"].providers[0]
            raise who.fault("expected losses with a gradient to the weights, got detached ones; leave out detach()")

    def perturb_weights(
        self, model: nn.Module, adv: Adv, objective: Objective
    ) -> AbstractContextManager[Adv | None] | None:
        hook = self.table["perturb_weights"]
        if not hook.providers:
            return None
        manager: _Named | None = hook.call({"model": model, "adv": adv, "objective": objective}, _accept_manager)
        return manager

    def _accept_adv(self, who: Implementation, answer: Any, batch: Batch) -> Adv:
        adv = Adv(answer) if isinstance(answer, Tensor) else answer
        if not isinstance(adv, Adv) or not isinstance(adv.x, Tensor):
            raise who.fault(f"expected an Adv or a tensor, got {_kind(answer)}; return Adv(x)")
        x = batch.x
        if adv.x.shape != x.shape or adv.x.dtype != x.dtype or adv.x.device != x.device:
            raise who.fault(f"expected adversarial examples like the batch's x, {_kind(x)}, got {_kind(adv.x)}")
        if adv.x.requires_grad:
            raise who.fault("expected detached adversarial examples; return x_adv.detach()")
        for name, value in adv.aux.items():
            if not isinstance(value, Tensor) or value.dim() == 0 or len(value) != len(x):
                raise who.fault(f"aux {name!r}: expected a tensor [{len(x)},...], got {_kind(value)}")
        if self._checks.level != "off":
            good = self._state.threat.contains(adv.x, x)
            self._expect_values(who, good, lambda: _outside(self._state, adv.x, x))
        return adv

    def _accept_loss(self, who: Implementation, answer: Any, batch: Batch) -> Loss:
        loss = Loss(answer) if isinstance(answer, Tensor) else answer
        if not isinstance(loss, Loss):
            raise who.fault(f"expected losses [B] or a Loss, got {_kind(answer)}; return per-example losses")
        losses, penalty = loss.per_example, loss.penalty
        good_kind = isinstance(losses, Tensor) and losses.is_floating_point() and losses.device == batch.x.device
        if not good_kind or losses.shape != batch.y.shape[:1]:
            raise who.fault(
                f"expected floating-point losses of shape ({len(batch.y)},) on {batch.x.device}, got {_kind(losses)}; "
                "return one loss per example (reduction='none')"
            )
        if penalty is not None and not (isinstance(penalty, Tensor) and penalty.dim() == 0):
            raise who.fault(f"expected a 0-dim penalty, got {_kind(penalty)}")
        if self._checks.level != "off":
            good = torch.isfinite(loss.total().detach())
            message = (
                "expected a finite training loss, got a non-finite one; the run has diverged: lower the learning rate"
            )
            self._expect_values(who, good, lambda: message)
        return loss

    # Chains

    def transform_batch(self, batch: Batch) -> Batch:
        for implementation in self.table["transform_batch"].providers:
            answer = implementation({"batch": batch})
            if answer is batch:  # checked already
                continue
            if not isinstance(answer, Batch):
                raise implementation.fault(
                    f"expected a Batch, got {_kind(answer)}; return the batch, changed or as it came"
                )
            if not isinstance(answer.x, Tensor) or not isinstance(answer.y, Tensor):
                raise implementation.fault(f"expected tensors x and y, got {_kind(answer.x)} and {_kind(answer.y)}")
            if answer.x.dtype != batch.x.dtype or answer.x.device != batch.x.device or len(answer.x) != len(answer.y):
                raise implementation.fault(
                    f"expected x of {batch.x.dtype} on {batch.x.device} and as many labels, got {_kind(answer.x)} and "
                    f"{len(answer.y)} labels"
                )
            if self._checks.level != "off" and answer.x is not batch.x:
                self._expect_values(
                    implementation, self._state.threat.box_contains(answer.x), lambda: "expected x inside the box"
                )
            batch = answer
        return batch

    def param_groups(self, groups: list[ParamGroup], model: nn.Module) -> list[ParamGroup]:
        for implementation in self.table["param_groups"].providers:
            before = sorted(name for group in groups for name in group.names)
            answer = implementation({"groups": groups, "model": model})
            if not isinstance(answer, list) or not all(isinstance(group, ParamGroup) for group in answer):
                raise implementation.fault(f"expected a list of ParamGroup, got {_kind(answer)}")
            after = sorted(name for group in answer for name in group.names)
            if before != after:
                wrong = sorted(set(before) ^ set(after) | {name for name in after if after.count(name) > 1})
                raise implementation.fault(
                    f"expected every parameter in exactly one group; lost, made up or twice: {', '.join(wrong)}"
                )
            groups = answer
        return groups

    def adjust_grads(self, model: nn.Module, optimizer: Optimizer) -> None:
        for implementation in self.table["adjust_grads"].providers:
            implementation({"model": model, "optimizer": optimizer})

    def ensemble_weights(self, model: nn.Module, event: Event) -> list[Track]:
        tracks: list[Track] = []
        for implementation in self.table["ensemble_weights"].providers:
            answer = implementation({"model": model, "event": event})
            if answer is None:
                continue
            if event != "evaluate" or not isinstance(answer, Track):
                raise implementation.fault(
                    f"expected {'a Track or None' if event == 'evaluate' else 'None'} at event {event!r}, "
                    f"got {_kind(answer)}"
                )
            taken = {"live", *(track.name for track in tracks)}
            if answer.name in taken:
                raise implementation.fault(
                    f"the track name {answer.name!r} is taken; give this plugin another one (setting 'track')"
                )
            self._expect_track(implementation, answer, model)
            tracks.append(answer)
        return tracks

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
            implementation(values)

    def _expect_values(self, implementation: Implementation, good: Tensor, describe: Callable[[], str]) -> None:
        self._checks.expect(implementation, good, self._state.global_step, describe)

    @staticmethod
    def _expect_track(implementation: Implementation, track: Track, model: nn.Module) -> None:
        expected: Iterable[tuple[str, Tensor]] = model.named_parameters()
        given = track.weights
        if given is None:
            return
        places = dict(expected)
        wrong = set(places) ^ set(given) | {
            name for name in set(places) & set(given) if places[name].shape != given[name].shape
        }
        if wrong:
            raise implementation.fault(
                f"track {track.name!r}: expected a tensor for every parameter of the model, of its shape; "
                f"wrong: {', '.join(sorted(wrong)[:5])}"
            )


class _Named(AbstractContextManager[Adv | None]):
    """A plugin's context manager whose own exceptions carry the plugin's name."""

    def __init__(self, manager: AbstractContextManager[Adv | None], implementation: Implementation) -> None:
        self._manager, self._implementation = manager, implementation

    def __enter__(self) -> Adv | None:
        try:
            answer = self._manager.__enter__()
        except ButtressError:
            raise
        except Exception as error:
            raise self._implementation.fault(f"{type(error).__name__}: {error}") from error
        if answer is not None and not isinstance(answer, Adv):
            raise self._implementation.fault(f"its context manager must yield an Adv or nothing, got {_kind(answer)}")
        return answer

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._manager.__exit__(kind, error, tb)
        except ButtressError:
            raise
        except Exception as raised:
            raise self._implementation.fault(f"{type(raised).__name__}: {raised}") from raised


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype} on {value.device}"
    return "None (is a 'return' missing?)" if value is None else f"a {type(value).__name__}"


def _accept_manager(who: Implementation, answer: Any) -> _Named | None:
    if answer is not None and not isinstance(answer, AbstractContextManager):
        raise who.fault(f"expected a context manager or None, got {_kind(answer)}")
    return None if answer is None else _Named(answer, who)


def _outside(state: RunState, x_adv: Tensor, x: Tensor) -> str:
    threat = state.threat
    if not torch.isfinite(x_adv).all():
        return "expected finite adversarial examples, got NaN or infinity"
    low, high = (float(value) for value in torch.aminmax(x_adv))
    if threat.box is not None and not (low >= threat.box[0] and high <= threat.box[1]):
        return (
            f"expected values in [{threat.box[0]:g}, {threat.box[1]:g}], got [{low:.6g}, {high:.6g}] in shape "
            f"{tuple(x_adv.shape)}; use ctx.threat.project(x_adv, batch.x) before returning"
        )
    farthest = float(threat.distance(x_adv, x).amax())
    return (
        f"expected adversarial examples within {threat.norm} distance {threat.eps} of x, got {farthest:.6g}; use "
        "ctx.threat.project(x_adv, batch.x) before returning"
    )
