"""Transforms of training batches: plugins that provide ``transform_batch``."""
