"""One small working wrapper for each exclusive hook, with its test: pieces for ``authoring.scaffold``."""
