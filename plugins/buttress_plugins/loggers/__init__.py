"""Loggers: told what a run measures; they change nothing in it."""
