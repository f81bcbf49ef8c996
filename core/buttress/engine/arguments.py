"""Check the arguments of an engine: words, functions, and the sizes of the training set and of an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from buttress.components.loaded import LoadedPlugin
from buttress.errors import ConfigError, PluginError
from buttress.nn.contract import form_of

_IN_PARTS = "forwards in parts"


def expect_word(name: str, value: object, known: Sequence[str]) -> None:
    """Expect one of the words that an argument can be.

    Raises:
        ConfigError: it is none of them.
    """
    if value not in known:
        raise ConfigError(f"engine: {name}: expected one of {', '.join(known)}, got {value!r}")


def expect_function(name: str, value: object) -> None:
    """Expect a function that makes an iterable of batches.

    Raises:
        ConfigError: it cannot be called.
    """
    if not callable(value):
        raise ConfigError(
            f"engine: {name}: expected a function that makes an iterable of batches, got {form_of(value)}; write "
            f"{name}=lambda: ..."
        )


def expect_sizes(examples: int | None, classes: Sequence[int] | None) -> None:
    """Expect a number of examples, and numbers of the labelled ones among them by class; None: not known.

    Raises:
        ConfigError: they are no such numbers.
    """
    if examples is not None and not (_is_count(examples) and examples > 0):
        raise ConfigError(f"engine: examples: expected the number of training examples, at least 1, got {examples!r}")
    if classes is None:
        return
    if not isinstance(classes, Sequence) or not all(map(_is_count, classes)):
        raise ConfigError(f"engine: classes: expected the number of training examples of each class, got {classes!r}")
    if examples is not None and sum(classes) > examples:
        raise ConfigError(
            f"engine: classes: expected numbers whose sum is at most examples, {examples}, got a sum of {sum(classes)}"
        )


def expect_replays(replays: int, steps_per_epoch: int | None) -> None:
    """Expect a number of steps on each batch, and an epoch of whole batches.

    Raises:
        ConfigError: it is no such number.
    """
    if not (_is_count(replays) and replays > 0):
        raise ConfigError(f"engine: replays: expected the number of steps on each batch, at least 1, got {replays!r}")
    if steps_per_epoch is not None and steps_per_epoch % replays:
        raise ConfigError(
            f"engine: steps_per_epoch: expected a multiple of replays, {replays}, as every step counts, "
            f"got {steps_per_epoch}"
        )


def expect_accumulation(
    accumulate: int, compile: str, batch_norm: str, plugins: Iterable[LoadedPlugin], who: str = ""
) -> None:
    """Expect a number of parts of a step, and forwards that can be made in parts.

    Raises:
        ConfigError: it is no such number, or they cannot; the message begins with ``who``.
        PluginError: a plugin refuses them.
    """
    if not (_is_count(accumulate) and accumulate > 0):
        raise ConfigError(f"{who}expected the number of parts of a step, at least 1, got {accumulate!r}")
    if accumulate > 1 and compile != "off":
        raise ConfigError(
            f"{who}{accumulate} parts of a step make forwards again within backwards, and compile: {compile} has "
            "graphs of whole ones; leave one of the two out"
        )
    if accumulate > 1 and batch_norm == "sync":
        raise ConfigError(
            f"{who}batch norm sees one of {accumulate} parts of a step after another, and batch_norm: sync wants the "
            "statistics of all rows at once; leave one of the two out"
        )
    for plugin in plugins if accumulate > 1 else ():
        if _IN_PARTS in plugin.traits.refuses:
            reason = plugin.traits.refuses[_IN_PARTS]
            raise PluginError(f"{who}plugin {plugin} refuses {_IN_PARTS}: {reason}; leave accumulate out")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
