"""The promises, by what they are about. To add one: write a function with ``@rule`` and a plugin that breaks it."""

from buttress.testing.rules import answers, company, numbers, randomness, settings, state, surroundings

__all__ = ["answers", "company", "numbers", "randomness", "settings", "state", "surroundings"]
