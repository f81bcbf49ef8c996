"""Network architectures, normalisation included."""
