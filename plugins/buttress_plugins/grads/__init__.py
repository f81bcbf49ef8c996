"""Parameter groups and gradients: plugins that provide ``param_groups`` or ``adjust_grads``."""
