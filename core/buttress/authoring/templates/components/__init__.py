"""A small working model and a data set, with their tests: pieces for ``authoring.scaffold``."""
