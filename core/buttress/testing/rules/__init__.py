"""The promises, by what they are about. To add one: write a function with ``@rule`` and a plugin that breaks it."""

from buttress.testing.rules import answers, company, numbers, randomness, settings, state, surroundings, telling

__all__ = ["answers", "company", "numbers", "randomness", "settings", "state", "surroundings", "telling"]
