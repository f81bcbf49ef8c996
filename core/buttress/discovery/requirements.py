"""``requires`` in a config: distributions that must be installed, in versions that fit. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, distributions, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from buttress.errors import ConfigError
from buttress.registry import GROUPS, sources


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
            wrong.append(f"{where((position,))}: {text} is required, and {wanted.name} is not installed{_cure(wanted)}")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{where((position,))}: {text} is required, and {wanted.name} {found} is installed")
    if wrong:
        raise ConfigError("\n".join(wrong))


def _cure(wanted: Requirement) -> str:
    """What to write instead: the distribution of the component of that name, or the nearest one; else to install it."""
    name = canonicalize_name(wanted.name)
    for source in (source for kind in GROUPS for source in sources(kind)):
        if canonicalize_name(source.name) == name:
            return (
                f"; {source.kind} {source.name} is of distribution {source.distribution}, of which {source.version} is "
                f'installed: write "{source.distribution}>={source.version}"'
            )
    installed = {str(canonicalize_name(each.name)): each.version for each in distributions() if each.name}
    close = get_close_matches(name, installed, n=1, cutoff=0.7)
    if close:
        return f"; did you mean {close[0]}, of which {installed[close[0]]} is installed?"
    return f': pip install "{wanted}", or take it out of requires'
