"""From a name to a checked object: what the classes and the attributes of components have to look like."""
