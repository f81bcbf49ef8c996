"""One training step: the hooks in their order, every answer checked."""
