"""Loggers: they receive the measurements of a run and change nothing in it."""
