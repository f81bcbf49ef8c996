"""Check the sizes of the training set that a caller names: its examples, and those of each class."""

from __future__ import annotations

from collections.abc import Sequence

from buttress.errors import ConfigError


def expect_sizes(examples: int | None, classes: Sequence[int] | None) -> None:
    """Expect a number of examples, and numbers of them by class whose sum is that number; None: not known.

    Raises:
        ConfigError: they are no such numbers.
    """
    if examples is not None and not (_is_count(examples) and examples > 0):
        raise ConfigError(f"engine: examples: expected the number of training examples, at least 1, got {examples!r}")
    if classes is None:
        return
    if not isinstance(classes, Sequence) or not all(map(_is_count, classes)):
        raise ConfigError(f"engine: classes: expected the number of training examples of each class, got {classes!r}")
    if examples is not None and sum(classes) != examples:
        raise ConfigError(
            f"engine: classes: expected numbers whose sum is examples, {examples}, got a sum of {sum(classes)}"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
