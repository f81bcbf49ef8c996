"""Weight perturbations: plugins that provide ``perturb_weights``."""
