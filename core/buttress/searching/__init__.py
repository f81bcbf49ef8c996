"""``buttress search``: settings of a config, chosen by validation robust accuracy with Optuna."""
