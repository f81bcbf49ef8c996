"""Find the plugins that implement each hook, in the order of the calls, and call provider and wrappers.

pluggy marks, validates and registers; the calls themselves go through the tuples resolved here, which follow pluggy's
wrapper protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import pluggy

from buttress import hookspecs
from buttress.components.loaded import LoadedPlugin, hooks_of
from buttress.components.members import marked
from buttress.components.plugin_class import check_class
from buttress.engine.checks import ValueChecks
from buttress.engine.given import Given
from buttress.engine.implementation import Implementation, Values
from buttress.engine.state import RunState
from buttress.engine.turns import Turn, Watch
from buttress.errors import ButtressError, PluginError, describe
from buttress.hookspecs import EXCLUSIVE, HOOKS
from buttress.nn.contract import form_of

Accept = Callable[[Implementation, Any], Any]
"""Checks the answer of an implementation, and gives it its final form."""


class ResolvedHook:
    """All implementations of a hook, in the order in which they are called."""

    def __init__(self, name: str, providers: Sequence[Implementation], wrappers: Sequence[Implementation]) -> None:
        self.name, self.providers, self.wrappers = name, tuple(providers), tuple(wrappers)

    def call(self, values: Values, accept: Accept) -> Any:
        """Return the provider's answer, which the wrappers (the first listed outermost) may have changed.

        ``accept(who, answer)`` checks each new answer and gives it its final form, so that the error about a wrong one
        names its giver.
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
            raise wrapper.failure(raised) from raised
        if yielded is not None:
            generator.close()
            raise wrapper.fault(
                f"expected a bare yield, and it yielded {form_of(yielded)}, which nobody takes; write answer = yield, "
                "and return what is to take the answer's place"
            )

    def _finish(
        self,
        wrapper: Implementation,
        generator: Generator[None, Any, Any],
        result: Any,
        error: BaseException | None,
        accept: Accept,
    ) -> tuple[Any, BaseException | None]:
        # Errors are returned, not raised: the wrappers outside of this one must see them at their yield, and close.
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
            fault = wrapper.failure(raised)
            fault.__cause__ = raised
            return None, fault
        generator.close()
        return None, wrapper.fault("a wrapper must yield exactly once, this one yielded twice")


def resolve(plugins: Sequence[LoadedPlugin], state: RunState, watch: Watch | None = None) -> dict[str, ResolvedHook]:
    """Every hook with its implementations in the order of ``plugins``.

    Args:
        plugins: plugins in the order of the calls.
        state: state of the run, which their contexts show.
        watch: compares the model and the arguments after each call; by default one that compares no values.

    Raises:
        PluginError: two plugins under one label, a signature that does not fit the specification, two providers of
            an exclusive hook, or a class that is no plugin (see ``plugin_class.check_class``).
    """
    watch = watch or Watch(ValueChecks("off", state.device))
    by_label = {plugin.label: plugin for plugin in plugins}
    if len(by_label) < len(plugins):
        raise PluginError(f"two plugins share a label: {', '.join(plugin.label for plugin in plugins)}")
    manager = _registered(plugins)
    _check_conflicts(plugins)
    order = {label: position for position, label in enumerate(by_label)}
    resolved = {}
    for name in sorted(HOOKS):
        marked = sorted(getattr(manager.hook, name).get_hookimpls(), key=lambda impl: order[impl.plugin_name])
        made = [
            (impl.wrapper, Implementation(by_label[impl.plugin_name], name, impl.function, impl.argnames, state, watch))
            for impl in marked
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


class _Manager(pluggy.PluginManager):
    """pluggy's manager, which looks at hooks alone, and not at each of the hundred attributes of an object."""

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> Any:
        return super().parse_hookspec_opts(module_or_class, name) if name in HOOKS else None

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        names = {member.name for member in marked(type(plugin))}  # ``check_class`` lets no others through
        return super().parse_hookimpl_opts(plugin, name) if name in names else None


def _registered(plugins: Sequence[LoadedPlugin]) -> pluggy.PluginManager:
    """pluggy's manager of ``plugins``, which has compared their signatures with the specification."""
    manager = _Manager("buttress")
    manager.add_hookspecs(hookspecs)
    for plugin in plugins:
        check_class(plugin.plugin, plugin.source)
        try:
            manager.register(plugin.plugin, name=plugin.label)
        except (pluggy.PluginValidationError, ValueError) as problem:
            raise PluginError(f"plugin {plugin}: {problem}") from problem
        except Exception as problem:  # raised by its own __eq__, because pluggy compares plugins
            raise PluginError(f"plugin {plugin} cannot be registered: {describe(problem)}") from problem
    return manager


def _check_conflicts(plugins: Sequence[LoadedPlugin]) -> None:
    """Refuse a stack in which one plugin gives a property of batches that another one refuses.

    A plugin that only transforms batches sees what the plugins listed before it give.
    """
    for position, plugin in enumerate(plugins):
        only_transforms = hooks_of(plugin) == {"transform_batch"}
        cure = "list it before that one, or remove one of them" if only_transforms else "remove one of them"
        for trait, reason in plugin.traits.refuses.items():
            for other in plugins[:position] if only_transforms else plugins:
                if trait in other.traits.gives:
                    raise PluginError(f"plugin {plugin} refuses {trait}, which plugin {other} gives: {reason}; {cure}")
