"""The promises, by what they are about. To add one: write a function with ``@rule`` and a plugin that breaks it."""

from buttress.testing.rules import (
    answers,
    attacking,
    company,
    logging,
    numbers,
    randomness,
    settings,
    state,
    surroundings,
    transforms,
)

__all__ = [
    "answers",
    "attacking",
    "company",
    "logging",
    "numbers",
    "randomness",
    "settings",
    "state",
    "surroundings",
    "transforms",
]
