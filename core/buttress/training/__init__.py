"""Runs: from a config to a run folder, one epoch after the other, resumable at every step."""
