"""Losses that attacks maximise."""
