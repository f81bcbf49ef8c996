"""Training losses: plugins that provide ``compute_loss``."""
