"""``requires`` in a config: distributions that must be installed, in versions that fit. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

from buttress.errors import ConfigError


def check_requirements(requirements: Sequence[str], where: Callable[[tuple[str | int, ...]], str]) -> None:
    """Refuse a config whose requirements are not met.

    Args:
        requirements: ``["my-defense>=1.2"]``; one whose marker does not hold here is passed over.
        where: the place of a requirement by its position.

    Raises:
        ConfigError: one line for each distribution that is missing or has another version.
    """
    wrong = []
    for position, text in enumerate(requirements):
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{where((position,))}: {text} is required, and {wanted.name} is not installed: pip install")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{where((position,))}: {text} is required, and {wanted.name} {found} is installed")
    if wrong:
        raise ConfigError("\n".join(wrong))
