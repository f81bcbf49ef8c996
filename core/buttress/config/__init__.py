"""From YAML to a checked configuration of a run."""
