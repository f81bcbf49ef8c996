"""Refuse a state that no checkpoint can hold before the run begins, and name its plugin whenever it is saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from buttress.engine.engine import Engine
from buttress.errors import ButtressError, HookError, PluginError
from buttress.storage.tensor_tree import StateError, TreePath, split_tensors


def expect_keepable(engine: Engine) -> None:
    """Refuse plugins whose state no checkpoint can hold, before anything is trained.

    Raises:
        PluginError: names the plugin, the place in its state, and what to use instead.
        HookError: a plugin's ``state_dict`` raises.
    """
    engine.start()
    with states_named(PluginError):
        split_tensors(engine.state_dict())


@contextmanager
def states_named(error: type[ButtressError] = HookError) -> Iterator[None]:
    """Turn a state that no checkpoint can hold into an error in the name of the plugin whose state it is.

    Raises:
        ButtressError: ``error``.
    """
    try:
        yield
    except StateError as problem:
        raise error(f"{_described(problem.place)} cannot be kept in a checkpoint: {problem.reason}") from problem


def _described(place: TreePath) -> str:
    """``"plugin 'keeps': its state at 'seen'"``."""
    if "plugins" not in place[:-1]:
        return f"the state of the run at {'.'.join(place)!r}"
    start = place.index("plugins") + 1
    inside = ".".join(place[start + 1 :])
    return f"plugin {place[start]!r}: its state" + (f" at {inside!r}" if inside else "")
