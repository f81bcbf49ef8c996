"""Check the arguments of an engine: words, functions, and the sizes of the training set and of an epoch."""

from __future__ import annotations

from collections.abc import Sequence

from buttress.errors import ConfigError
from buttress.nn.contract import form_of


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


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
