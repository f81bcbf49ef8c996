"""From a name in a config to a checked object."""
