"""The speed of a config on this machine, phase by phase, and beside the loop that people write by hand."""
