"""Ensembles of historical weights: plugins that provide ``ensemble_weights``."""
