"""One plugin's implementation of one hook: called, and named where it is at fault."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from buttress.components.loaded import LoadedPlugin
from buttress.engine.context import Context
from buttress.engine.state import RunState
from buttress.engine.turns import Turn, Watch
from buttress.errors import (
    ButtressError,
    HookError,
    InputError,
    NoGradientError,
    PluginError,
    kind_and_text,
    line_of,
    moment,
    prefixed,
    raising_line,
)

Values = dict[str, Any]
"""The arguments of a hook, by name."""
Fault = TypeVar("Fault", bound=HookError)


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
            except InputError as problem:  # its settings or the model are wrong, not the plugin
                raise prefixed(problem, f"plugin {self.plugin}") from problem.__cause__
            except (ButtressError, KeyboardInterrupt):
                raise
            except BaseException as error:  # sys.exit(0) in a plugin must not look like a run that ended well
                raise self.failure(error) from error

    def turn(self, values: Values) -> Turn:
        """Begin the turn of this plugin, for a call with these arguments; ``Turn`` lists the changes it refuses."""
        return self._watch.turn(self, values, self.writes)

    def tell(self, values: Values) -> None:
        """Call a hook that returns nothing; it must have run when it returns."""
        answer = self(values)
        if answer is not None and _has_not_run(answer):
            raise self.fault(f"expected None, got a {type(answer).__name__}, which has not run; write a plain method")

    def __str__(self) -> str:
        return f"plugin {self.plugin}, hook {self.hook}"

    def refusal(self, message: str) -> PluginError:
        """An error about the plugin's settings."""
        return PluginError(f"plugin {self.plugin}: {message}")

    def fault(self, message: str, when: tuple[int, int] | None = None, *, place: str = "") -> HookError:
        """An error that names plugin, distribution, version, hook, epoch, step, and a line of the plugin.

        Args:
            message: description of the fault, and the cure.
            when: epoch and step of the fault; None stands for now.
            place: line of the plugin; by default the one on which the hook is written.
        """
        return self._error(HookError, message, when, place)

    def failure(self, problem: BaseException) -> HookError:
        """The error of the plugin whose code raised ``problem``."""
        return self.fault(kind_and_text(problem), place=raising_line(problem, self.function))

    def detached(self) -> NoGradientError:
        """The error of a loss from which no gradient goes to the weights."""
        message = (
            "expected losses with a gradient to the weights, got detached ones; leave out detach() and torch.no_grad()"
        )
        return self._error(NoGradientError, message)

    def _error(self, kind: type[Fault], message: str, when: tuple[int, int] | None = None, place: str = "") -> Fault:
        epoch, step = when or (self._state.epoch, self._state.step)
        at = f"first at {moment(epoch, step)}" if when else self._state.place
        return kind(
            f"plugin {self.plugin}, hook {self.hook}, {at}:\n  {message}",
            plugin=self.plugin.label,
            hook=self.hook,
            epoch=epoch,
            step=step,
            place=place or line_of(self.function),
        )


def _has_not_run(answer: object) -> bool:
    """Whether ``answer`` is work that has yet to be run: a generator, a coroutine, a context manager."""
    return isinstance(answer, (Generator, Awaitable, AsyncGenerator, AbstractContextManager))
