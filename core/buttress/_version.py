"""The version of buttress."""

__version__ = "0.1.0"
