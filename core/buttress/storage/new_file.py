"""Check the file that a command is to write, before it begins to work."""

from __future__ import annotations

from pathlib import Path

from buttress.errors import ConfigError


def expect_new_file(path: Path, suffix: str) -> None:
    """Expect a path of ``--output`` that ends in ``suffix``, in a folder that exists, with nothing there yet.

    Raises:
        ConfigError: it is another one.
    """
    if path.suffix != suffix:
        raise ConfigError(f"expected a name that ends in {suffix}", key=f"--output {path}")
    if path.exists():
        raise ConfigError(f"{path} exists and is never overwritten; choose another --output")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is no folder; make it first", key=f"--output {path}")
